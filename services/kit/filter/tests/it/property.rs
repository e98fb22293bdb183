//! The SQL compiler and the evaluator agree: on a real PostgreSQL, about random records and conditions.

use std::cell::RefCell;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestError, TestRunner};
use rapport_filter::{Condition, Target};
use sqlx::postgres::PgArguments;
use sqlx::{AssertSqlSafe, Connection, Execute, PgConnection, Postgres, QueryBuilder};
use uuid::Uuid;

use crate::database::Database;
use crate::world::{self, Cell, InMemory, Place, Row, SLOTS};

const TENANT: Uuid = Uuid::from_u128(1);
/// Has side-table rows for the same records and fields, with each other's values.
const OTHER_TENANT: Uuid = Uuid::from_u128(2);

/// A mistake made on purpose, to see that the property notices it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Sabotage {
    None,
    /// NOT of a missing value is not true.
    ThreeValuedNot,
    /// `contains` reads `%` and `_` as wildcards.
    LikeForContains,
    /// Rows of side tables that say "no value" count as values.
    PresentForgotten,
    /// Side tables are read for all tenants.
    TenantForgotten,
    /// `<` is compiled as `<=`.
    OffByOne,
    /// `==` is true of a missing text, as with an IS NOT DISTINCT FROM '' habit.
    MissingIsEmpty,
}

impl Sabotage {
    fn apply(self, sql: &str) -> String {
        match self {
            Self::None => sql.to_owned(),
            Self::ThreeValuedNot => sql.replace(") IS NOT TRUE", ") IS FALSE"),
            Self::LikeForContains => sql.replace("strpos(", "sabotage.strpos("),
            Self::PresentForgotten => sql.replace(" AND present", ""),
            Self::TenantForgotten => sql.replace(
                "FROM attribute_texts WHERE tenant_id = ",
                "FROM attribute_texts WHERE tenant_id >= ",
            ),
            Self::OffByOne => sql.replace(" < ", " <= "),
            Self::MissingIsEmpty => sql.replace("t.text = ", "coalesce(t.text, '') = "),
        }
    }
}

#[derive(Debug, Clone)]
struct Case {
    scale: u8,
    rows: Vec<Row>,
    conditions: Vec<String>,
}

fn case() -> impl Strategy<Value = Case> {
    (0u8..=6).prop_flat_map(|scale| {
        let rows = prop::collection::vec(world::row(scale), 1..12);
        (rows, prop::collection::vec(world::condition(), 10)).prop_map(move |(rows, conditions)| Case {
            scale,
            rows,
            conditions,
        })
    })
}

async fn insert(connection: &mut PgConnection, rows: &[Row]) -> Result<(), sqlx::Error> {
    for (index, row) in rows.iter().enumerate() {
        let mut sql = QueryBuilder::<Postgres>::new("INSERT INTO records (tenant_id, id");
        let columns = || SLOTS.iter().zip(&row.cells).filter(|((_, place), _)| *place == Place::Column);
        for ((name, _), _) in columns() {
            let names = if *name == "money" { "money_minor, money_currency" } else { name };
            sql.push(", ").push(names);
        }
        sql.push(", attributes) VALUES (").push_bind(TENANT).push(", ").push_bind(world::row_id(index));
        for ((name, _), cell) in columns() {
            sql.push(", ");
            match (*name, cell) {
                ("money", Cell::Missing) => {
                    sql.push("NULL, NULL");
                }
                _ => bind(&mut sql, cell),
            }
        }
        sql.push(", ").push_bind(row.attributes()).push(")");
        sql.build().execute(&mut *connection).await?;
        let shifted = &rows[(index + 1) % rows.len()];
        for (tenant, values) in [(TENANT, row), (OTHER_TENANT, shifted)] {
            for (slot, _) in SLOTS.iter().enumerate().filter(|(_, (_, place))| *place == Place::SideTable) {
                insert_indexed(connection, tenant, slot, index, values).await?;
            }
        }
    }
    Ok(())
}

fn bind(sql: &mut QueryBuilder<Postgres>, cell: &Cell) {
    match cell {
        Cell::Missing => sql.push("NULL"),
        Cell::Text(text) => sql.push_bind(text),
        Cell::Number(number) => sql.push_bind(*number),
        Cell::Date(date) => sql.push_bind(jiff_sqlx::Date::from(*date)),
        Cell::Instant(instant) => sql.push_bind(jiff_sqlx::Timestamp::from(*instant)),
        Cell::Boolean(boolean) => sql.push_bind(*boolean),
        Cell::Id(id) => sql.push_bind(*id),
        Cell::List(texts) => sql.push_bind(texts),
        Cell::Money(minor, currency) => sql.push_bind(*minor).push(", ").push_bind(*currency),
        Cell::Odd(json) => panic!("{json} is not kept in a column"),
    };
}

async fn insert_indexed(
    connection: &mut PgConnection,
    tenant: Uuid,
    slot: usize,
    index: usize,
    row: &Row,
) -> Result<(), sqlx::Error> {
    let kind = world::kind(SLOTS[slot].0, row.scale);
    use rapport_filter::Kind;
    let (table, nothing) = match kind {
        Kind::Number { .. } | Kind::Boolean => ("attribute_numbers", Cell::Number(0)),
        Kind::Date => ("attribute_dates", Cell::Date("1990-01-31".parse().unwrap())),
        Kind::Instant => ("attribute_instants", Cell::Instant("2026-01-31T01:00:00Z".parse().unwrap())),
        _ => ("attribute_texts", Cell::Text(String::new())),
    };
    let values = match &row.cells[slot] {
        Cell::Missing => vec![],
        Cell::Boolean(boolean) => vec![Cell::Number((*boolean).into())],
        Cell::Id(id) => vec![Cell::Text(id.to_string())],
        Cell::List(texts) => texts.iter().cloned().map(Cell::Text).collect(),
        other => vec![other.clone()],
    };
    let present = !values.is_empty();
    for value in if present { values } else { vec![nothing] } {
        let mut sql = QueryBuilder::<Postgres>::new("INSERT INTO ");
        sql.push(table).push(" (tenant_id, field_id, record_id, present, value) VALUES (").push_bind(tenant);
        sql.push(", ").push_bind(world::field_id(slot)).push(", ").push_bind(world::row_id(index));
        sql.push(", ").push_bind(present).push(", ");
        bind(&mut sql, &value);
        sql.push(")").build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// The rows that PostgreSQL selects.
async fn selected(
    connection: &mut PgConnection,
    condition: &Condition,
    sabotage: Sabotage,
) -> Result<Vec<Uuid>, sqlx::Error> {
    let mut sql = QueryBuilder::<Postgres>::new("SELECT t.id FROM records t WHERE t.tenant_id = ");
    sql.push_bind(TENANT).push(" AND ");
    condition.write(&mut sql, Target { alias: "t", tenant: TENANT, joined: None });
    sql.push(" ORDER BY t.id");
    let arguments: PgArguments =
        sql.build().take_arguments().map_err(sqlx::Error::Encode)?.unwrap_or_default();
    let text = sabotage.apply(sql.sql().as_str());
    sqlx::query_scalar_with(AssertSqlSafe(text), arguments).fetch_all(connection).await
}

/// How often a condition was true of some rows but not of all.
#[derive(Default)]
struct Tally {
    conditions: u32,
    telling: u32,
}

async fn agree(
    connection: &mut PgConnection,
    case: &Case,
    sabotage: Sabotage,
    tally: &RefCell<Tally>,
) -> Result<(), TestCaseError> {
    let fail = |error: sqlx::Error| TestCaseError::fail(error.to_string());
    let catalogue = world::catalogue(case.scale);
    let mut transaction = connection.begin().await.map_err(fail)?;
    insert(&mut transaction, &case.rows).await.map_err(fail)?;
    for source in &case.conditions {
        let condition = Condition::parse(source, &catalogue)
            .map_err(|error| TestCaseError::fail(format!("{source}: {error}")))?;
        let in_memory: Vec<Uuid> = case
            .rows
            .iter()
            .enumerate()
            .filter(|(_, row)| condition.matches(&InMemory::new(row)))
            .map(|(index, _)| world::row_id(index))
            .collect();
        let in_sql = selected(&mut transaction, &condition, sabotage)
            .await
            .map_err(|error| TestCaseError::fail(format!("{source}: {error}")))?;
        prop_assert_eq!(&in_sql, &in_memory, "{}", source);
        let canonical = condition.to_string();
        prop_assert_eq!(Condition::parse(&canonical, &catalogue), Ok(condition), "{}", canonical);
        let mut tally = tally.borrow_mut();
        tally.conditions += 1;
        tally.telling += u32::from(!in_memory.is_empty() && in_memory.len() < case.rows.len());
    }
    transaction.rollback().await.map_err(fail)
}

fn run(cases: u32, sabotage: Sabotage) -> (Result<(), TestError<Case>>, Tally) {
    let database = RefCell::new(Database::create(include_str!("world.sql")));
    let tally = RefCell::new(Tally::default());
    // A sabotaged run only has to notice; the true one shall say it with few words.
    let max_shrink_iters = if sabotage == Sabotage::None { 2_000 } else { 0 };
    let config = Config { cases, max_shrink_iters, failure_persistence: None, ..Config::default() };
    let result = TestRunner::new(config).run(&case(), |case| {
        let database = &mut *database.borrow_mut();
        database.runtime.block_on(agree(&mut database.connection, &case, sabotage, &tally))
    });
    (result, tally.into_inner())
}

#[test]
fn sql_and_evaluator_agree_about_every_record() {
    let (result, tally) = run(Config::default().cases, Sabotage::None);
    if let Err(error) = result {
        panic!("{error}");
    }
    let Tally { conditions, telling } = tally;

    assert!(telling * 3 > conditions, "only {telling} of {conditions} conditions told records apart");
}

#[test]
fn the_property_notices_each_mistake() {
    use Sabotage::{
        LikeForContains, MissingIsEmpty, OffByOne, PresentForgotten, TenantForgotten, ThreeValuedNot,
    };
    for sabotage in
        [ThreeValuedNot, LikeForContains, PresentForgotten, TenantForgotten, OffByOne, MissingIsEmpty]
    {
        let (result, _) = run(2_000, sabotage);
        assert!(matches!(result, Err(TestError::Fail(..))), "{sabotage:?} went unnoticed");
    }
}
