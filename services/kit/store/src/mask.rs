//! Field masks: which fields an update changes.
use prost::{Message, Name};
use prost_reflect::{DynamicMessage, Value};
use prost_types::FieldMask;
use rapport_filter::nearest;
use rapport_kernel::{Ctx, Error, FieldRights, cut};
use rapport_proto::POOL;

/// The paths that an update changes: those of the mask, or, where there is none, every field that is set (AIP-134).
/// Custom fields are named one by one, `attributes.city`.
///
/// # Errors
/// `Invalid` for a path that names no field, with near ones. `Denied` for a field that the caller's roles let one read but not
/// write; one that they hide is refused as unknown: here, and a custom one by `fields::apply_new` and `fields::apply_change`,
/// which know what else there is.
pub fn paths<M: Message + Name>(
    ctx: &Ctx,
    kind: &str,
    message: &M,
    mask: Option<&FieldMask>,
) -> Result<Vec<String>, Error> {
    check::<M>(ctx, kind, mask)?;
    let set = set_fields(message);
    let paths: Vec<String> = match mask.filter(|mask| !mask.paths.is_empty()) {
        Some(mask) => mask.paths.iter().flat_map(|path| spread(&set, path)).collect(),
        None => set.into_iter().filter(|path| !["id", "etag"].contains(&path.as_str())).collect(),
    };
    must_be_writable::<M>(&ctx.field_rights, kind, &paths)?;
    Ok(paths)
}

/// Whether the paths of a mask name fields that the caller may change, whatever is sent.
///
/// # Errors
/// Those of [`paths`].
pub fn check<M: Message + Name>(ctx: &Ctx, kind: &str, mask: Option<&FieldMask>) -> Result<(), Error> {
    let (rights, descriptor) = (&ctx.field_rights, POOL.get_message_by_name(&M::full_name()));
    for path in mask.iter().flat_map(|mask| &mask.paths) {
        let field = path.split('.').next().unwrap_or_default();
        let exists = descriptor.as_ref().is_some_and(|known| known.get_field_by_name(field).is_some());
        if !exists || !rights.may_read(kind, field) {
            return Err(unknown::<M>(rights, kind, path));
        }
    }
    must_be_writable::<M>(rights, kind, mask.map_or(&[], |mask| mask.paths.as_slice()))
}

fn must_be_writable<M: Message + Name>(
    rights: &FieldRights,
    kind: &str,
    paths: &[String],
) -> Result<(), Error> {
    for path in paths.iter().filter(|_| !rights.is_empty()) {
        if !may_read(rights, kind, path) {
            if path.starts_with(CUSTOM) {
                continue;
            }
            return Err(unknown::<M>(rights, kind, path));
        }
        if !may_write(rights, kind, path) {
            return Err(Error::Denied(format!("field `{path}` may be read but not changed")));
        }
    }
    Ok(())
}

/// Says that there is no such field: one that is hidden from the caller is refused in the same words.
fn unknown<M: Message + Name>(rights: &FieldRights, kind: &str, path: &str) -> Error {
    let known: Vec<_> = names::<M>(rights, kind).filter(|name| !["id", "etag"].contains(&&**name)).collect();
    let near: Vec<_> =
        nearest(path, known.iter().map(String::as_str)).into_iter().map(|name| format!("`{name}`")).collect();
    let meant = if near.is_empty() {
        format!("; there are {}", known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
    } else {
        format!("; did you mean {}", near.join(", "))
    };
    Error::invalid("update_mask", format!("there is no field `{}`{meant}", cut(path)))
}

/// The fields of a message that the caller may read.
fn names<M: Message + Name>(rights: &FieldRights, kind: &str) -> impl Iterator<Item = String> {
    let descriptor = POOL.get_message_by_name(&M::full_name());
    let fields = descriptor.into_iter().flat_map(|descriptor| descriptor.fields().collect::<Vec<_>>());
    fields.map(|field| field.name().to_owned()).filter(move |name| rights.may_read(kind, name))
}

/// What the names of custom fields begin with.
const CUSTOM: &str = "attributes.";

/// Whether the caller may read a field: a right on `revenue` covers its parts, `revenue.amount`.
pub fn may_read(rights: &FieldRights, kind: &str, path: &str) -> bool {
    with_parents(path).all(|path| rights.may_read(kind, path))
}

/// The same for writing.
pub(crate) fn may_write(rights: &FieldRights, kind: &str, path: &str) -> bool {
    with_parents(path).all(|path| rights.may_write(kind, path))
}

/// `a.b.c`, `a.b` and `a`.
fn with_parents(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| path.rsplit_once('.').map(|(parent, _)| parent))
}

/// `attributes` as a whole means each value that was sent. A path that came as JSON has lost its capitals, since that is how
/// JSON writes masks (`attributes.monthlyCharges` arrives as `attributes.monthly_charges`): it means the value that was sent
/// under the same letters.
fn spread(set: &[String], path: &str) -> Vec<String> {
    let sent = || set.iter().filter(|sent| sent.starts_with(CUSTOM));
    if path == "attributes" {
        return sent().cloned().collect();
    }
    let meant = if path.starts_with(CUSTOM) && !set.iter().any(|sent| sent == path) {
        sent().find(|sent| letters(sent) == letters(path)).map_or(path, String::as_str)
    } else {
        path
    };
    vec![meant.to_owned()]
}

/// The name without capitals and `_`. No two custom fields of a resource have the same.
pub(crate) fn letters(name: &str) -> String {
    name.chars().filter(|c| *c != '_').map(|c| c.to_ascii_lowercase()).collect()
}

/// The fields of a message that are set, custom ones by their keys.
pub fn set_fields<M: Message + Name>(message: &M) -> Vec<String> {
    let Some(message) = dynamic(message) else { return Vec::new() };
    let mut paths = Vec::new();
    for (field, value) in message.fields() {
        match value {
            Value::Message(attributes) if field.name() == "attributes" => {
                if let Some(Value::Map(map)) = attributes.get_field_by_name("fields").as_deref() {
                    let keys =
                        map.keys().filter_map(|key| key.as_str()).map(|key| format!("attributes.{key}"));
                    paths.extend(keys);
                }
            }
            _ => paths.push(field.name().to_owned()),
        }
    }
    paths.sort();
    paths
}

/// A message as its descriptor sees it.
pub(crate) fn dynamic<M: Message + Name>(message: &M) -> Option<DynamicMessage> {
    let descriptor = POOL.get_message_by_name(&M::full_name())?;
    DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice()).ok()
}
