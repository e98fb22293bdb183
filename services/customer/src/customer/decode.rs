//! From what callers send to checked values, each with an error that names its field.
use std::collections::BTreeSet;

use rapport_kernel::{Ctx, Date, Error, Id, Kind, Money};
use rapport_proto::{customer::v1 as pb, r#type::v1 as types};
use rapport_store::{ExternalId, contact_point};

use super::{Address, CustomerKind, CustomerType, Email, Phone, Status};

/// A company where nothing was said.
pub(super) fn customer_type(value: i32) -> CustomerType {
    match pb::CustomerType::try_from(value) {
        Ok(pb::CustomerType::Person) => CustomerType::Person,
        _ => CustomerType::Company,
    }
}

/// Potential where nothing was said.
pub(super) fn status(value: i32) -> Status {
    match pb::CustomerStatus::try_from(value) {
        Ok(pb::CustomerStatus::Existing) => Status::Existing,
        Ok(pb::CustomerStatus::Target) => Status::Target,
        _ => Status::Potential,
    }
}

/// Business for a company and consumer for a person where nothing was said.
pub(super) fn kind(value: i32, r#type: CustomerType) -> CustomerKind {
    match (pb::CustomerKind::try_from(value), r#type) {
        (Ok(pb::CustomerKind::Consumer), _) => CustomerKind::Consumer,
        (Ok(pb::CustomerKind::Business), _) => CustomerKind::Business,
        (Ok(pb::CustomerKind::Channel), _) => CustomerKind::Channel,
        (Ok(pb::CustomerKind::Internal), _) => CustomerKind::Internal,
        (_, CustomerType::Company) => CustomerKind::Business,
        (_, CustomerType::Person) => CustomerKind::Consumer,
    }
}

/// Without blanks around it, 1 to 200 characters, no control characters.
pub(super) fn display_name(text: &str) -> Result<String, Error> {
    let name = text.trim();
    if name.is_empty() {
        return Err(Error::invalid("display_name", "must be given"));
    }
    if name.chars().any(char::is_control) {
        return Err(Error::invalid("display_name", "must not contain line breaks or control characters"));
    }
    Ok(name.to_owned())
}

/// A reference, or `None` where nothing was said.
pub(super) fn reference<T: Kind>(field: &str, text: &str) -> Result<Option<Id<T>>, Error> {
    if text.is_empty() { Ok(None) } else { Id::parse_reference(field, text).map(Some) }
}

/// Numbers as typed, with their E.164 form where they are valid in the tenant's region: a number that is not is kept, since
/// people know extensions and short numbers that no plan lists.
pub(super) fn phones(ctx: &Ctx, phones: &[types::Phone]) -> Vec<Phone> {
    phones
        .iter()
        .map(|phone| Phone {
            number: phone.number.trim().to_owned(),
            e164: contact_point::e164(&phone.number, &ctx.phone_region).unwrap_or_default(),
            label: phone.label.clone(),
        })
        .collect()
}

/// Addresses that can be written to, each once.
pub(super) fn emails(emails: &[types::EmailAddress]) -> Result<Vec<Email>, Error> {
    let mut seen = BTreeSet::new();
    let mut read = Vec::with_capacity(emails.len());
    for (n, email) in emails.iter().enumerate() {
        let field = || format!("emails[{n}].address");
        let address =
            contact_point::email(&email.address).map_err(|problem| Error::invalid(field(), problem))?;
        if !seen.insert(address.to_lowercase()) {
            return Err(Error::invalid(field(), format!("`{address}` stands there twice")));
        }
        read.push(Email { address, label: email.label.clone() });
    }
    Ok(read)
}

/// Postal addresses.
pub(super) fn addresses(addresses: &[types::Address]) -> Vec<Address> {
    addresses
        .iter()
        .cloned()
        .map(|address| Address {
            region_code: address.region_code,
            administrative_area: address.administrative_area,
            locality: address.locality,
            sublocality: address.sublocality,
            postal_code: address.postal_code,
            address_lines: address.address_lines,
            label: address.label,
        })
        .collect()
}

/// An amount in minor units with its currency.
pub(super) fn money(field: &str, money: Option<&types::Money>) -> Result<Option<Money>, Error> {
    money.map(|money| Money::parse(field, &money.amount, &money.currency)).transpose()
}

/// A civil date that exists.
pub(super) fn date(field: &str, text: &str) -> Result<Option<Date>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse()
        .map(Some)
        .map_err(|_| Error::invalid(field, format!("`{text}` is not a date like `2004-09-28`")))
}

/// Without blanks around them, each once, in the order sent.
pub(super) fn tags(tags: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let trimmed = tags.iter().map(|tag| tag.trim()).filter(|tag| !tag.is_empty());
    trimmed.filter(|tag| seen.insert(*tag)).map(ToOwned::to_owned).collect()
}

/// Keys in other systems, one per system.
pub(super) fn external_ids(ids: &[types::ExternalId]) -> Result<Vec<ExternalId>, Error> {
    let mut sources = BTreeSet::new();
    for (n, id) in ids.iter().enumerate() {
        if !sources.insert(&id.source) {
            let problem = format!("`{}` stands there twice; a customer has one key per system", id.source);
            return Err(Error::invalid(format!("external_ids[{n}].source"), problem));
        }
    }
    Ok(ids
        .iter()
        .map(|id| ExternalId { source: id.source.clone(), external_id: id.external_id.clone() })
        .collect())
}
