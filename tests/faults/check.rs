//! What is wrong with what imports left behind, seen from behind the service's back.
use std::collections::HashMap;

use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    file::{Kept, SOURCE},
    imports::Expected,
};

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// A customer of the file is not there.
    Lost(String),
    /// A customer of the file is there more than once.
    Doubled(String),
    /// A customer's events are not one for each change, in order.
    Events(String),
    /// A value, or a row that belongs to a customer, is missing, wrong or too much.
    Differs(String),
    /// The import's figures are not those of the file.
    Figures(String),
    /// The import did not end, or it is still somebody's to work on.
    Left(String),
}

use Finding::{Differs, Doubled, Events, Figures, Left, Lost};

/// What belongs to customers, by their ids: a name, and the statement that reads it of tenant `$1`.
const FACETS: [(&str, &str); 7] = [
    (
        "events",
        "SELECT record_id, version || ' ' || type FROM (
           SELECT 0 AS number, id, tenant_id, resource, record_id, version, type FROM platform.outbox
           UNION ALL SELECT number, 0, tenant_id, resource, record_id, version, type FROM platform.event_log) AS events
         WHERE tenant_id = $1 AND resource = 'customer' ORDER BY number = 0, number, id",
    ),
    (
        "external ids",
        "SELECT record_id, source || ' ' || external_id FROM external_ids
         WHERE tenant_id = $1 AND resource = 'customer'",
    ),
    ("texts", "SELECT record_id, value FROM attribute_texts WHERE tenant_id = $1"),
    ("numbers", "SELECT record_id, value::text FROM attribute_numbers WHERE tenant_id = $1"),
    ("keys", "SELECT record_id, value FROM attribute_keys WHERE tenant_id = $1"),
    ("search", "SELECT record_id, name || ' ' || phones FROM customer_search WHERE tenant_id = $1"),
    ("imports", "SELECT record_id, version::text FROM import_rows WHERE tenant_id = $1 ORDER BY import_id"),
];

/// What must be there of each facet, in their order.
fn expected(kept: &Kept, keyed: bool) -> [Vec<String>; 7] {
    let row = kept.row;
    let event = |version| {
        let kind = if version == 1 { "Created" } else { "Updated" };
        format!("{version} rapport.customer.v1.Customer{kind}")
    };
    let only = |text: String, wanted: bool| if wanted { vec![text] } else { Vec::new() };
    [
        (1..=kept.version).map(event).collect(),
        only(format!("{SOURCE} {}", row.key()), keyed),
        vec![row.city().to_owned()],
        vec![row.score().1],
        only(row.key(), keyed),
        vec![format!("{} {phone} 86{phone}", row.name(), phone = row.phone())],
        kept.imports.iter().map(|(_, version)| version.to_string()).collect(),
    ]
}

/// The values of a customer itself.
fn values(kept: &Kept, keyed: bool) -> String {
    let row = kept.row;
    let mut values = format!(
        "{} {} {} +86{} {} {}",
        kept.version,
        row.name(),
        row.headcount(),
        row.phone(),
        row.city(),
        row.score().0
    );
    if keyed {
        values.push_str(&format!(" {0} {0}", row.key()));
    }
    values
}

/// Everything that is wrong; nothing, if the promises were kept.
pub(crate) async fn findings(url: &str, expected: &[Expected]) -> Vec<Finding> {
    let mut conn = PgConnection::connect(url).await.unwrap();
    let mut findings = Vec::new();
    for expected in expected {
        customers(&mut conn, expected, &mut findings).await;
        if let Some(import) = expected.import {
            figures(&mut conn, expected, import, &mut findings).await;
        }
    }
    let leases: i64 =
        sqlx::query_scalar("SELECT count(*) FROM platform.import_work").fetch_one(&mut conn).await.unwrap();
    if leases > 0 {
        findings.push(Left(format!("{leases} imports are still to be worked on")));
    }
    findings
}

async fn customers(conn: &mut PgConnection, tenant: &Expected, findings: &mut Vec<Finding>) {
    let mut there: HashMap<String, Vec<(Uuid, String)>> = HashMap::new();
    let rows: Vec<(Uuid, String, String)> = sqlx::query_as(
        "SELECT id, split_part(display_name, ' ', 2), concat_ws(' ', version, display_name, headcount,
           phones #>> '{0,e164}', attributes ->> 'town', attributes ->> 'score', attributes ->> 'code',
           external_ids #>> '{0,external_id}')
         FROM customers WHERE tenant_id = $1 AND delete_time IS NULL",
    )
    .bind(tenant.tenant)
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    for (id, key, values) in rows {
        there.entry(key).or_default().push((id, values));
    }
    let mut facets = Vec::new();
    for (name, statement) in FACETS {
        let mut facet: HashMap<Uuid, Vec<String>> = HashMap::new();
        let rows: Vec<(Uuid, String)> =
            sqlx::query_as(statement).bind(tenant.tenant).fetch_all(&mut *conn).await.unwrap();
        for (record, value) in rows {
            facet.entry(record).or_default().push(value);
        }
        facets.push((name, facet));
    }
    for (key, kept) in &tenant.outcome.customers {
        let found = there.remove(key).unwrap_or_default();
        match found.len() {
            0 => findings.push(Lost(key.clone())),
            1 => {}
            times => findings.push(Doubled(format!("{key} is there {times} times"))),
        }
        for (id, has) in found {
            let wanted = values(kept, tenant.keyed);
            if has != wanted {
                findings.push(Differs(format!("{key} is `{has}`, not `{wanted}`")));
            }
            for ((name, facet), wanted) in facets.iter_mut().zip(expected(kept, tenant.keyed)) {
                let has = facet.remove(&id).unwrap_or_default();
                if has != wanted {
                    let text = format!("{name} of {key} are {has:?}, not {wanted:?}");
                    findings.push(if *name == "events" { Events(text) } else { Differs(text) });
                }
            }
        }
    }
    findings.extend(there.into_keys().map(|key| Differs(format!("{key} is in no file"))));
    for (name, facet) in facets {
        findings.extend(facet.into_keys().map(|id| Differs(format!("{name} of {id}, who is not there"))));
    }
}

async fn figures(conn: &mut PgConnection, tenant: &Expected, import: Uuid, findings: &mut Vec<Finding>) {
    let (state, figures): (String, Vec<i64>) = sqlx::query_as(
        "SELECT state, ARRAY[progress -> 'rows_done', progress -> 'created', progress -> 'updated',
           progress -> 'unchanged', progress -> 'rejected']::bigint[]
         FROM imports WHERE tenant_id = $1 AND id = $2",
    )
    .bind(tenant.tenant)
    .bind(import)
    .fetch_one(&mut *conn)
    .await
    .unwrap();
    let wanted = tenant.outcome.figures;
    if state != "done" {
        findings.push(Left(format!("the import is {state}")));
    }
    if figures != wanted {
        findings.push(Figures(format!("the figures are {figures:?}, not {wanted:?}")));
    }
    let refused: Vec<i64> = sqlx::query_scalar(
        "SELECT line FROM import_issues WHERE tenant_id = $1 AND import_id = $2 ORDER BY line",
    )
    .bind(tenant.tenant)
    .bind(import)
    .fetch_all(conn)
    .await
    .unwrap();
    if refused != tenant.outcome.refused {
        findings.push(Figures(format!("lines {refused:?} were refused, not {:?}", tenant.outcome.refused)));
    }
}
