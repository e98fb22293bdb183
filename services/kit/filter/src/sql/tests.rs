//! The SQL for each kind and source, to read at a glance; that it is right is proved against PostgreSQL in tests/it.

use sqlx::{Postgres, QueryBuilder};
use uuid::Uuid;

use super::{Joined, Target};
use crate::Condition;
use crate::sample::{ATTRIBUTE_ID, catalogue};

fn sql(source: &str) -> String {
    sql_beside(source, None)
}

fn sql_beside(source: &str, joined: Option<Joined>) -> String {
    let mut sql = QueryBuilder::<Postgres>::new("");
    let target = Target { alias: "t", tenant: Uuid::from_u128(1), joined };
    Condition::parse(source, &catalogue())
        .unwrap_or_else(|error| panic!("{source}: {error}"))
        .write(&mut sql, target);
    sql.into_string()
}

#[test]
fn conjuncts_at_the_top_stay_plain() {
    assert_eq!(sql(""), "TRUE");
    assert_eq!(sql("name == 'a' && size > 1"), "t.name = $1 AND t.size_cents > $2");
    assert_eq!(sql("active || size > 1"), "(t.active = $1 OR t.size_cents > $2)");
    assert_eq!(
        sql("active && (active || active && active)"),
        "t.active = $1 AND (t.active = $2 OR (t.active = $3 AND t.active = $4))"
    );
    assert_eq!(sql("!(name == 'a')"), "(t.name = $1) IS NOT TRUE");
    assert_eq!(sql("!(active || !active)"), "((t.active = $1 OR (t.active = $2) IS NOT TRUE)) IS NOT TRUE");
}

#[test]
fn columns_are_compared_as_they_are() {
    assert_eq!(sql("name.startsWith('杭')"), "t.name ^@ $1");
    assert_eq!(sql("name.endsWith('a')"), "right(t.name, $1) = $2");
    assert_eq!(sql("name.contains('a')"), "strpos(t.name, $1) > 0");
    assert_eq!(sql("name in ['a', 'b']"), "t.name = ANY($1)");
    assert_eq!(sql("'a' in tags"), "t.tags @> $1");
    assert_eq!(sql("has(tags)"), "cardinality(t.tags) > 0");
    assert_eq!(sql("has(name)"), "t.name IS NOT NULL");
    assert_eq!(
        sql("birth_date < '1990-01-01' && create_time >= '2026-01-01T00:00:00Z'"),
        "t.birth_date < $1 AND t.create_time >= $2"
    );
    assert_eq!(sql("size == 1.005"), "FALSE");
    assert_eq!(sql("size != 1.005"), "t.size_cents IS NOT NULL");
}

#[test]
fn the_field_that_sorts_is_tested_where_it_was_joined() {
    let sql = |source| sql_beside(source, Some(Joined { field_id: ATTRIBUTE_ID, alias: "a" }));
    assert_eq!(sql("attributes.score >= 3"), "(a.present AND a.value >= $1)");
    assert_eq!(sql("!has(attributes.score)"), "((a.present)) IS NOT TRUE");
}

#[test]
fn indexed_fields_are_found_through_their_side_table() {
    let from = |table| {
        format!("t.id IN (SELECT record_id FROM {table} WHERE tenant_id = $1 AND field_id = $2 AND present")
    };
    assert_eq!(sql("attributes.score >= 3"), format!("{} AND value >= $3)", from("attribute_numbers")));
    assert_eq!(sql("attributes.paperless"), format!("{} AND value = $3)", from("attribute_numbers")));
    assert_eq!(sql("attributes.segment != 'a'"), format!("{} AND value <> $3)", from("attribute_texts")));
    assert_eq!(sql("'a' in attributes.labels"), format!("{} AND value = $3)", from("attribute_texts")));
    assert_eq!(
        sql("attributes.due in ['2026-01-31']"),
        format!("{} AND value = ANY($3))", from("attribute_dates"))
    );
    assert_eq!(sql("has(attributes.score)"), format!("{})", from("attribute_numbers")));
    assert_eq!(sql("!has(attributes.score)"), format!("({})) IS NOT TRUE", from("attribute_numbers")));
}

#[test]
fn values_in_json_count_only_if_they_have_the_right_shape() {
    assert_eq!(
        sql("attributes.city == '杭州'"),
        "(CASE WHEN jsonb_typeof(t.attributes #> $1) = 'string' THEN (t.attributes #>> $2) END) = $3"
    );
    assert_eq!(
        sql("attributes.monthlyCharges < 29.85"),
        "(CASE WHEN jsonb_typeof(t.attributes #> $1) = 'number' THEN (t.attributes #>> $2)::numeric END) < $3::numeric"
    );
    assert_eq!(sql("'fibre' in attributes.plans"), "(t.attributes #> $1) @> jsonb_build_array($2::text)");
    assert!(
        sql("attributes.since > '2026-01-31'")
            .ends_with("THEN (t.attributes #>> $2) COLLATE \"C\" END) > $3")
    );
}

#[test]
fn an_amount_is_compared_by_the_places_of_its_currency() {
    assert_eq!(
        sql("revenue.amount >= 10.5"),
        "((t.revenue_currency = ANY($1) AND t.revenue_minor >= $2) OR (t.revenue_currency = ANY($3) AND t.revenue_minor >= $4))"
    );
    assert_eq!(sql("has(revenue.amount)"), "t.revenue_minor IS NOT NULL");
}
