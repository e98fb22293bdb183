//! From the stored customer to the contract's.
use prost_types::Struct;
use rapport_kernel::Money;
use rapport_proto::{customer::v1 as pb, r#type::v1 as types};
use rapport_store::{Resource as _, TenantTx, fields, redact, time};

use super::{Address, Customer, CustomerKind, CustomerType, Email, Phone, Status};

impl Customer {
    /// What the caller of `tx` may read of it. Values of archived custom fields are kept, not given out.
    pub(super) fn seen_by(self, tx: &TenantTx) -> pb::Customer {
        let attributes = fields::shown(tx.custom_fields::<Self>(), &self.attributes);
        redact(tx.ctx(), Self::KIND, self.encode(attributes))
    }

    /// What its events tell. An event goes to many readers, so it holds also what is hidden from the caller who caused it.
    pub(crate) fn told(&self, tx: &TenantTx) -> pb::Customer {
        self.clone().encode(fields::in_use(tx.custom_fields::<Self>(), &self.attributes))
    }

    fn encode(self, attributes: Struct) -> pb::Customer {
        let customer = self;
        let revenue = customer
            .revenue_minor
            .zip(customer.revenue_currency.as_deref())
            .and_then(|(minor, currency)| Money::from_minor(minor, currency))
            .map(|money| types::Money {
                amount: money.amount().to_string(),
                currency: money.code().to_owned(),
            });
        pb::Customer {
            id: customer.id.to_string(),
            etag: customer.version.to_string(),
            r#type: pb::CustomerType::from(customer.r#type).into(),
            display_name: customer.display_name,
            status: pb::CustomerStatus::from(customer.status).into(),
            kind: pb::CustomerKind::from(customer.kind).into(),
            owner: customer.owner_id.map(|id| id.name()).unwrap_or_default(),
            unit: customer.unit_id.map(|id| id.name()).unwrap_or_default(),
            phones: customer.phones.into_iter().map(Into::into).collect(),
            emails: customer.emails.into_iter().map(Into::into).collect(),
            addresses: customer.addresses.into_iter().map(Into::into).collect(),
            industry: customer.industry,
            headcount: customer.headcount,
            revenue,
            founding_date: customer.founding_date.map(|date| date.to_string()).unwrap_or_default(),
            birth_date: customer.birth_date.map(|date| date.to_string()).unwrap_or_default(),
            tags: customer.tags,
            attributes: (!attributes.fields.is_empty()).then_some(attributes),
            external_ids: customer
                .external_ids
                .into_iter()
                .map(|id| types::ExternalId { source: id.source, external_id: id.external_id })
                .collect(),
            create_time: Some(time::to_proto(customer.create_time)),
            update_time: Some(time::to_proto(customer.update_time)),
            delete_time: customer.delete_time.map(time::to_proto),
            erase_time: customer.erase_time.map(time::to_proto),
        }
    }
}

impl From<CustomerType> for pb::CustomerType {
    fn from(r#type: CustomerType) -> Self {
        match r#type {
            CustomerType::Company => Self::Company,
            CustomerType::Person => Self::Person,
        }
    }
}

impl From<Status> for pb::CustomerStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Potential => Self::Potential,
            Status::Target => Self::Target,
            Status::Existing => Self::Existing,
        }
    }
}

impl From<CustomerKind> for pb::CustomerKind {
    fn from(kind: CustomerKind) -> Self {
        match kind {
            CustomerKind::Consumer => Self::Consumer,
            CustomerKind::Business => Self::Business,
            CustomerKind::Channel => Self::Channel,
            CustomerKind::Internal => Self::Internal,
        }
    }
}

impl From<Phone> for types::Phone {
    fn from(Phone { number, e164, label }: Phone) -> Self {
        Self { number, e164, label }
    }
}

impl From<Email> for types::EmailAddress {
    fn from(Email { address, label }: Email) -> Self {
        Self { address, label }
    }
}

impl From<Address> for types::Address {
    fn from(address: Address) -> Self {
        let Address {
            region_code,
            administrative_area,
            locality,
            sublocality,
            postal_code,
            address_lines,
            label,
        } = address;
        Self { region_code, administrative_area, locality, sublocality, postal_code, address_lines, label }
    }
}
