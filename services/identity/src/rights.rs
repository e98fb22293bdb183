//! What somebody may do, all in all: the sum of their roles. And whether one may hand that to another: nobody gives more than
//! they hold.
use std::collections::{BTreeMap, BTreeSet};

use rapport_kernel::{Ctx, Error, FieldRights, Grants, Scope};

use crate::permission::EVERYTHING;

/// Fields by kind of record.
pub(crate) type Fields = BTreeMap<String, BTreeSet<String>>;

/// Permissions, less some fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rights {
    pub(crate) grants: Grants,
    pub(crate) fields: FieldRights,
}

impl Rights {
    /// The caller's.
    pub(crate) fn of_caller(ctx: &Ctx) -> Self {
        Self { grants: (*ctx.grants).clone(), fields: (*ctx.field_rights).clone() }
    }

    /// The sum of several roles' rights: what one of them allows is allowed, in the widest scope; a field is hidden, or
    /// locked, only if each of them hides it, or hides or locks it.
    pub(crate) fn sum(roles: impl IntoIterator<Item = Self>) -> Self {
        roles.into_iter().reduce(Self::plus).unwrap_or_default()
    }

    fn plus(mut self, other: Self) -> Self {
        other.grants.iter().for_each(|(name, scope)| self.grants.add(name, scope));
        let limited = both(&union(&self.fields), &union(&other.fields));
        let hidden = both(&self.fields.hidden, &other.fields.hidden);
        let locked = without(&limited, &hidden);
        Self { fields: FieldRights { hidden, locked, ..FieldRights::default() }, ..self }
    }

    /// Whether nothing is forbidden.
    pub(crate) fn is_everything(&self) -> bool {
        self.grants.scope(EVERYTHING) == Some(Scope::All) && self.fields.is_empty()
    }

    /// Whoever has these rights may hand `others` on.
    ///
    /// # Errors
    /// `Denied` with what is missing.
    pub(crate) fn cover(&self, others: &Self) -> Result<(), Error> {
        for (name, scope) in others.grants.iter() {
            if self.grants.scope(name) < Some(scope) {
                let scope = scope.as_str();
                return Err(Error::Denied(format!(
                    "nobody gives more than they hold: `{name}` with scope {scope}"
                )));
            }
        }
        let open = without(&self.fields.hidden, &others.fields.hidden);
        let free = without(&self.fields.locked, &union(&others.fields));
        match open.iter().chain(&free).next() {
            None => Ok(()),
            Some((kind, _)) => {
                let problem = format!(
                    "nobody gives more than they hold: fields of `{kind}` that are hidden or locked for you"
                );
                Err(Error::Denied(problem))
            }
        }
    }

    /// Whoever has these rights may say in which unit somebody with the rights `others` works, since that is how far their
    /// unit-wide permissions reach.
    ///
    /// # Errors
    /// `Denied` with what is missing.
    pub(crate) fn place(&self, others: &Self) -> Result<(), Error> {
        let reach = others.grants.iter().filter(|(_, scope)| *scope == Scope::Unit);
        for (name, _) in reach {
            if self.grants.scope(name) != Some(Scope::All) {
                let problem = format!("who places people with `{name}` in a unit needs it with scope all");
                return Err(Error::Denied(problem));
            }
        }
        Ok(())
    }
}

/// Hidden or locked.
fn union(fields: &FieldRights) -> Fields {
    let mut union = fields.hidden.clone();
    for (kind, names) in &fields.locked {
        union.entry(kind.clone()).or_default().extend(names.iter().cloned());
    }
    union
}

fn both(one: &Fields, other: &Fields) -> Fields {
    combine(one, other, |name, others| others.contains(name))
}

fn without(one: &Fields, other: &Fields) -> Fields {
    combine(one, other, |name, others| !others.contains(name))
}

fn combine(one: &Fields, other: &Fields, keep: impl Fn(&String, &BTreeSet<String>) -> bool) -> Fields {
    let none = BTreeSet::new();
    one.iter()
        .map(|(kind, names)| {
            let others = other.get(kind).unwrap_or(&none);
            (kind.clone(), names.iter().filter(|name| keep(name, others)).cloned().collect::<BTreeSet<_>>())
        })
        .filter(|(_, names)| !names.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "customer.customer";

    fn rights(grants: &[(&str, Scope)], hidden: &[&str], locked: &[&str]) -> Rights {
        let fields = |names: &[&str]| -> Fields {
            let names: BTreeSet<_> = names.iter().map(|name| (*name).to_owned()).collect();
            if names.is_empty() { Fields::new() } else { [(KIND.to_owned(), names)].into() }
        };
        Rights {
            grants: grants.iter().copied().collect(),
            fields: FieldRights { hidden: fields(hidden), locked: fields(locked), ..FieldRights::default() },
        }
    }

    #[test]
    fn the_sum_of_roles_counts_with_the_widest_scope() {
        let sum = Rights::sum([
            rights(&[("a.read", Scope::Own), ("a.write", Scope::Own)], &[], &[]),
            rights(&[("a.read", Scope::Unit)], &[], &[]),
        ]);
        assert_eq!(sum.grants, [("a.read", Scope::Unit), ("a.write", Scope::Own)].into_iter().collect());
        assert_eq!(Rights::sum([]), Rights::default());
    }

    #[test]
    fn a_field_is_limited_only_if_each_role_limits_it() {
        let sum = Rights::sum([
            rights(&[], &["revenue", "size", "tags"], &["status"]),
            rights(&[], &["revenue"], &["size"]),
        ]);
        assert_eq!(sum.fields, rights(&[], &["revenue"], &["size"]).fields);
        let open = Rights::sum([rights(&[], &["revenue"], &["status"]), rights(&[], &[], &[])]);
        assert!(open.fields.is_empty());
    }

    #[test]
    fn the_order_of_roles_makes_no_difference() {
        let roles = [
            rights(&[("a.read", Scope::Own)], &["revenue", "size"], &["status"]),
            rights(&[("a.read", Scope::All)], &["size"], &["revenue", "status"]),
            rights(&[("*", Scope::Own)], &[], &["revenue", "size", "status"]),
        ];
        let forwards = Rights::sum(roles.clone());
        assert_eq!(forwards, Rights::sum(roles.into_iter().rev()));
        assert_eq!(forwards.fields, rights(&[], &[], &["revenue", "size", "status"]).fields);
    }

    #[test]
    fn nobody_gives_more_than_they_hold() {
        let seller = rights(&[("a.read", Scope::Own)], &["revenue"], &["status"]);
        let same = seller.clone();
        assert!(seller.cover(&same).is_ok());
        assert!(seller.cover(&rights(&[], &["revenue", "status", "size"], &[])).is_ok());
        for more in [
            rights(&[("a.read", Scope::Unit)], &["revenue"], &["status"]),
            rights(&[("a.write", Scope::Own)], &["revenue"], &["status"]),
            rights(&[("*", Scope::Own)], &["revenue"], &["status"]),
            rights(&[], &[], &["revenue", "status"]),
            rights(&[], &["revenue"], &[]),
        ] {
            assert!(matches!(seller.cover(&more), Err(Error::Denied(_))), "{more:?}");
        }
        assert!(
            rights(&[("*", Scope::All)], &[], &[])
                .cover(&rights(&[("a.read", Scope::All)], &[], &[]))
                .is_ok()
        );
    }

    #[test]
    fn a_unit_reaches_no_further_than_who_gives_it() {
        let lead = rights(&[("a.read", Scope::Unit)], &[], &[]);
        let boss = rights(&[("a.read", Scope::All)], &[], &[]);
        let seller = rights(&[("a.read", Scope::Own)], &[], &[]);
        assert!(lead.place(&seller).is_ok() && boss.place(&lead).is_ok());
        assert!(matches!(lead.place(&lead), Err(Error::Denied(_))));
    }

    #[test]
    fn only_who_holds_all_without_limits_holds_everything() {
        assert!(rights(&[("*", Scope::All)], &[], &[]).is_everything());
        assert!(!rights(&[("*", Scope::Unit)], &[], &[]).is_everything());
        assert!(!rights(&[("*", Scope::All)], &["revenue"], &[]).is_everything());
    }
}
