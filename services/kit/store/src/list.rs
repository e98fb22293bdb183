//! Lists: a filter, an order, and keyset pages on `(sort value, id)`.
use std::sync::Arc;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD as B64};
use rapport_filter::{Catalogue, Condition, Field, FilterError, Joined, Kind, Order, Source, Target};
use rapport_kernel::{Date, Error, Instant};
use sqlx::{Postgres, QueryBuilder, Row as _, postgres::PgRow};
use uuid::Uuid;

use crate::{
    Resource, TenantTx,
    error::database,
    read::{Sight, qualified},
    resource::column,
    time,
};

/// Records on a page when the caller does not say, and at most.
const DEFAULT_PAGE: i32 = 50;
const MAX_PAGE: i32 = 200;

/// What a caller asks of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListParams<'r> {
    /// CEL.
    pub filter: &'r str,
    /// A field and an optional `desc`.
    pub order_by: &'r str,
    /// 1 to 200; 0 means 50.
    pub page_size: i32,
    /// From the previous page.
    pub page_token: &'r str,
    /// Whether deleted records are among them.
    pub show_deleted: bool,
}

/// Some records, and how to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<R> {
    /// The records.
    pub items: Vec<R>,
    /// Empty on the last page.
    pub next_page_token: String,
}

/// Where a page ended: the sort value (none where the id is the order), whether the record had one, and its id.
#[derive(Debug)]
struct Cursor {
    key: Option<Key>,
    present: bool,
    id: Uuid,
}

/// A sort value, as bound.
#[derive(Debug)]
enum Key {
    Text(String),
    Number(i64),
    Date(Date),
    Instant(Instant),
    Boolean(bool),
    Id(Uuid),
}

/// What may be in sight of somebody besides their own records: where nothing can be, nothing is looked for.
#[derive(Clone, Copy, Debug)]
struct Reach {
    /// The unit that they are in.
    unit: Option<Uuid>,
    /// Whether records were shared with them.
    shared: bool,
}

/// A query that was understood.
struct Query {
    filter: Condition,
    order: Order,
    limit: i64,
    after: Option<Cursor>,
    fingerprint: String,
    show_deleted: bool,
}

impl TenantTx {
    /// Lists the records that the caller sees.
    ///
    /// # Errors
    /// `Invalid` for a filter, order or page token that cannot be; the text says where and what would be right.
    pub async fn list<R: Resource>(&mut self, params: &ListParams<'_>) -> Result<Page<R>, Error> {
        self.list_up_to(params, MAX_PAGE).await
    }

    /// The same with pages of up to `most` records.
    pub(crate) async fn list_up_to<R: Resource>(
        &mut self,
        params: &ListParams<'_>,
        most: i32,
    ) -> Result<Page<R>, Error> {
        let sight = self.sight::<R>()?;
        let query = Query::parse::<R>(params, &self.catalogue::<R>(), most)?;
        let reach = match sight {
            Sight::Unit(user) => self.reach::<R>(user).await?,
            Sight::All | Sight::Own(_) => Reach { unit: None, shared: true },
        };
        let mut sql = query.sql::<R>(self.tenant(), sight, reach);
        // Not kept prepared: PostgreSQL would soon plan it once for an average tenant and an average user, and callers'
        // filters would crowd out the statements that everybody needs.
        let rows = sql.build().persistent(false).fetch_all(self.conn().await?).await.map_err(database)?;
        query.page(rows)
    }

    /// What a user who reads the records of a unit sees besides their own.
    async fn reach<R: Resource>(&mut self, user: Uuid) -> Result<Reach, Error> {
        let (unit, shared) = sqlx::query_as(
            "SELECT (SELECT u.unit_id FROM directory_users u WHERE u.tenant_id = $1 AND u.id = $2),
               EXISTS (SELECT FROM record_shares s WHERE s.tenant_id = $1 AND s.principal = $2 AND s.resource = $3)",
        )
        .bind(self.tenant())
        .bind(user)
        .bind(R::NAME)
        .fetch_one(self.conn().await?)
        .await
        .map_err(database)?;
        Ok(Reach { unit, shared })
    }
}

impl Query {
    fn parse<R: Resource>(params: &ListParams<'_>, catalogue: &Catalogue, most: i32) -> Result<Self, Error> {
        let refuse = |field: &'static str| move |error: FilterError| Error::invalid(field, error.to_string());
        let filter = Condition::parse(params.filter, catalogue).map_err(refuse("filter"))?;
        let order = match Order::parse(params.order_by, catalogue).map_err(refuse("order_by"))? {
            Some(order) => order,
            // The usual order may be by a field that is hidden from this caller: then the newest come first.
            None => Order::parse(R::DEFAULT_ORDER, catalogue).ok().flatten().unwrap_or_else(|| Order {
                field: Arc::new(column("id", Kind::Id).sortable()),
                descending: true,
            }),
        };
        let limit = match params.page_size {
            ..0 => return Err(Error::invalid("page_size", "must not be negative")),
            0 => DEFAULT_PAGE.into(),
            size => size.min(most).into(),
        };
        let fingerprint = format!(
            "{}.{:x}.{}",
            R::KIND,
            rapport_filter::fingerprint(&filter, Some(&order)),
            u8::from(params.show_deleted)
        );
        let after = match params.page_token {
            "" => None,
            token => Some(Cursor::decode(token, &fingerprint, &order.field).ok_or_else(|| {
                Error::invalid("page_token", "does not belong to this query; begin again without it")
            })?),
        };
        Ok(Self { filter, order, limit, after, fingerprint, show_deleted: params.show_deleted })
    }

    /// The statement: one branch where everything is in sight; else one for own records, one for those of the caller's units
    /// and one for shared ones, each planned by itself, so that each is served by its own index.
    ///
    /// The caller's unit is named, so that the planner knows how many stand below it, and with that whether to go by the index of
    /// units or by the one that is sorted as the list is. Those below are not: to look through a thousand of them takes it a
    /// millisecond.
    fn sql<R: Resource>(&self, tenant: Uuid, sight: Sight, reach: Reach) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new("");
        match (sight, R::OWNER) {
            (Sight::Own(user) | Sight::Unit(user), Some(owner)) => {
                let unit = R::UNIT.zip(reach.unit);
                let below = |sql: &mut QueryBuilder<Postgres>, (column, unit): (&str, Uuid)| {
                    sql.push(format_args!(
                        "t.{column} IN (SELECT b.unit_id FROM directory_units_below b WHERE b.tenant_id = "
                    ))
                    .push_bind(tenant);
                    sql.push(" AND b.above_id = ").push_bind(unit).push(")");
                };
                sql.push("SELECT * FROM ((");
                self.branch::<R>(&mut sql, tenant, false);
                sql.push(format_args!(" AND t.{owner} = ")).push_bind(user);
                self.tail(&mut sql, "t.", true);
                if let Some(unit) = unit {
                    sql.push(") UNION ALL (");
                    self.branch::<R>(&mut sql, tenant, false);
                    sql.push(format_args!(" AND t.{owner} IS DISTINCT FROM ")).push_bind(user).push(" AND ");
                    below(&mut sql, unit);
                    self.tail(&mut sql, "t.", true);
                }
                if reach.shared {
                    sql.push(") UNION ALL (");
                    self.branch::<R>(&mut sql, tenant, false);
                    sql.push(format_args!(" AND t.{owner} IS DISTINCT FROM ")).push_bind(user);
                    if let Some(unit) = unit {
                        sql.push(" AND (");
                        below(&mut sql, unit);
                        sql.push(") IS NOT TRUE");
                    }
                    sql.push(" AND t.id IN (SELECT s.record_id FROM record_shares s WHERE s.tenant_id = ")
                        .push_bind(tenant);
                    sql.push(" AND s.principal = ").push_bind(user);
                    sql.push(" AND s.resource = ").push_bind(R::NAME).push(")");
                    self.tail(&mut sql, "t.", true);
                }
                sql.push(")) u");
                self.tail(&mut sql, "u.", false);
            }
            _ => {
                let along = self.filter.fields().iter().all(|field| field.name == self.order.field.name);
                self.branch::<R>(&mut sql, tenant, along);
                self.tail(&mut sql, "t.", true);
            }
        }
        sql
    }

    /// `SELECT … WHERE …`, without order. `along` says that nothing but the field that sorts decides which records are listed:
    /// then its index is walked along, and each record met is read by its id, whatever the planner knows of the tables so far.
    /// With another filter it has to choose: what few records satisfy is found first and sorted then.
    fn branch<R: Resource>(&self, sql: &mut QueryBuilder<Postgres>, tenant: Uuid, along: bool) {
        let (value, present) = self.sort_value();
        sql.push("SELECT ").push(qualified(R::COLUMNS));
        sql.push(format_args!(", {value} AS sort_value, {present} AS sort_present FROM "));
        match &self.order.field.source {
            Source::Indexed { field_id } => {
                let side = side_table(&self.order.field.kind);
                if along {
                    sql.push(format_args!(
                        "{side} a CROSS JOIN LATERAL (SELECT * FROM {} r WHERE r.tenant_id = ",
                        R::TABLE
                    ));
                    sql.push_bind(tenant).push(" AND r.id = a.record_id OFFSET 0) t WHERE a.tenant_id = ");
                } else {
                    sql.push(format_args!(
                        "{} t JOIN {side} a ON a.record_id = t.id WHERE a.tenant_id = ",
                        R::TABLE
                    ));
                }
                sql.push_bind(tenant).push(" AND a.field_id = ").push_bind(*field_id).push(" AND ");
            }
            _ => {
                sql.push(R::TABLE).push(" t WHERE ");
            }
        }
        sql.push("t.tenant_id = ").push_bind(tenant);
        if R::SOFT_DELETE && !self.show_deleted {
            sql.push(" AND t.delete_time IS NULL");
        }
        sql.push(" AND ");
        let joined = match &self.order.field.source {
            Source::Indexed { field_id } => Some(Joined { field_id: *field_id, alias: "a" }),
            _ => None,
        };
        self.filter.write(sql, Target { alias: "t", tenant, joined });
        if let Some(after) = &self.after {
            let past = if self.order.descending { "<" } else { ">" };
            match &after.key {
                Some(key) if self.indexed() => {
                    sql.push(format_args!(" AND (a.present, a.value, a.record_id) {past} ("));
                    sql.push_bind(after.present).push(", ");
                    key.bind(sql);
                    sql.push(", ");
                }
                Some(key) => {
                    sql.push(format_args!(" AND ({value}, t.id) {past} ("));
                    key.bind(sql);
                    sql.push(", ");
                }
                None => {
                    sql.push(format_args!(" AND t.id {past} ("));
                }
            }
            sql.push_bind(after.id).push(")");
        }
    }

    fn tail(&self, sql: &mut QueryBuilder<Postgres>, from: &str, inside: bool) {
        let direction = if self.order.descending { "DESC" } else { "ASC" };
        let keys = if self.by_id() {
            vec![format!("{from}id")]
        } else if self.indexed() && inside {
            vec!["a.present".into(), "a.value".into(), "a.record_id".into()]
        } else if self.indexed() {
            vec![format!("{from}sort_present"), format!("{from}sort_value"), format!("{from}id")]
        } else if inside {
            vec![self.sort_value().0, format!("{from}id")]
        } else {
            vec![format!("{from}sort_value"), format!("{from}id")]
        };
        let keys: Vec<_> = keys.into_iter().map(|key| format!("{key} {direction}")).collect();
        sql.push(format_args!(" ORDER BY {} LIMIT ", keys.join(", "))).push_bind(self.limit + 1);
    }

    /// The SQL of the sort value, and of whether it is there.
    fn sort_value(&self) -> (String, &'static str) {
        match &self.order.field.source {
            Source::Indexed { .. } => ("a.value".into(), "a.present"),
            Source::Column(column) => (format!("t.{column}"), "true"),
            _ => ("t.id".into(), "true"),
        }
    }

    fn indexed(&self) -> bool {
        matches!(self.order.field.source, Source::Indexed { .. })
    }

    fn by_id(&self) -> bool {
        is_id(&self.order.field)
    }

    fn page<R: Resource>(&self, mut rows: Vec<PgRow>) -> Result<Page<R>, Error> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next_page_token = match rows.last() {
            Some(last) if more => self.token(last)?,
            _ => String::new(),
        };
        let items = rows.iter().map(|row| R::from_row(row).map_err(database)).collect::<Result<_, _>>()?;
        Ok(Page { items, next_page_token })
    }

    fn token(&self, last: &PgRow) -> Result<String, Error> {
        let cursor = Cursor {
            key: if self.by_id() { None } else { Some(Key::of(last, &self.order.field)?) },
            present: last.try_get("sort_present").map_err(database)?,
            id: last.try_get("id").map_err(database)?,
        };
        Ok(cursor.encode(&self.fingerprint))
    }
}

impl Cursor {
    /// The query's fingerprint, the id, presence and the sort value, separated by blanks, of which only the last may hold one.
    fn encode(&self, fingerprint: &str) -> String {
        let value = self.key.as_ref().map(Key::text).unwrap_or_default();
        B64.encode(format!("{fingerprint} {} {} {value}", self.id.simple(), u8::from(self.present)))
    }

    /// `None` where the token is not one of this query. A value is read as what the order sorts by, so that whatever comes
    /// in is of the type that the statement compares it with.
    fn decode(token: &str, fingerprint: &str, field: &Field) -> Option<Self> {
        let text = String::from_utf8(B64.decode(token).ok()?).ok()?;
        let mut parts = text.strip_prefix(fingerprint)?.strip_prefix(' ')?.splitn(3, ' ');
        let id = Uuid::try_parse(parts.next()?).ok()?;
        let present = parts.next()? == "1";
        let value = parts.next()?;
        let key = if is_id(field) { None } else { Some(Key::parse(value, field)?) };
        Some(Self { key, present, id })
    }
}

impl Key {
    fn of(row: &PgRow, field: &Field) -> Result<Self, Error> {
        let at = "sort_value";
        let stored = matches!(field.source, Source::Column(_));
        let key = match field.kind {
            Kind::Boolean if stored => row.try_get(at).map(Self::Boolean),
            Kind::Id if stored => row.try_get(at).map(Self::Id),
            Kind::Number { .. } | Kind::Boolean => row.try_get(at).map(Self::Number),
            Kind::Date => row.try_get(at).map(Self::Date),
            Kind::Instant => row.try_get(at).map(Self::Instant),
            Kind::Text | Kind::Choice(_) | Kind::TextList(_) | Kind::Id => row.try_get(at).map(Self::Text),
        };
        key.map_err(database)
    }

    fn text(&self) -> String {
        match self {
            Self::Text(value) => value.clone(),
            Self::Number(value) => value.to_string(),
            Self::Date(value) => value.to_string(),
            Self::Instant(value) => value.to_string(),
            Self::Boolean(value) => value.to_string(),
            Self::Id(value) => value.to_string(),
        }
    }

    fn parse(text: &str, field: &Field) -> Option<Self> {
        let stored = matches!(field.source, Source::Column(_));
        Some(match field.kind {
            Kind::Boolean if stored => Self::Boolean(text.parse().ok()?),
            Kind::Id if stored => Self::Id(text.parse().ok()?),
            Kind::Number { .. } | Kind::Boolean => Self::Number(text.parse().ok()?),
            Kind::Date => Self::Date(time::civil(text)?),
            Kind::Instant => Self::Instant(time::instant(text)?),
            Kind::Text | Kind::Choice(_) | Kind::TextList(_) | Kind::Id => Self::Text(text.to_owned()),
        })
    }

    fn bind(&self, sql: &mut QueryBuilder<Postgres>) {
        match self {
            Self::Text(v) => sql.push_bind(v.clone()),
            Self::Number(v) => sql.push_bind(*v),
            Self::Date(v) => sql.push_bind(*v),
            Self::Instant(v) => sql.push_bind(*v),
            Self::Boolean(v) => sql.push_bind(*v),
            Self::Id(v) => sql.push_bind(*v),
        };
    }
}

/// The side table of an indexed custom field.
pub(crate) fn side_table(kind: &Kind) -> &'static str {
    match kind {
        Kind::Text | Kind::Choice(_) | Kind::TextList(_) | Kind::Id => "attribute_texts",
        Kind::Number { .. } | Kind::Boolean => "attribute_numbers",
        Kind::Date => "attribute_dates",
        Kind::Instant => "attribute_instants",
    }
}

/// Whether the order is by id alone.
fn is_id(field: &Field) -> bool {
    matches!(field.source, Source::Column("id"))
}
