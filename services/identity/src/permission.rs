//! Every permission that there is, as the contract's methods name them. A role or a key cannot name another one.
use std::{collections::BTreeMap, sync::LazyLock};

use prost_reflect::{FileDescriptor, Kind, MessageDescriptor, MethodDescriptor, Value};
use rapport_kernel::{Error, Grants, Scope, cut};
use rapport_proto::{POOL, Rule, identity::v1 as pb};
use serde::{Deserialize, Serialize};

/// Every permission, the later ones included.
pub(crate) const EVERYTHING: &str = "*";

/// What the contract says about a permission.
#[derive(Debug, Default)]
pub(crate) struct Info {
    /// What the methods that need it do, one sentence each.
    methods: Vec<String>,
    /// Whether it is about records that have owners, so that it can be narrowed.
    scoped: bool,
}

/// The permissions by name.
static KNOWN: LazyLock<BTreeMap<String, Info>> = LazyLock::new(|| {
    let mut known = BTreeMap::<String, Info>::new();
    for method in rapport_proto::methods() {
        let Some(Rule::Permission(name)) = &method.rule else { continue };
        let info = known.entry(name.clone()).or_default();
        info.methods.push(sentence(&method.descriptor.parent_file(), method.descriptor.path()));
        info.scoped |= method.descriptor.parent_service().methods().any(|method| owned(&method));
    }
    for (event, name) in rapport_proto::hearings() {
        let told = sentence(&event.parent_file(), event.path());
        known.entry(name.to_owned()).or_default().methods.push(format!("Hears: {told}"));
    }
    known
});

/// A permission as a role or a key holds it, in the contract's and in the table's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Permission {
    name: String,
    scope: StoredScope,
}

/// A scope as the table writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StoredScope {
    Own,
    Unit,
    All,
}

impl Permission {
    /// A permission that the program itself names.
    pub(crate) fn new(name: &str, scope: Scope) -> Self {
        let scope = match scope {
            Scope::Own => StoredScope::Own,
            Scope::Unit => StoredScope::Unit,
            Scope::All => StoredScope::All,
        };
        Self { name: name.to_owned(), scope }
    }

    fn scope(&self) -> Scope {
        match self.scope {
            StoredScope::Own => Scope::Own,
            StoredScope::Unit => Scope::Unit,
            StoredScope::All => Scope::All,
        }
    }

    /// Reads the permissions that came in `field`.
    ///
    /// # Errors
    /// `Invalid` for a name that is not a permission, with near ones; for one that is named twice; for a scope that is not
    /// said, or that the permission cannot be narrowed to.
    pub(crate) fn parse_all(field: &str, permissions: &[pb::Permission]) -> Result<Vec<Self>, Error> {
        let mut read = Vec::<Self>::with_capacity(permissions.len());
        for (at, permission) in permissions.iter().enumerate() {
            let permission =
                Self::parse(permission).map_err(|error| error.within(&format!("{field}[{at}]")))?;
            if read.iter().any(|other| other.name == permission.name) {
                let problem = format!("names `{}` a second time", permission.name);
                return Err(Error::invalid(format!("{field}[{at}].name"), problem));
            }
            read.push(permission);
        }
        Ok(read)
    }

    fn parse(permission: &pb::Permission) -> Result<Self, Error> {
        let name = permission.name.as_str();
        let scoped = match KNOWN.get(name) {
            Some(info) => info.scoped,
            None if name == EVERYTHING => true,
            None => return Err(Error::invalid("name", unknown(name))),
        };
        let scope = match permission.scope() {
            pb::Scope::Own => Scope::Own,
            pb::Scope::Unit => Scope::Unit,
            pb::Scope::All => Scope::All,
            pb::Scope::Unspecified if scoped => {
                return Err(Error::invalid("scope", "is not said; own, unit and all are possible"));
            }
            pb::Scope::Unspecified => Scope::All,
        };
        if !scoped && scope != Scope::All {
            let problem = format!("must be all: `{name}` is about what has no owner");
            return Err(Error::invalid("scope", problem));
        }
        Ok(Self::new(name, scope))
    }
}

/// What these permissions allow.
pub(crate) fn grants<'p>(permissions: impl IntoIterator<Item = &'p Permission>) -> Grants {
    permissions.into_iter().map(|permission| (permission.name.as_str(), permission.scope())).collect()
}

/// What is allowed, as permissions.
pub(crate) fn of_grants(grants: &Grants) -> Vec<Permission> {
    grants.iter().map(|(name, scope)| Permission::new(name, scope)).collect()
}

/// Permissions as the contract shows them.
pub(crate) fn to_proto(permissions: &[Permission]) -> Vec<pb::Permission> {
    let scope = |permission: &Permission| match permission.scope {
        StoredScope::Own => pb::Scope::Own,
        StoredScope::Unit => pb::Scope::Unit,
        StoredScope::All => pb::Scope::All,
    };
    let one = |p: &Permission| pb::Permission { name: p.name.clone(), scope: scope(p).into() };
    permissions.iter().map(one).collect()
}

/// Every permission, as the contract shows them.
pub(crate) fn list() -> Vec<pb::PermissionInfo> {
    KNOWN
        .iter()
        .map(|(name, info)| pb::PermissionInfo {
            name: name.clone(),
            methods: info.methods.clone(),
            scoped: info.scoped,
        })
        .collect()
}

fn unknown(name: &str) -> String {
    let mut near: Vec<_> =
        KNOWN.keys().map(|known| (strsim::normalized_damerau_levenshtein(known, name), known)).collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let near: Vec<_> = near.iter().take(3).map(|(_, known)| format!("`{known}`")).collect();
    format!("`{}` is not a permission; near ones are {}", cut(name), near.join(", "))
}

/// What a method does, as its comment begins.
fn sentence(file: &FileDescriptor, path: &[i32]) -> String {
    let locations =
        file.file_descriptor_proto().source_code_info.as_ref().map(|info| info.location.as_slice());
    let location = locations.unwrap_or_default().iter().find(|location| location.path == path);
    let comment = location.and_then(|location| location.leading_comments.as_deref()).unwrap_or_default();
    let line = comment.split_whitespace().collect::<Vec<_>>().join(" ");
    line.split_inclusive(['.', ';', ':'])
        .next()
        .unwrap_or_default()
        .trim_end_matches([';', ':', '.'])
        .to_owned()
}

/// Whether a method takes or gives records that have owners, alone or in a list. A service is about one resource, so the
/// others of its methods (share this record) are about such records too.
fn owned(method: &MethodDescriptor) -> bool {
    let about = |message: MessageDescriptor| {
        let parts = message.fields().filter_map(|field| match field.kind() {
            Kind::Message(part) => Some(part),
            _ => None,
        });
        parts.chain([message.clone()]).any(|message| has_owner(&message))
    };
    about(method.input()) || about(method.output())
}

fn has_owner(message: &MessageDescriptor) -> bool {
    let Some(option) = POOL.get_extension_by_name("rapport.options.v1.resource") else { return false };
    let options = message.options();
    if !options.has_extension(&option) {
        return false;
    }
    let resource = options.get_extension(&option);
    let owned = resource.as_message().and_then(|resource| resource.get_field_by_name("owned"));
    owned.is_some_and(|owned| *owned == Value::Bool(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn permission(name: &str, scope: pb::Scope) -> pb::Permission {
        pb::Permission { name: name.into(), scope: scope.into() }
    }

    #[test]
    fn the_contract_says_what_a_permission_is() {
        let list = list();
        let of = |name: &str| list.iter().find(|info| info.name == name).unwrap();
        assert!(of("customer.customers.read").scoped && !of("identity.users.manage").scoped);
        assert_eq!(of("identity.units.read").methods, ["Reads one unit", "Lists units"]);
        assert!(list.iter().all(|info| info.methods.iter().all(|method| !method.is_empty())));
    }

    #[test]
    fn what_is_not_a_permission_lists_near_ones() {
        let error = Permission::parse_all(
            "role.permissions",
            &[permission("customer.customer.read", pb::Scope::All)],
        );
        let error = error.unwrap_err().to_string();
        assert!(
            error.starts_with("role.permissions[0].name: `customer.customer.read` is not a permission"),
            "{error}"
        );
        assert!(error.contains("near ones are `customer.customers.read`"), "{error}");
    }

    #[test]
    fn scopes_are_said_where_there_are_owners_and_all_elsewhere() {
        let parse = |name, scope| Permission::parse(&permission(name, scope));
        assert_eq!(parse("customer.customers.read", pb::Scope::Unit).unwrap().scope(), Scope::Unit);
        assert!(parse("customer.customers.read", pb::Scope::Unspecified).is_err());
        assert_eq!(parse("identity.users.read", pb::Scope::Unspecified).unwrap().scope(), Scope::All);
        assert!(parse("identity.users.read", pb::Scope::Own).is_err());
        assert_eq!(parse("*", pb::Scope::All).unwrap(), Permission::new("*", Scope::All));
    }

    #[test]
    fn a_permission_is_named_once() {
        let twice = [permission("*", pb::Scope::All), permission("*", pb::Scope::Own)];
        assert_eq!(
            Permission::parse_all("p", &twice).unwrap_err().to_string(),
            "p[1].name: names `*` a second time"
        );
    }
}
