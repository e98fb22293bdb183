//! What creating and changing a customer means: all the rules, without I/O.
use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::customer::v1 as pb;
use rapport_store::fields::{Definition, apply_change, apply_new};

use super::{Customer, CustomerType, decode};

impl Customer {
    /// A new customer. The caller owns it unless another owner is named.
    ///
    /// # Errors
    /// `Invalid` with the field's path below `customer`.
    pub(super) fn create(ctx: &Ctx, fields: &[Definition], sent: &pb::Customer) -> Result<Self, Error> {
        let now = ctx.now();
        let r#type = decode::customer_type(sent.r#type);
        let revenue = decode::money("revenue", sent.revenue.as_ref())?;
        let customer = Self {
            id: if sent.id.is_empty() { ctx.new_id() } else { Id::parse("id", &sent.id)? },
            version: 1,
            r#type,
            display_name: decode::display_name(&sent.display_name)?,
            status: decode::status(sent.status),
            kind: decode::kind(sent.kind, r#type),
            owner_id: decode::reference("owner", &sent.owner)?.or(ctx.user().map(Id::new)),
            unit_id: decode::reference("unit", &sent.unit)?,
            phones: decode::phones(ctx, &sent.phones),
            emails: decode::emails(&sent.emails)?,
            addresses: decode::addresses(&sent.addresses),
            industry: sent.industry.trim().to_owned(),
            headcount: sent.headcount,
            revenue_minor: revenue.map(|money| money.minor()),
            revenue_currency: revenue.map(|money| money.code().to_owned()),
            founding_date: decode::date("founding_date", &sent.founding_date)?,
            birth_date: decode::date("birth_date", &sent.birth_date)?,
            tags: decode::tags(&sent.tags),
            attributes: apply_new(fields, sent.attributes.as_ref(), &ctx.phone_region)?,
            external_ids: decode::external_ids(&sent.external_ids)?,
            create_time: now,
            update_time: now,
            delete_time: None,
            erase_time: None,
        };
        customer.check()?;
        Ok(customer)
    }

    /// The customer with the fields in `paths` as sent. The same, to the version, when that changes nothing.
    ///
    /// # Errors
    /// `Invalid` with the field's path below `customer`, or `update_mask` for a path that cannot be changed.
    pub(super) fn change(
        &self,
        ctx: &Ctx,
        fields: &[Definition],
        sent: &pb::Customer,
        paths: &[String],
    ) -> Result<Self, Error> {
        let mut after = self.clone();
        for path in paths {
            after.set(ctx, sent, path)?;
        }
        let keys: Vec<&str> = paths.iter().filter_map(|path| path.strip_prefix("attributes.")).collect();
        after.attributes =
            apply_change(fields, &self.attributes, sent.attributes.as_ref(), &keys, &ctx.phone_region)?;
        after.check()?;
        Ok(self.followed_by(ctx, after))
    }

    /// `after` with the next version and time, or `self` when nothing differs.
    pub(super) fn followed_by(&self, ctx: &Ctx, mut after: Self) -> Self {
        if after == *self {
            return after;
        }
        after.version = self.version + 1;
        after.update_time = ctx.now();
        after
    }

    fn set(&mut self, ctx: &Ctx, sent: &pb::Customer, path: &str) -> Result<(), Error> {
        match path {
            "display_name" => self.display_name = decode::display_name(&sent.display_name)?,
            "status" => self.status = decode::status(sent.status),
            "kind" => self.kind = decode::kind(sent.kind, self.r#type),
            "owner" => self.owner_id = decode::reference("owner", &sent.owner)?,
            "unit" => self.unit_id = decode::reference("unit", &sent.unit)?,
            "phones" => self.phones = decode::phones(ctx, &sent.phones),
            "emails" => self.emails = decode::emails(&sent.emails)?,
            "addresses" => self.addresses = decode::addresses(&sent.addresses),
            "industry" => sent.industry.trim().clone_into(&mut self.industry),
            "headcount" => self.headcount = sent.headcount,
            "revenue" => {
                let revenue = decode::money("revenue", sent.revenue.as_ref())?;
                self.revenue_minor = revenue.map(|money| money.minor());
                self.revenue_currency = revenue.map(|money| money.code().to_owned());
            }
            "founding_date" => self.founding_date = decode::date("founding_date", &sent.founding_date)?,
            "birth_date" => self.birth_date = decode::date("birth_date", &sent.birth_date)?,
            "tags" => self.tags = decode::tags(&sent.tags),
            "external_ids" => self.external_ids = decode::external_ids(&sent.external_ids)?,
            "type" if decode::customer_type(sent.r#type) == self.r#type => {}
            "type" => return Err(Error::invalid("type", "cannot be changed")),
            custom if custom.starts_with("attributes.") => {}
            // Whoever sends a whole record back sends these along (AIP-203).
            "id" | "etag" | "create_time" | "update_time" | "delete_time" | "erase_time" => {}
            other => {
                return Err(Error::invalid(
                    "update_mask",
                    format!("`{other}` is not a field that can be changed"),
                ));
            }
        }
        Ok(())
    }

    /// The rules that no single field can keep, and the lengths, which files do not keep as requests do.
    fn check(&self) -> Result<(), Error> {
        self.check_lengths()?;
        match self.r#type {
            CustomerType::Company if self.birth_date.is_some() => {
                Err(Error::invalid("birth_date", "is for persons; a company has a founding date"))
            }
            CustomerType::Person if self.founding_date.is_some() => {
                Err(Error::invalid("founding_date", "is for companies; a person has a birth date"))
            }
            CustomerType::Person if self.headcount.is_some() => {
                Err(Error::invalid("headcount", "is for companies"))
            }
            _ => Ok(()),
        }
    }
}

impl Customer {
    /// The longest of each text, in characters; the contract says the same.
    fn check_lengths(&self) -> Result<(), Error> {
        let external_ids = self.external_ids.iter().map(|id| ("external_ids", id.external_id.as_str(), 200));
        let phones = self.phones.iter().map(|phone| ("phones", phone.number.as_str(), 64));
        let tags = self.tags.iter().map(|tag| ("tags", tag.as_str(), 60));
        let texts =
            [("display_name", self.display_name.as_str(), 200), ("industry", self.industry.as_str(), 100)];
        let too_long = texts
            .into_iter()
            .chain(external_ids)
            .chain(phones)
            .chain(tags)
            .find(|(_, text, most)| text.chars().count() > *most);
        match too_long {
            Some((field, _, most)) => Err(Error::invalid(field, format!("is longer than {most} characters"))),
            None if self.tags.len() > 100 => Err(Error::invalid("tags", "are more than 100")),
            None if self.headcount.is_some_and(|count| !(0..=100_000_000).contains(&count)) => {
                Err(Error::invalid("headcount", "must be 0 to 100,000,000"))
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapport_kernel::Clock;
    use uuid::Uuid;

    fn ctx() -> Ctx {
        Ctx { phone_region: "CN".into(), ..Ctx::system(Id::new(Uuid::from_u128(1)), Clock::system()) }
    }

    fn named(name: &str) -> pb::Customer {
        pb::Customer { display_name: name.into(), ..pb::Customer::default() }
    }

    #[test]
    fn a_customer_needs_no_more_than_a_name() {
        let customer = Customer::create(&ctx(), &[], &named("  杭州西湖茶业有限公司 ")).unwrap();
        assert_eq!(customer.display_name, "杭州西湖茶业有限公司");
        assert_eq!(
            (customer.r#type, customer.kind),
            (CustomerType::Company, super::super::CustomerKind::Business)
        );
        assert_eq!(
            Customer::create(&ctx(), &[], &named(" ")).unwrap_err().to_string(),
            "display_name: must be given"
        );
    }

    #[test]
    fn phones_keep_what_was_typed_and_gain_what_is_dialled() {
        let phone =
            rapport_proto::r#type::v1::Phone { number: "0571-8765 4321".into(), ..Default::default() };
        let sent = pb::Customer { phones: vec![phone], ..named("a") };
        let customer = Customer::create(&ctx(), &[], &sent).unwrap();
        assert_eq!(customer.phones[0].e164, "+8657187654321");
        assert_eq!(customer.phones[0].number, "0571-8765 4321");
    }

    #[test]
    fn a_change_that_changes_nothing_keeps_the_version() {
        let before = Customer::create(&ctx(), &[], &named("a")).unwrap();
        let same = before.change(&ctx(), &[], &named("a"), &["display_name".into()]).unwrap();
        assert_eq!(same, before);
        let after = before.change(&ctx(), &[], &named("b"), &["display_name".into()]).unwrap();
        assert_eq!((after.version, after.display_name.as_str()), (2, "b"));
    }

    #[test]
    fn unknown_and_immutable_paths_are_refused() {
        let before = Customer::create(&ctx(), &[], &named("a")).unwrap();
        let refused =
            |sent: pb::Customer, path: &str| before.change(&ctx(), &[], &sent, &[path.into()]).unwrap_err();
        assert_eq!(
            refused(named("a"), "colour").to_string(),
            "update_mask: `colour` is not a field that can be changed"
        );
        let person = pb::Customer { r#type: pb::CustomerType::Person.into(), ..named("a") };
        assert_eq!(refused(person, "type").to_string(), "type: cannot be changed");
    }

    #[test]
    fn companies_have_no_birthday() {
        let sent = pb::Customer { birth_date: "1990-01-31".into(), ..named("a") };
        assert!(Customer::create(&ctx(), &[], &sent).is_err());
    }
}
