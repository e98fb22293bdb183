//! What requests about all resources have alike.
use rapport_kernel::{Ctx, Error, Id, Kind};

/// The id that the client chose in `field`, or a new one.
///
/// # Errors
/// `Invalid` when it is not a UUID, or is the nil UUID.
pub(crate) fn chosen_id<T>(ctx: &Ctx, field: &str, text: &str) -> Result<Id<T>, Error> {
    if text.is_empty() {
        return Ok(ctx.new_id());
    }
    let id = Id::<T>::parse(field, text)?;
    if id.uuid().is_nil() {
        return Err(Error::invalid(field, "is the nil UUID, which names nothing"));
    }
    Ok(id)
}

/// The reference in `field`; `None` when it is empty.
///
/// # Errors
/// `Invalid` when it names no `T`.
pub(crate) fn reference<T: Kind>(field: &str, text: &str) -> Result<Option<Id<T>>, Error> {
    if text.is_empty() { Ok(None) } else { Id::parse_reference(field, text).map(Some) }
}

/// The mask names a field that is not there.
pub(crate) fn no_field(path: &str) -> Error {
    Error::invalid("update_mask", format!("there is no field `{path}`"))
}

/// The client chose an id that another record has.
pub(crate) fn id_is_taken<T>(resource: &'static str, id: Id<T>) -> Error {
    Error::AlreadyExists { resource: resource.into(), problem: format!("the id `{id}` is taken") }
}
