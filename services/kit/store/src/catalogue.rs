//! The catalogue of one caller: compiled fields and custom ones, less what the caller's roles may not read.
use rapport_filter::Catalogue;
use rapport_kernel::Ctx;

use crate::{Resource, fields::TenantFields, mask};

/// The fields of `R` that the caller may use in filters and orders.
pub(crate) fn of<R: Resource>(ctx: &Ctx, custom: &TenantFields) -> Catalogue {
    R::fields()
        .into_iter()
        .chain(custom.of(R::NAME).iter().flat_map(|field| field.catalogue()))
        .filter(|field| mask::may_read(&ctx.field_rights, R::KIND, &field.name))
        .collect()
}
