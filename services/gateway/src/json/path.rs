//! Field paths in two spellings: `customer.display_name` in the contract, `customer.displayName` in JSON. Below custom
//! fields and maps come keys that people chose; they are spelled alike in both, so a path is followed through the
//! descriptors and not just re-cased.
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use rapport_proto::POOL;

/// A spelling of field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// `display_name`.
    Proto,
    /// `displayName`.
    Json,
}

impl Names {
    fn of(self, field: &FieldDescriptor) -> &str {
        match self {
            Self::Proto => field.name(),
            Self::Json => field.json_name(),
        }
    }

    fn recase(self, word: &str) -> String {
        let mut out = String::with_capacity(word.len() + 4);
        let mut upper = false;
        for c in word.chars() {
            match (self, c) {
                (Self::Proto, 'A'..='Z') => out.extend(['_', c.to_ascii_lowercase()]),
                (Self::Json, '_') => upper = true,
                (Self::Json, _) if std::mem::take(&mut upper) => out.push(c.to_ascii_uppercase()),
                _ => out.push(c),
            }
        }
        out
    }
}

/// A field by either of its names.
pub(crate) fn field_named(message: &MessageDescriptor, name: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(name).or_else(|| message.get_field_by_name(name))
}

/// What the paths of a field mask in `message` are about: the resource beside it. `None` when there is not exactly one.
pub(crate) fn mask_subject(message: &MessageDescriptor) -> Option<MessageDescriptor> {
    let option = POOL.get_extension_by_name("rapport.options.v1.resource")?;
    let mut resources = message.fields().filter_map(|field| match field.kind() {
        Kind::Message(kind) if !field.is_list() && kind.options().has_extension(&option) => Some(kind),
        _ => None,
    });
    resources.next().filter(|_| resources.next().is_none())
}

/// The same path in other names. Without a message to follow it through, each word is re-cased; a name that the message
/// does not have, and all that follows it, stays as it is.
pub(crate) fn rename(path: &str, message: Option<&MessageDescriptor>, names: Names) -> String {
    let Some(message) = message else {
        return path.split('.').map(|word| names.recase(word)).collect::<Vec<_>>().join(".");
    };
    let mut message = message.clone();
    let mut out = String::with_capacity(path.len() + 4);
    let mut rest = path;
    loop {
        let end = rest.find(['.', '[']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        let Some(field) = field_named(&message, word) else { return out + rest };
        out.push_str(names.of(&field));
        let (subscript, after) = after.split_at(subscript(after));
        out.push_str(subscript);
        let kind = if field.is_map() {
            map_value(&field).filter(|_| !subscript.is_empty())
        } else {
            field.kind().as_message().cloned()
        };
        match (kind, after.strip_prefix('.')) {
            (Some(kind), Some(next)) if !kind.full_name().starts_with("google.protobuf.") => {
                out.push('.');
                (message, rest) = (kind, next);
            }
            _ => return out + after,
        }
    }
}

fn map_value(field: &FieldDescriptor) -> Option<MessageDescriptor> {
    field.kind().as_message()?.map_entry_value_field().kind().as_message().cloned()
}

/// The length of the `[0]` or `["key"]` at the start of `text`; a key may hold any sign.
fn subscript(text: &str) -> usize {
    if text.starts_with("[\"") {
        return text.find("\"]").map_or(text.len(), |at| at + 2);
    }
    match text.starts_with('[') {
        true => text.find(']').map_or(text.len(), |at| at + 1),
        false => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(name: &str) -> MessageDescriptor {
        POOL.get_message_by_name(name).unwrap()
    }

    #[test]
    fn keys_of_custom_fields_stay_as_they_are() {
        let customer = Some(message("rapport.customer.v1.Customer"));
        for (json, proto) in [
            ("displayName", "display_name"),
            ("attributes.monthlyCharges", "attributes.monthlyCharges"),
            ("attributes.monthly_charges", "attributes.monthly_charges"),
            ("externalIds", "external_ids"),
            ("revenue.amount", "revenue.amount"),
            ("addresses[0].regionCode", "addresses[0].region_code"),
            ("createTime", "create_time"),
            ("*", "*"),
        ] {
            assert_eq!(rename(json, customer.as_ref(), Names::Proto), proto);
            assert_eq!(rename(proto, customer.as_ref(), Names::Proto), proto);
            assert_eq!(rename(proto, customer.as_ref(), Names::Json), json);
        }
    }

    #[test]
    fn unknown_names_stay_so_that_a_refusal_quotes_them() {
        let customer = Some(message("rapport.customer.v1.Customer"));
        assert_eq!(rename("addresses.noSuchThing", customer.as_ref(), Names::Proto), "addresses.noSuchThing");
        assert_eq!(rename("noSuch.displayName", customer.as_ref(), Names::Proto), "noSuch.displayName");
    }

    #[test]
    fn violations_are_told_in_json_names() {
        let request = Some(message("rapport.fields.v1.CreateFieldRequest"));
        assert_eq!(
            rename("field.labels[\"zh.CN\"]", request.as_ref(), Names::Json),
            "field.labels[\"zh.CN\"]"
        );
        assert_eq!(rename("field.default_value", request.as_ref(), Names::Json), "field.defaultValue");
        let batch = Some(message("rapport.customer.v1.BatchCustomersRequest"));
        let path = rename("changes[3].create.customer.display_name", batch.as_ref(), Names::Json);
        assert_eq!(path, "changes[3].create.customer.displayName");
    }

    #[test]
    fn without_a_message_each_word_is_recased() {
        assert_eq!(rename("displayName.regionCode", None, Names::Proto), "display_name.region_code");
        assert_eq!(rename("display_name", None, Names::Json), "displayName");
    }

    #[test]
    fn a_mask_is_about_the_resource_beside_it() {
        let subject = mask_subject(&message("rapport.customer.v1.UpdateCustomerRequest")).unwrap();
        assert_eq!(subject.full_name(), "rapport.customer.v1.Customer");
        assert!(mask_subject(&message("rapport.customer.v1.ListCustomersRequest")).is_none());
    }
}
