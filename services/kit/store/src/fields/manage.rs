//! Defining, changing, archiving custom fields: what every service's `FieldService` does.
use std::collections::BTreeMap;

use rapport_kernel::{Error, Id, cut};
use rapport_proto::fields::v1 as pb;

use super::{Access, Choice, Definition, FieldKind, FieldState, indexing};
use crate::{Diff, Etag, ListParams, Page, Resource as _, TenantTx, diff, error::database, mask};

/// The most custom fields that one resource has, and the most indexed ones.
const MAX_FIELDS: usize = 500;
const MAX_INDEXED: usize = 20;

/// The most definitions on one page.
const MAX_PAGE: i32 = 1_000;

/// Lists definitions, in the order of their keys.
pub async fn list(tx: &mut TenantTx, request: &pb::ListFieldsRequest) -> Result<Page<Definition>, Error> {
    let mut parts = Vec::new();
    if !request.resource.is_empty() {
        parts.push(format!("resource == {}", serde_json::Value::from(request.resource.as_str())));
    }
    if !request.show_archived {
        parts.push("state != \"archived\"".to_owned());
    }
    let params = ListParams {
        filter: &parts.join(" && "),
        page_size: if request.page_size == 0 { MAX_PAGE } else { request.page_size },
        page_token: &request.page_token,
        ..ListParams::default()
    };
    tx.list_up_to(&params, MAX_PAGE).await
}

/// Reads one definition.
pub async fn get(tx: &mut TenantTx, id: &str) -> Result<Definition, Error> {
    tx.get(Id::<Definition>::parse("id", id)?.uuid()).await
}

/// Defines a field of one of the `resources`, which are given with their tables.
pub async fn create(
    tx: &mut TenantTx,
    field: pb::Field,
    resources: &[(&'static str, &'static str)],
) -> Result<Definition, Error> {
    let table = table_of(&field.resource, resources)?;
    tx.change_fields().await?;
    let now = tx.now();
    let mut new = Definition {
        id: match field.id.as_str() {
            "" => tx.ctx().new_id::<Definition>().uuid(),
            id => Id::<Definition>::parse("field.id", id)?.uuid(),
        },
        version: 1,
        resource: field.resource.clone(),
        key: field.key.clone(),
        kind: FieldKind::from_proto(field.kind)
            .ok_or_else(|| Error::invalid("field.kind", "must be given, e.g. FIELD_KIND_TEXT"))?,
        labels: field.labels.clone().into_iter().collect(),
        help: field.help.clone().into_iter().collect(),
        scale: i16::try_from(field.scale).map_err(|_| Error::invalid("field.scale", "must be 0 to 6"))?,
        required: field.required,
        is_unique: field.unique,
        indexed: field.indexed,
        default_value: None,
        choices: choices(&field),
        reference_kind: field.reference_kind.clone(),
        personal: field.personal,
        state: FieldState::Active,
        create_time: now,
        update_time: now,
        access: Access::Full,
    };
    new.default_value = default(&new, &field, &tx.ctx().phone_region)?;
    check(&new)?;
    check_room(tx, &new).await?;
    if new.indexed {
        new.state = indexing::begin(tx, &new, table).await?;
    }
    tx.insert(&new)?;
    tx.emit(&new, &pb::FieldCreated { field: Some(new.clone().into()) })?;
    Ok(new)
}

/// Changes labels, help, choices, default, and whether a field is required or indexed.
pub async fn update(
    tx: &mut TenantTx,
    field: pb::Field,
    update_mask: Option<&prost_types::FieldMask>,
    resources: &[(&'static str, &'static str)],
) -> Result<Definition, Error> {
    let paths = mask::paths(tx.ctx(), Definition::KIND, &field, update_mask)?;
    let before = held(tx, "field.id", &field.id, "field.etag", &field.etag).await?;
    if before.state == FieldState::Archived {
        return Err(Error::rule(
            "FIELD_ARCHIVED",
            format!("field `{}` is archived; bring it back first", before.key),
        ));
    }
    let mut after = before.clone();
    for path in &paths {
        match path.as_str() {
            "labels" => after.labels = field.labels.clone().into_iter().collect(),
            "help" => after.help = field.help.clone().into_iter().collect(),
            "choices" => after.choices = choices(&field),
            "required" => after.required = field.required,
            "indexed" => after.indexed = field.indexed,
            "personal" => after.personal = field.personal,
            "default_value" => {}
            "resource" | "key" | "kind" | "scale" | "unique" | "reference_kind" => {
                return Err(Error::invalid(
                    format!("field.{path}"),
                    "cannot be changed, since values are stored under it; define another field",
                ));
            }
            other => return Err(Error::invalid("update_mask", format!("`{other}` cannot be changed"))),
        }
    }
    if paths.iter().any(|path| path == "default_value") {
        // Read last, since it must be one of the choices as they are now.
        after.default_value = default(&after, &field, &tx.ctx().phone_region)?;
    }
    for choice in &before.choices {
        if !after.choices.iter().any(|c| c.key == choice.key) {
            let problem = format!(
                "`{}` cannot be taken away, since records may have it; set `archived` on it",
                choice.key
            );
            return Err(Error::invalid("field.choices", problem));
        }
    }
    check(&after)?;
    if after.indexed && !before.indexed {
        check_room(tx, &after).await?;
        after.state = indexing::begin(tx, &after, table_of(&after.resource, resources)?).await?;
    } else if !after.indexed {
        after.state = FieldState::Active;
    }
    save(tx, &before, after)
}

/// Archives a field: its data is kept.
pub async fn delete(tx: &mut TenantTx, request: &pb::DeleteFieldRequest) -> Result<Definition, Error> {
    let before = held(tx, "id", &request.id, "etag", &request.etag).await?;
    if before.state == FieldState::Archived {
        return Err(Error::rule("FIELD_ARCHIVED", format!("field `{}` is archived already", before.key)));
    }
    let after = Definition { state: FieldState::Archived, ..before.clone() };
    save(tx, &before, after)
}

/// Brings an archived field back, with its data.
pub async fn undelete(
    tx: &mut TenantTx,
    request: &pb::UndeleteFieldRequest,
    resources: &[(&'static str, &'static str)],
) -> Result<Definition, Error> {
    let before = held(tx, "id", &request.id, "etag", &request.etag).await?;
    if before.state != FieldState::Archived {
        return Err(Error::rule("FIELD_NOT_ARCHIVED", format!("field `{}` is not archived", before.key)));
    }
    check_room(tx, &before).await?;
    if before.is_unique {
        // While it was archived nobody watched over it.
        indexing::rebuild_keys(tx, &before, table_of(&before.resource, resources)?).await?;
    }
    let mut after = Definition { state: FieldState::Active, ..before.clone() };
    if after.indexed {
        after.state = indexing::begin(tx, &after, table_of(&after.resource, resources)?).await?;
    }
    save(tx, &before, after)
}

/// Collects a changed definition and its event; nothing when nothing changed.
pub(super) fn save(tx: &mut TenantTx, before: &Definition, after: Definition) -> Result<Definition, Error> {
    if after == *before {
        return Ok(after);
    }
    let after = Definition { version: before.version + 1, update_time: tx.now(), ..after };
    tx.update(before, &after)?;
    let Diff { paths, before } = diff::<pb::Field>(&before.clone().into(), &after.clone().into());
    let event = pb::FieldUpdated {
        field: Some(after.clone().into()),
        before: Some(before),
        changed_paths: paths.clone(),
    };
    tx.emit_changed(&after, &event, &paths)?;
    Ok(after)
}

/// Reads the definition for a change, and says that fields change.
async fn held(
    tx: &mut TenantTx,
    id_field: &str,
    id: &str,
    etag_field: &str,
    etag: &str,
) -> Result<Definition, Error> {
    let id = Id::<Definition>::parse(id_field, id)?.uuid();
    let etag = Etag::parse(etag_field, etag)?;
    tx.change_fields().await?;
    let before = tx.get_for_update::<Definition>(id).await?;
    etag.matches(&before)?;
    Ok(before)
}

fn table_of(resource: &str, resources: &[(&'static str, &'static str)]) -> Result<&'static str, Error> {
    resources.iter().find(|(name, _)| *name == resource).map(|(_, table)| *table).ok_or_else(|| {
        let known = resources.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Error::invalid(
            "field.resource",
            format!("`{}` has no custom fields here; there are {known}", cut(resource)),
        )
    })
}

fn choices(field: &pb::Field) -> Vec<Choice> {
    field
        .choices
        .iter()
        .map(|choice| Choice {
            key: choice.key.clone(),
            labels: choice.labels.clone().into_iter().collect::<BTreeMap<_, _>>(),
            archived: choice.archived,
        })
        .collect()
}

fn default(field: &Definition, given: &pb::Field, region: &str) -> Result<Option<crate::Attribute>, Error> {
    let Some(value) = &given.default_value else { return Ok(None) };
    field.read(value, region).map_err(|problem| Error::invalid("field.default_value", problem))
}

/// The rules of a definition's parts and between them.
fn check(field: &Definition) -> Result<(), Error> {
    let word = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && key.len() <= 63;
    if !field.key.starts_with(|c: char| c.is_ascii_lowercase()) || !word(&field.key) {
        let problem =
            "must be a small letter, then letters, digits or `_`, 63 at most, like `monthlyCharges`";
        return Err(Error::invalid("field.key", problem));
    }
    if !(0..=6).contains(&field.scale) {
        return Err(Error::invalid("field.scale", "must be 0 to 6"));
    }
    check_choices(field)?;
    if (field.kind == FieldKind::Reference) == field.reference_kind.is_empty() {
        return Err(Error::invalid("field.reference_kind", "is for references, and every reference has one"));
    }
    if field.scale != 0 && field.kind != FieldKind::Number {
        return Err(Error::invalid("field.scale", "is for numbers only"));
    }
    let can_be_unique = matches!(
        field.kind,
        FieldKind::Text | FieldKind::Number | FieldKind::Phone | FieldKind::Email | FieldKind::Url
    );
    if field.is_unique && !can_be_unique {
        return Err(Error::invalid("field.unique", "is for texts, numbers, phones, e-mails and URLs only"));
    }
    if field.indexed && matches!(field.kind, FieldKind::Money | FieldKind::Phone) {
        return Err(Error::invalid("field.indexed", "is not for money and phones"));
    }
    check_default(field)
}

/// The default is a value that could be given, now and not only when it was set.
fn check_default(field: &Definition) -> Result<(), Error> {
    let Some(value) = &field.default_value else { return Ok(()) };
    if field.is_unique {
        return Err(Error::invalid(
            "field.default_value",
            "is not for unique fields: the second record could not have it",
        ));
    }
    if field.kind == FieldKind::Phone {
        return Ok(());
    }
    field.read(&value.into(), "").map(drop).map_err(|problem| Error::invalid("field.default_value", problem))
}

fn check_choices(field: &Definition) -> Result<(), Error> {
    let is_choice = matches!(field.kind, FieldKind::Choice | FieldKind::MultiChoice);
    if is_choice && field.choices.iter().all(|choice| choice.archived) {
        return Err(Error::invalid("field.choices", "must have at least one that is offered"));
    }
    if !is_choice && !field.choices.is_empty() {
        return Err(Error::invalid("field.choices", "belong to choices and multi-choices only"));
    }
    let mut keys: Vec<_> = field.choices.iter().map(|choice| choice.key.as_str()).collect();
    keys.sort_unstable();
    if let Some([twice, _]) =
        keys.windows(2).find(|pair| pair.first() == pair.last()).and_then(|p| p.first_chunk::<2>())
    {
        return Err(Error::invalid("field.choices", format!("`{twice}` stands there twice")));
    }
    if keys.iter().any(|key| key.contains([';', '\n', '\r'])) {
        return Err(Error::invalid("field.choices", "keys must not contain `;` or line breaks"));
    }
    if keys.iter().any(|key| key.trim() != *key || key.is_empty() || key.chars().count() > 100) {
        return Err(Error::invalid(
            "field.choices",
            "keys have 1 to 100 characters and no blanks around them",
        ));
    }
    Ok(())
}

/// Whether the resource has room for the field, beside its other ones.
async fn check_room(tx: &mut TenantTx, field: &Definition) -> Result<(), Error> {
    let tenant = tx.tenant();
    let others: Vec<(String, bool)> = sqlx::query_as(
        "SELECT key, indexed AND state <> 'archived' FROM custom_fields
         WHERE tenant_id = $1 AND resource = $2 AND id <> $3",
    )
    .bind(tenant)
    .bind(&field.resource)
    .bind(field.id)
    .fetch_all(tx.conn().await?)
    .await
    .map_err(database)?;
    // JSON writes the paths of a mask without capitals, so names that differ only in them cannot be told apart there.
    if let Some((key, _)) = others.iter().find(|(key, _)| mask::letters(key) == mask::letters(&field.key)) {
        let problem = format!(
            "the key `{key}` is taken, maybe by an archived field; capitals and `_` make no difference"
        );
        return Err(Error::AlreadyExists { resource: "field".into(), problem });
    }
    if others.len() >= MAX_FIELDS {
        return Err(Error::rule(
            "TOO_MANY_FIELDS",
            format!("a resource has at most {MAX_FIELDS} custom fields"),
        ));
    }
    let indexed = others.iter().filter(|(_, indexed)| *indexed).count();
    if field.indexed && indexed >= MAX_INDEXED {
        let message = format!("a resource has at most {MAX_INDEXED} indexed custom fields");
        return Err(Error::rule("TOO_MANY_INDEXED_FIELDS", message));
    }
    Ok(())
}
