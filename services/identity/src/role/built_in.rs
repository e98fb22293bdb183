//! The roles that every tenant has. What they allow follows the program: a new service adds its permissions here, and every
//! tenant has them with the upgrade.
use rapport_kernel::Scope;
use serde::Serialize;

use crate::permission::{EVERYTHING, Permission};

/// A built-in role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub(crate) enum BuiltIn {
    Administrator,
    Manager,
    Sales,
    Service,
    Marketing,
    ReadOnly,
}

/// What everybody sees: colleagues and where they work, roles, and what custom fields there are.
const EVERYBODY: [(&str, Scope); 4] = [
    ("identity.users.read", Scope::All),
    ("identity.units.read", Scope::All),
    ("identity.roles.read", Scope::All),
    ("customer.fields.read", Scope::All),
];

impl BuiltIn {
    pub(crate) const ALL: [Self; 6] =
        [Self::Administrator, Self::Manager, Self::Sales, Self::Service, Self::Marketing, Self::ReadOnly];

    pub(super) const fn display_name(self) -> &'static str {
        match self {
            Self::Administrator => "administrator",
            Self::Manager => "manager",
            Self::Sales => "sales",
            Self::Service => "service",
            Self::Marketing => "marketing",
            Self::ReadOnly => "read-only",
        }
    }

    pub(super) const fn description(self) -> &'static str {
        match self {
            Self::Administrator => "May do everything.",
            Self::Manager => {
                "Works with all customers of the unit and of those below it, assigns and imports them."
            }
            Self::Sales => "Works with their own customers and shares them.",
            Self::Service => "Sees all customers and keeps their data up to date.",
            Self::Marketing => "Sees all customers and imports them.",
            Self::ReadOnly => "Sees all customers and changes nothing.",
        }
    }

    pub(super) fn permissions(self) -> Vec<Permission> {
        let own: &[(&str, Scope)] = match self {
            Self::Administrator => return vec![Permission::new(EVERYTHING, Scope::All)],
            Self::Manager => &[
                ("customer.customers.read", Scope::Unit),
                ("customer.customers.create", Scope::Unit),
                ("customer.customers.update", Scope::Unit),
                ("customer.customers.delete", Scope::Unit),
                ("customer.customers.assign", Scope::Unit),
                ("customer.customers.share", Scope::Unit),
                ("customer.customers.import", Scope::All),
            ],
            Self::Sales => &[
                ("customer.customers.read", Scope::Own),
                ("customer.customers.create", Scope::Own),
                ("customer.customers.update", Scope::Own),
                ("customer.customers.share", Scope::Own),
            ],
            Self::Service => &[
                ("customer.customers.read", Scope::All),
                ("customer.customers.create", Scope::All),
                ("customer.customers.update", Scope::All),
            ],
            Self::Marketing => {
                &[("customer.customers.read", Scope::All), ("customer.customers.import", Scope::All)]
            }
            Self::ReadOnly => &[("customer.customers.read", Scope::All)],
        };
        own.iter().chain(&EVERYBODY).map(|&(name, scope)| Permission::new(name, scope)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::permission;

    #[test]
    fn built_in_roles_name_permissions_of_the_contract_in_scopes_they_have() {
        for role in BuiltIn::ALL {
            let permissions = role.permissions();
            let read = Permission::parse_all("permissions", &permission::to_proto(&permissions));
            assert_eq!(read.unwrap(), permissions, "{role:?}");
        }
    }

    #[test]
    fn only_the_administrator_manages_people() {
        for role in BuiltIn::ALL {
            let grants = permission::grants(&role.permissions());
            assert_eq!(
                grants.scope("identity.users.manage").is_some(),
                role == BuiltIn::Administrator,
                "{role:?}"
            );
        }
    }
}
