//! What a column can mean for a customer, and how a cell becomes a value.
use rapport_import::{EXTERNAL_ID, Target};
use rapport_kernel::{Ctx, Kind as _};
use rapport_proto::{customer::v1 as pb, r#type::v1 as types};
use rapport_store::fields::{Definition, FieldKind};

use crate::customer::Customer;

/// What a target means.
pub(super) enum Meaning {
    /// The key in the system that the file comes from.
    ExternalId,
    /// A field that every customer has; the name of the target.
    Compiled(&'static str),
    /// A field that the tenant defined.
    Custom(Box<Definition>),
}

/// Targets of fields that every customer has: name, the field that an update overwrites, an example, and what columns that
/// mean it are called.
const COMPILED: &[(&str, &str, &str, &[&str])] = &[
    (
        "display_name",
        "display_name",
        "杭州西湖茶业有限公司",
        &["name", "customer name", "company", "客户名称", "名称", "姓名", "公司名称"],
    ),
    ("type", "type", "company", &["customer type", "客户类型", "类型"]),
    ("status", "status", "existing", &["customer status", "状态", "客户状态"]),
    ("kind", "kind", "business", &["customer kind", "种类", "客户种类"]),
    ("owner", "owner", "identity.user/0190…", &["负责人", "客户经理"]),
    ("unit", "unit", "identity.unit/0190…", &["department", "部门"]),
    (
        "phone",
        "phones",
        "0571-8765 4321",
        &["telephone", "tel", "mobile", "phone number", "电话", "手机", "联系电话"],
    ),
    ("email", "emails", "li.wei@example.com", &["e-mail", "mail", "email address", "邮箱", "电子邮件"]),
    ("industry", "industry", "hospitality", &["sector", "trade", "行业"]),
    ("headcount", "headcount", "250", &["employees", "number of employees", "员工人数", "人数"]),
    ("revenue.amount", "revenue", "1200000", &["revenue", "annual revenue", "turnover", "营业额", "年收入"]),
    ("revenue.currency", "revenue", "CNY", &["currency", "币种"]),
    (
        "founding_date",
        "founding_date",
        "2004-09-28",
        &["founded", "founding date", "established", "成立日期"],
    ),
    ("birth_date", "birth_date", "1990-01-31", &["birthday", "date of birth", "dob", "出生日期", "生日"]),
    ("tags", "tags", "vip;newsletter", &["labels", "标签"]),
    ("address.region_code", "addresses", "CN", &["country", "country code", "国家"]),
    ("address.administrative_area", "addresses", "浙江省", &["state", "province", "省份", "省"]),
    ("address.locality", "addresses", "杭州市", &["city", "town", "城市"]),
    ("address.postal_code", "addresses", "310000", &["zip", "postcode", "postal code", "邮编"]),
    ("address.line", "addresses", "人民路8号", &["address", "street", "地址"]),
];

/// What the caller can map columns to.
pub(super) fn all(ctx: &Ctx, fields: &[Definition]) -> Vec<Target> {
    let may_write = |field: &str| ctx.field_rights.may_write(Customer::KIND, field);
    let external_id = Target {
        name: EXTERNAL_ID.into(),
        labels: ["id", "customer id", "customer number", "account id", "客户编号", "编号"]
            .map(Into::into)
            .into(),
        required: false,
        example: "7590-VHVEG".into(),
    };
    let compiled =
        COMPILED.iter().filter(|(_, field, ..)| may_write(field)).map(|(name, _, example, labels)| Target {
            name: (*name).into(),
            labels: labels.iter().map(|label| (*label).into()).collect(),
            // Customers of a file without names are called by their external id; the plan asks for one of the two.
            required: false,
            example: (*example).into(),
        });
    let custom =
        fields.iter().filter(|field| may_write(&format!("attributes.{}", field.key))).map(|field| Target {
            name: format!("attributes.{}", field.key),
            labels: std::iter::once(field.key.clone()).chain(field.labels.values().cloned()).collect(),
            required: field.required && field.default_value.is_none(),
            example: example(field),
        });
    std::iter::once(external_id).chain(compiled).chain(custom).collect()
}

/// A value as it may stand in a file.
fn example(field: &Definition) -> String {
    match field.kind {
        FieldKind::Text => "text".into(),
        FieldKind::Number => "29.85".into(),
        FieldKind::Money => "12.50 CNY".into(),
        FieldKind::Date => "2026-01-31".into(),
        FieldKind::Instant => "2026-01-31T08:00:00Z".into(),
        FieldKind::Boolean => "yes".into(),
        FieldKind::Choice => field.choices.first().map(|choice| choice.key.clone()).unwrap_or_default(),
        FieldKind::MultiChoice => {
            field.choices.iter().take(2).map(|choice| choice.key.as_str()).collect::<Vec<_>>().join(";")
        }
        FieldKind::Reference => format!("{}/0190…", field.reference_kind),
        FieldKind::Phone => "+86 571 8765 4321".into(),
        FieldKind::Email => "li.wei@example.com".into(),
        FieldKind::Url => "https://example.com".into(),
    }
}

impl Meaning {
    /// What the target `name` means; `None` when there is no such field.
    pub(super) fn of(name: &str, fields: &[Definition]) -> Option<Self> {
        if name == EXTERNAL_ID {
            return Some(Self::ExternalId);
        }
        if let Some(key) = name.strip_prefix("attributes.") {
            return fields
                .iter()
                .find(|field| field.key == key)
                .map(|field| Self::Custom(Box::new(field.clone())));
        }
        COMPILED
            .iter()
            .find(|(compiled, ..)| *compiled == name)
            .map(|(compiled, ..)| Self::Compiled(compiled))
    }

    /// The field that an update overwrites.
    pub(super) fn path(&self) -> Option<String> {
        match self {
            Self::ExternalId => None,
            Self::Compiled(name) => COMPILED
                .iter()
                .find(|(compiled, ..)| compiled == name)
                .map(|(_, path, ..)| (*path).to_owned()),
            Self::Custom(field) => Some(format!("attributes.{}", field.key)),
        }
    }
}

/// Sets the field of the target `name` from a cell; an empty cell leaves it unset.
///
/// # Errors
/// What would be right, for a cell that cannot even be read; what it says is checked with all other rules.
pub(super) fn set(customer: &mut pb::Customer, name: &str, cell: &str) -> Result<(), String> {
    if cell.is_empty() {
        return Ok(());
    }
    match name {
        "display_name" => customer.display_name = cell.into(),
        "type" => {
            customer.r#type = pb::CustomerType::from_str_name(&upper("CUSTOMER_TYPE", cell))
                .ok_or("must be company or person")?
                .into()
        }
        "status" => {
            let status = pb::CustomerStatus::from_str_name(&upper("CUSTOMER_STATUS", cell));
            customer.status = status.ok_or("must be potential, target or existing")?.into();
        }
        "kind" => {
            let kind = pb::CustomerKind::from_str_name(&upper("CUSTOMER_KIND", cell));
            customer.kind = kind.ok_or("must be consumer, business, channel or internal")?.into();
        }
        "owner" => customer.owner = cell.into(),
        "unit" => customer.unit = cell.into(),
        "phone" => customer.phones.push(types::Phone { number: cell.into(), ..types::Phone::default() }),
        "email" => customer
            .emails
            .push(types::EmailAddress { address: cell.into(), ..types::EmailAddress::default() }),
        "industry" => customer.industry = cell.into(),
        "headcount" => {
            customer.headcount = Some(cell.parse().map_err(|_| "must be a whole number like 250")?)
        }
        "revenue.amount" => customer.revenue.get_or_insert_default().amount = cell.into(),
        "revenue.currency" => customer.revenue.get_or_insert_default().currency = cell.to_uppercase(),
        "founding_date" => customer.founding_date = cell.into(),
        "birth_date" => customer.birth_date = cell.into(),
        "tags" => customer.tags = cell.split(';').map(|tag| tag.trim().to_owned()).collect(),
        address => set_address(customer, address, cell),
    }
    Ok(())
}

fn set_address(customer: &mut pb::Customer, name: &str, cell: &str) {
    if customer.addresses.is_empty() {
        customer.addresses.push(types::Address::default());
    }
    let Some(address) = customer.addresses.first_mut() else { return };
    match name {
        "address.region_code" => address.region_code = cell.to_uppercase(),
        "address.administrative_area" => address.administrative_area = cell.into(),
        "address.locality" => address.locality = cell.into(),
        "address.postal_code" => address.postal_code = cell.into(),
        _ => address.address_lines.push(cell.into()),
    }
}

/// The name of a value of an enum: `CUSTOMER_TYPE_PERSON` of `person`.
fn upper(prefix: &str, cell: &str) -> String {
    format!("{prefix}_{}", cell.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_can_be_set() {
        for (name, _, example, _) in COMPILED {
            let mut customer = pb::Customer::default();
            set(&mut customer, name, example).unwrap();
            assert_ne!(customer, pb::Customer::default(), "{name}");
        }
    }

    #[test]
    fn cells_that_name_no_value_say_what_there_is() {
        let mut customer = pb::Customer::default();
        assert_eq!(set(&mut customer, "status", "dead"), Err("must be potential, target or existing".into()));
        assert_eq!(set(&mut customer, "headcount", "many"), Err("must be a whole number like 250".into()));
        assert_eq!(set(&mut customer, "kind", ""), Ok(()));
    }
}
