//! Limits on fields: what a role hides or locks.
use prost_reflect::MessageDescriptor;
use rapport_kernel::{Error, FieldRights, cut};
use rapport_proto::{POOL, identity::v1 as pb};
use serde::{Deserialize, Serialize};

use crate::rights::Fields;

/// Characters that the limits of a role may have together: they travel in every token of the people who have it.
const MOST: usize = 4_000;

/// A limit on one field, in the table's form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct FieldRight {
    kind: String,
    field: String,
    /// Whether it may be read still.
    readable: bool,
}

impl FieldRight {
    /// Reads the limits that came in `field`.
    ///
    /// # Errors
    /// `Invalid` for a kind of record or a field that does not exist, for a field that is named twice, and for limits that
    /// are too many for a token.
    pub(super) fn parse_all(field: &str, rights: &[pb::FieldRight]) -> Result<Vec<Self>, Error> {
        let mut read = Vec::<Self>::with_capacity(rights.len());
        for (at, right) in rights.iter().enumerate() {
            let at = format!("{field}[{at}]");
            let right = Self::parse(right).map_err(|error| error.within(&at))?;
            if read.iter().any(|other| (&other.kind, &other.field) == (&right.kind, &right.field)) {
                return Err(Error::invalid(
                    format!("{at}.field"),
                    format!("limits `{}` a second time", right.field),
                ));
            }
            read.push(right);
        }
        let length: usize = read.iter().map(|right| right.field.len() + 3).sum();
        if length > MOST {
            let problem = format!("names fields of {length} characters together; {MOST} are allowed");
            return Err(Error::invalid(field, problem));
        }
        Ok(read)
    }

    fn parse(right: &pb::FieldRight) -> Result<Self, Error> {
        let Some(message) = message(&right.kind) else {
            let problem = format!("`{}` is not a kind of record like `customer.customer`", cut(&right.kind));
            return Err(Error::invalid("kind", problem));
        };
        let name = right.field.as_str();
        let exists = match name.strip_prefix("attributes.") {
            // Custom fields come and go, and another service knows them.
            Some(key) => {
                let ascii = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
                ascii && message.get_field_by_name("attributes").is_some()
            }
            None => {
                message.get_field_by_name(name).is_some() && !["id", "etag", "attributes"].contains(&name)
            }
        };
        if !exists {
            let problem = format!("`{}` is not a field of `{}` that can be limited", cut(name), right.kind);
            return Err(Error::invalid("field", problem));
        }
        let readable = match right.access() {
            pb::FieldAccess::None => false,
            pb::FieldAccess::Read => true,
            pb::FieldAccess::Unspecified => {
                return Err(Error::invalid("access", "is not said; none and read are possible"));
            }
        };
        Ok(Self { kind: right.kind.clone(), field: right.field.clone(), readable })
    }

    pub(super) fn to_proto(&self) -> pb::FieldRight {
        let access = if self.readable { pb::FieldAccess::Read } else { pb::FieldAccess::None };
        pb::FieldRight { kind: self.kind.clone(), field: self.field.clone(), access: access.into() }
    }
}

/// The limits as a token tells them.
pub(super) fn of(rights: &[FieldRight]) -> FieldRights {
    let mut fields = FieldRights::default();
    for right in rights {
        let limit = if right.readable { &mut fields.locked } else { &mut fields.hidden };
        limit.entry(right.kind.clone()).or_default().insert(right.field.clone());
    }
    fields
}

/// What is hidden by one of these limits, and not by `own`: each field, or `*` where a token has no room for so many.
pub(super) fn private(limits: impl Iterator<Item = FieldRights>, own: &FieldRights) -> Fields {
    let mut private = Fields::new();
    for (kind, fields) in limits.flat_map(|limits| limits.hidden) {
        let open: Vec<_> = fields.into_iter().filter(|field| own.may_read(&kind, field)).collect();
        if !open.is_empty() {
            private.entry(kind).or_default().extend(open);
        }
    }
    if private.values().flatten().map(|field| field.len() + 3).sum::<usize>() > MOST {
        private.values_mut().for_each(|fields| *fields = ["*".to_owned()].into());
    }
    private
}

/// The message of a kind of record.
fn message(kind: &str) -> Option<MessageDescriptor> {
    let option = POOL.get_extension_by_name("rapport.options.v1.resource")?;
    POOL.all_messages().find(|message| {
        let options = message.options();
        options.has_extension(&option)
            && options
                .get_extension(&option)
                .as_message()
                .and_then(|resource| resource.get_field_by_name("kind"))
                .is_some_and(|name| name.as_str() == Some(kind))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn right(kind: &str, field: &str, access: pb::FieldAccess) -> pb::FieldRight {
        pb::FieldRight { kind: kind.into(), field: field.into(), access: access.into() }
    }

    fn parse(rights: &[pb::FieldRight]) -> Result<Vec<FieldRight>, String> {
        FieldRight::parse_all("f", rights).map_err(|error| error.to_string())
    }

    #[test]
    fn compiled_and_custom_fields_can_be_limited() {
        let rights = [
            right("customer.customer", "revenue", pb::FieldAccess::None),
            right("customer.customer", "attributes.monthlyCharges", pb::FieldAccess::Read),
        ];
        let read = parse(&rights).unwrap();
        assert_eq!(read.iter().map(FieldRight::to_proto).collect::<Vec<_>>(), rights);
        let fields = of(&read);
        assert!(!fields.may_read("customer.customer", "revenue"));
        assert!(fields.may_read("customer.customer", "attributes.monthlyCharges"));
        assert!(!fields.may_write("customer.customer", "attributes.monthlyCharges"));
    }

    #[test]
    fn private_is_what_somebody_elses_role_hides() {
        let hides = |fields: &[&str]| {
            let rights: Vec<_> =
                fields.iter().map(|field| right("customer.customer", field, pb::FieldAccess::None)).collect();
            of(&parse(&rights).unwrap())
        };
        let all = || [hides(&["revenue", "tags"]), hides(&["industry"]), hides(&[])].into_iter();
        let private = private(all(), &hides(&["tags"]));
        let fields: Vec<_> = private["customer.customer"].iter().map(String::as_str).collect();
        assert_eq!(fields, ["industry", "revenue"]);
        assert!(super::private(all(), &hides(&["revenue", "tags", "industry"])).is_empty());
        let many = |from: usize| {
            let names: Vec<_> = (from..from + 150).map(|n| format!("attributes.field{n:04}")).collect();
            hides(&names.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let private = super::private([many(0), many(200)].into_iter(), &FieldRights::default());
        assert_eq!(private["customer.customer"], ["*".to_owned()].into());
    }

    #[test]
    fn what_does_not_exist_is_refused() {
        let none = pb::FieldAccess::None;
        for (wrong, problem) in [
            (
                right("customer.nothing", "revenue", none),
                "f[0].kind: `customer.nothing` is not a kind of record",
            ),
            (right("customer.customer", "income", none), "f[0].field: `income` is not a field of"),
            (right("customer.customer", "id", none), "f[0].field: `id` is not a field of"),
            (right("identity.unit", "attributes.x", none), "f[0].field: `attributes.x` is not a field of"),
        ] {
            let error = parse(&[wrong]).unwrap_err();
            assert!(error.starts_with(problem), "{error}");
        }
    }

    #[test]
    fn limits_are_said_once_and_fit_a_token() {
        let revenue = right("customer.customer", "revenue", pb::FieldAccess::None);
        assert!(parse(&[revenue.clone(), revenue]).unwrap_err().contains("a second time"));
        let many: Vec<_> = (0..500)
            .map(|n| right("customer.customer", &format!("attributes.field{n}"), pb::FieldAccess::Read))
            .collect();
        assert!(parse(&many).unwrap_err().contains("characters together"));
    }
}
