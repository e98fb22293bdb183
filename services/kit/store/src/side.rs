//! What belongs to a record but lies beside it: indexed values, unique keys, and keys in other systems. It follows from the
//! record before and after a change, so nobody writes it by hand.
use std::collections::{BTreeMap, BTreeSet};

use rapport_kernel::{Decimal, Error};
use serde::{Deserialize, Serialize};
use serde_json::json;
use uuid::Uuid;

use crate::{
    Attribute, Resource, TenantTx,
    error::database,
    fields::{Definition, FieldKind},
    writes::{Side, Writes},
};

/// The key of a record in another system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ExternalId {
    /// The other system, e.g. `erp`.
    pub source: String,
    /// The record's key there.
    pub external_id: String,
}

const EXTERNAL_IDS: Side = Side {
    table: "external_ids",
    columns: "resource, source, external_id, record_id",
    key: "resource, source, external_id",
    replaces: false,
};
const KEYS: Side = Side {
    table: "attribute_keys",
    columns: "field_id, value, record_id",
    key: "field_id, value",
    replaces: false,
};
const TEXTS: Side = Side {
    table: "attribute_texts",
    columns: "field_id, record_id, position, present, value",
    key: "field_id, record_id, position",
    replaces: true,
};
const fn typed(table: &'static str) -> Side {
    Side { table, columns: "field_id, record_id, present, value", key: "field_id, record_id", replaces: true }
}
const NUMBERS: Side = typed("attribute_numbers");
const DATES: Side = typed("attribute_dates");
const INSTANTS: Side = typed("attribute_instants");

/// Collects the side rows of a new record (`before` is `None`) or of a changed one.
pub(crate) fn follow<R: Resource>(
    writes: &mut Writes,
    fields: &[Definition],
    before: Option<&R>,
    after: &R,
) -> Result<(), Error> {
    external_ids(writes, before, after)?;
    for field in fields {
        let old = before.and_then(|record| value(record, field));
        let new = value(after, field);
        if field.is_unique {
            let old =
                before.filter(|record| is_live(*record)).and(old).map(|value| key_text(field.kind, value));
            let new = Some(after)
                .filter(|record| is_live(*record))
                .and(new)
                .map(|value| key_text(field.kind, value));
            if old != new {
                if let Some(value) = old {
                    writes.side_delete(KEYS, &json!({"field_id": field.id, "value": value}))?;
                }
                if let Some(value) = new {
                    writes.side_insert(
                        KEYS,
                        &json!({"field_id": field.id, "value": value, "record_id": after.id()}),
                    )?;
                }
            }
        }
        if field.indexed && (before.is_none() || old != new) {
            index(writes, field, after.id(), before.is_none(), (old, new))?;
        }
    }
    Ok(())
}

fn value<'r, R: Resource>(record: &'r R, field: &Definition) -> Option<&'r Attribute> {
    record.attributes()?.get(&field.key)
}

fn is_live<R: Resource>(record: &R) -> bool {
    record.delete_time().is_none()
}

/// The text that is unique: of a phone what is dialled, of an e-mail address its form in lower case (of ASCII letters, since
/// `indexing::rebuild_keys` must come to the same in SQL), else the value as it is.
pub(crate) fn key_text(kind: FieldKind, value: &Attribute) -> String {
    match value {
        Attribute::Text(text) if kind == FieldKind::Email => text.to_ascii_lowercase(),
        Attribute::Text(text) => text.clone(),
        Attribute::Number(number) => number.to_string(),
        Attribute::Boolean(boolean) => boolean.to_string(),
        Attribute::List(list) => list.join(";"),
        Attribute::Parts(parts) => parts.get("e164").map(|e164| key_text(kind, e164)).unwrap_or_default(),
    }
}

fn external_ids<R: Resource>(writes: &mut Writes, before: Option<&R>, after: &R) -> Result<(), Error> {
    let of = |record: &R| -> BTreeSet<ExternalId> {
        if is_live(record) { record.external_ids().iter().cloned().collect() } else { BTreeSet::new() }
    };
    let (old, new) = (before.map(of).unwrap_or_default(), of(after));
    let row = |id: &ExternalId| json!({"resource": R::NAME, "source": id.source, "external_id": id.external_id, "record_id": after.id()});
    for id in old.difference(&new) {
        writes.side_delete(EXTERNAL_IDS, &row(id))?;
    }
    for id in new.difference(&old) {
        writes.side_insert(EXTERNAL_IDS, &row(id))?;
    }
    Ok(())
}

/// Brings the index of one field of one record up to date. A record without a value has a row too, since it has a place in
/// the order of a list.
fn index(
    writes: &mut Writes,
    field: &Definition,
    record: Uuid,
    is_new: bool,
    (old, new): (Option<&Attribute>, Option<&Attribute>),
) -> Result<(), Error> {
    let texts = TEXTS.of_record(is_new);
    let present = new.is_some();
    let row = |value: serde_json::Value| json!({"field_id": field.id, "record_id": record, "present": present, "value": value});
    let text = |value: Option<&Attribute>| match value {
        Some(Attribute::Text(text)) => text.clone(),
        _ => String::new(),
    };
    match field.kind {
        FieldKind::Number | FieldKind::Boolean => {
            let value = match new {
                Some(Attribute::Number(number)) => scaled(*number, field.places())?,
                Some(Attribute::Boolean(true)) => 1,
                _ => 0,
            };
            writes.side_insert(NUMBERS.of_record(is_new), &row(value.into()))
        }
        FieldKind::Date => writes.side_insert(DATES.of_record(is_new), &row(or(text(new), "1970-01-01"))),
        FieldKind::Instant => {
            writes.side_insert(INSTANTS.of_record(is_new), &row(or(text(new), "1970-01-01T00:00:00Z")))
        }
        FieldKind::MultiChoice => {
            let elements = |value: Option<&Attribute>| match value {
                Some(Attribute::List(list)) => list.clone(),
                _ => vec![String::new()],
            };
            let (old, new) = (elements(old), elements(new));
            for position in new.len()..old.len() {
                let gone = json!({"field_id": field.id, "record_id": record, "position": position});
                writes.side_delete(TEXTS, &gone)?;
            }
            for (position, element) in new.iter().enumerate() {
                writes.side_insert(texts, &at(position, row(element.as_str().into())))?;
            }
            Ok(())
        }
        _ => writes.side_insert(texts, &at(0, row(text(new).into()))),
    }
}

fn or(text: String, missing: &str) -> serde_json::Value {
    if text.is_empty() { missing.into() } else { text.into() }
}

fn at(position: usize, mut row: serde_json::Value) -> serde_json::Value {
    if let Some(row) = row.as_object_mut() {
        row.insert("position".into(), position.into());
    }
    row
}

/// A number as the index keeps it: times ten to the power of the field's scale.
fn scaled(mut number: Decimal, scale: u8) -> Result<i64, Error> {
    number.rescale(scale.into());
    i64::try_from(number.mantissa()).map_err(Error::internal)
}

impl TenantTx {
    /// The records that have these keys in other systems, by key; deleted ones have none. A key is looked up once in a
    /// transaction: whoever takes it in the meantime is met by the constraint, and the request is made again.
    pub async fn by_external_ids<R: Resource>(
        &mut self,
        ids: &[ExternalId],
    ) -> Result<BTreeMap<ExternalId, Uuid>, Error> {
        let known = self.known_keys.entry(R::NAME).or_default();
        let new: Vec<ExternalId> = ids.iter().filter(|id| !known.contains_key(*id)).cloned().collect();
        let found = self.look_up::<R>(&new).await?;
        let known = self.known_keys.entry(R::NAME).or_default();
        known.extend(new.into_iter().map(|id| (id, None)));
        known.extend(found.into_iter().map(|(id, record)| (id, Some(record))));
        Ok(ids.iter().filter_map(|id| Some((id.clone(), (*known.get(id)?)?))).collect())
    }

    /// Whether keys that were looked up have another record by now, or one for the first time. Takes a round trip.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn keys_moved<R: Resource>(&mut self, ids: &[ExternalId]) -> Result<bool, Error> {
        let before = self.by_external_ids::<R>(ids).await?;
        Ok(self.look_up::<R>(ids).await? != before)
    }

    /// The records that have these keys now.
    async fn look_up<R: Resource>(
        &mut self,
        ids: &[ExternalId],
    ) -> Result<BTreeMap<ExternalId, Uuid>, Error> {
        if ids.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (sources, keys): (Vec<_>, Vec<_>) =
            ids.iter().map(|id| (id.source.clone(), id.external_id.clone())).unzip();
        let tenant = self.tenant();
        let rows: Vec<(String, String, Uuid)> = sqlx::query_as(
            // Key by key: a plan made while the table was small would else read all of it for each key when it has grown.
            "SELECT e.source, e.external_id, e.record_id
             FROM unnest($3::text[], $4::text[]) AS k (source, external_id)
             CROSS JOIN LATERAL (SELECT source, external_id, record_id FROM external_ids
               WHERE tenant_id = $1 AND resource = $2 AND source = k.source AND external_id = k.external_id
               LIMIT 1) e",
        )
        .bind(tenant)
        .bind(R::NAME)
        .bind(sources)
        .bind(keys)
        .fetch_all(self.conn().await?)
        .await
        .map_err(database)?;
        Ok(rows
            .into_iter()
            .map(|(source, external_id, id)| (ExternalId { source, external_id }, id))
            .collect())
    }

    /// What each of these records, which are about to be written, has that belongs to another one: ids of new ones, keys in
    /// other systems and values of unique fields. One of the list that takes what an earlier one has loses too.
    ///
    /// `chosen` are ids of new ones that did not come from our clock. Costs nothing where there is nothing unique, else one
    /// round trip for ids, one for keys that were not looked up yet, and one for values. The id of a single new record is left to
    /// the statement that writes it, which fails with the same error.
    pub async fn conflicts<R: Resource>(
        &mut self,
        records: &[&R],
        chosen: &[Uuid],
    ) -> Result<Vec<Option<Error>>, Error> {
        let unique: Vec<Definition> =
            self.custom_fields::<R>().iter().filter(|field| field.is_unique).cloned().collect();
        let wanted: Vec<ExternalId> = records
            .iter()
            .filter(|r| is_live(**r))
            .flat_map(|record| record.external_ids().iter().cloned())
            .collect();
        let mut ids = self.by_external_ids::<R>(&wanted).await?;
        let mut keys = self.taken_keys(&unique, records).await?;
        let mut taken = self.taken_ids(records, chosen).await?;
        let mut results = Vec::with_capacity(records.len());
        for record in records {
            let is_new = record.version() == 1;
            let conflict = if is_new && taken.contains(&record.id()) {
                Some(Error::AlreadyExists { resource: R::NAME.into(), problem: "its id is taken".into() })
            } else if is_live(*record) {
                conflict(*record, &unique, &mut ids, &mut keys)
            } else {
                None
            };
            if conflict.is_none() {
                taken.insert(record.id());
            }
            results.push(conflict);
        }
        Ok(results)
    }

    /// Those of the ids that were given before, in sight of the caller or not.
    async fn taken_ids<R: Resource>(
        &mut self,
        records: &[&R],
        chosen: &[Uuid],
    ) -> Result<BTreeSet<Uuid>, Error> {
        if chosen.is_empty() || records.len() == 1 {
            return Ok(BTreeSet::new());
        }
        let taken: Vec<Uuid> = sqlx::query_scalar("SELECT rapport.taken($1::text::regclass, $2)")
            .bind(R::TABLE)
            .bind(chosen)
            .fetch_all(self.conn().await?)
            .await
            .map_err(database)?;
        Ok(taken.into_iter().collect())
    }

    async fn taken_keys<R: Resource>(
        &mut self,
        unique: &[Definition],
        records: &[&R],
    ) -> Result<BTreeMap<(Uuid, String), Uuid>, Error> {
        let (fields, values): (Vec<Uuid>, Vec<String>) = records
            .iter()
            .flat_map(|record| {
                unique.iter().filter_map(|f| value(*record, f).map(|v| (f.id, key_text(f.kind, v))))
            })
            .unzip();
        if fields.is_empty() {
            return Ok(BTreeMap::new());
        }
        let tenant = self.tenant();
        let rows: Vec<(Uuid, String, Uuid)> = sqlx::query_as(
            "SELECT t.field_id, t.value, t.record_id FROM unnest($2::uuid[], $3::text[]) AS k (field_id, value)
             CROSS JOIN LATERAL (SELECT field_id, value, record_id FROM attribute_keys
               WHERE tenant_id = $1 AND field_id = k.field_id AND value = k.value LIMIT 1) t",
        )
        .bind(tenant)
        .bind(fields)
        .bind(values)
        .fetch_all(self.conn().await?)
        .await
        .map_err(database)?;
        Ok(rows.into_iter().map(|(field, value, record)| ((field, value), record)).collect())
    }
}

/// What of the record belongs to another one; if nothing, all of it belongs to this one from here on.
fn conflict<R: Resource>(
    record: &R,
    unique: &[Definition],
    ids: &mut BTreeMap<ExternalId, Uuid>,
    keys: &mut BTreeMap<(Uuid, String), Uuid>,
) -> Option<Error> {
    let other = |holder: Option<&Uuid>| holder.is_some_and(|holder| *holder != record.id());
    let exists = |problem| Some(Error::AlreadyExists { resource: R::NAME.into(), problem });
    if let Some(id) = record.external_ids().iter().find(|id| other(ids.get(*id))) {
        return exists(format!("`{}` of `{}` belongs to another {}", id.external_id, id.source, R::NAME));
    }
    let values = unique.iter().filter_map(|field| Some((field, key_text(field.kind, value(record, field)?))));
    let values: Vec<_> = values.map(|(field, value)| (field, (field.id, value))).collect();
    if let Some((field, (_, value))) = values.iter().find(|(_, key)| other(keys.get(key))) {
        let key = &field.key;
        return exists(format!(
            "another {} has the value `{value}` of `attributes.{key}`, which is unique",
            R::NAME
        ));
    }
    ids.extend(record.external_ids().iter().map(|id| (id.clone(), record.id())));
    keys.extend(values.into_iter().map(|(_, key)| (key, record.id())));
    None
}
