//! Erasing: what identifies a customer goes, here and in whatever tells of it; what counts stays.
use std::collections::BTreeSet;

use rapport_kernel::{Error, Id, Instant};
use rapport_proto::customer::v1 as pb;
use rapport_store::{Etag, Resource as _, TenantTx, diff, time};

use super::{Customer, store};

/// Erases a customer that was deleted. One that was erased stays as it is.
pub(super) async fn erase(tx: &mut TenantTx, id: Id<Customer>, etag: Etag) -> Result<Customer, Error> {
    let before = tx.get_for_update_even_deleted::<Customer>(id.uuid()).await?;
    etag.matches(&before)?;
    if before.erase_time.is_some() {
        return Ok(before);
    }
    if before.delete_time.is_none() {
        let message = format!("customer `{id}` is not deleted; delete it first, and erase it then");
        return Err(Error::rule("NOT_DELETED", message));
    }
    let kept = tx.impersonal_keys::<Customer>().await?;
    let now = tx.now();
    let after = before.followed_by(tx.ctx(), before.clone().erased(now, &kept));
    let paths = diff(&before.told(tx), &after.told(tx)).paths;
    store::erase(tx, &before, &after)?;
    tx.erase_beside::<Customer>(id.uuid()).await?;
    rapport_import::forget_record(tx, id.uuid()).await?;
    rapport_events::erase(tx, Customer::KIND, id.uuid()).await?;
    let event = pb::CustomerErased { id: id.to_string(), erase_time: Some(time::to_proto(now)) };
    tx.emit_changed(&after, &event, &paths)?;
    Ok(after)
}

impl Customer {
    /// Without what identifies it: names, numbers, addresses, birthday, free words, keys in other systems, and all custom values
    /// but those of the fields `kept`.
    fn erased(self, now: Instant, kept: &BTreeSet<String>) -> Self {
        let mut attributes = self.attributes;
        attributes.retain(|key, _| kept.contains(key));
        Self {
            display_name: String::new(),
            phones: Vec::new(),
            emails: Vec::new(),
            addresses: Vec::new(),
            birth_date: None,
            tags: Vec::new(),
            external_ids: Vec::new(),
            attributes,
            erase_time: Some(now),
            ..self
        }
    }
}
