//! No method shows, changes, or lets one guess a record of another tenant.
use prost_reflect::DynamicMessage;
use rapport::suite::Role;
use rapport_test_kit::{Caller, Ids, World, call, sample};
use sqlx::{AssertSqlSafe, PgConnection, Row as _};
use std::collections::HashMap;
use tonic::Status;

use super::{about, callable, records};

/// What a refusal says, with the ids in it made the same.
fn said(status: &Status, ids: &Ids) -> (tonic::Code, String) {
    let text = ids
        .of
        .values()
        .chain([&ids.other])
        .fold(status.message().to_owned(), |text, id| text.replace(id, "<id>"));
    (status.code(), text)
}

/// Everything that a tenant has in a service's database, as a digest of each table.
async fn digests(conn: &mut PgConnection, tenant: &str) -> Vec<(String, String)> {
    let tables = sqlx::query(
        "SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_attribute a
         JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE a.attname = 'tenant_id' AND c.relkind = 'r' AND n.nspname IN ('public', 'platform') ORDER BY 1",
    )
    .fetch_all(&mut *conn)
    .await
    .unwrap();
    let mut digests = Vec::new();
    for table in tables {
        let name: String = table.get("name");
        let sql = format!(
            "SELECT coalesce(md5(string_agg(t::text, '' ORDER BY t::text)), '') FROM {name} t WHERE tenant_id = $1"
        );
        let digest: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(tenant.parse::<uuid::Uuid>().unwrap())
            .fetch_one(&mut *conn)
            .await
            .unwrap();
        digests.push((name, digest));
    }
    digests
}

async fn ask(
    caller: &Caller,
    method: &'static rapport_proto::Method,
    ids: &Ids,
) -> Result<DynamicMessage, Status> {
    let mut request = sample(&method.input(), &about(method), ids);
    if method.descriptor.name().starts_with("Create") {
        super::choose_own_id(&mut request);
    }
    call(caller.direct(method.service()), method, request).await
}

#[tokio::test]
async fn ids_of_another_tenant_are_as_unknown_as_ids_that_do_not_exist() {
    let world = World::new().await;
    // One caller for each set of ids, so that what one call made is not in the way of the other.
    let (tea, wool, silk) =
        (world.tenant("tea").await, world.tenant("wool").await, world.tenant("silk").await);
    let canary = "canary";
    let mut theirs = records(&silk, canary).await;
    theirs.word = "sample".into();
    let nobodys = Ids {
        of: theirs
            .of
            .keys()
            .map(|kind| (kind.clone(), rapport_kernel::Clock::system().new_uuid().to_string()))
            .collect::<HashMap<_, _>>(),
        other: rapport_kernel::Clock::system().new_uuid().to_string(),
        word: "sample".into(),
    };
    let mut identity = world.databases.superuser(Role::Identity).await;
    let mut customer = world.databases.superuser(Role::Customer).await;
    let before = (digests(&mut identity, &silk.id).await, digests(&mut customer, &silk.id).await);

    let mut compared = 0;
    for method in callable() {
        let name = method.descriptor.name();
        // These end the caller's own session or make somebody's.
        if ["SignOut", "SignIn", "AcceptInvitation", "ChangePassword"].contains(&name) {
            continue;
        }
        let (with_theirs, with_nobodys) =
            (ask(&tea, method, &theirs).await, ask(&wool, method, &nobodys).await);
        match (with_theirs, with_nobodys) {
            (Err(left), Err(right)) => {
                assert_eq!(said(&left, &theirs), said(&right, &nobodys), "{}", method.path);
                compared += 1;
            }
            (Ok(answer), Ok(_)) => {
                assert!(
                    !format!("{answer:?}").contains(canary),
                    "{} shows what another tenant has",
                    method.path
                );
            }
            (left, right) => {
                let (left, right) = (left.map(drop), right.map(drop));
                panic!("{} tells them apart: {left:?}, {right:?}", method.path);
            }
        }
    }
    assert!(compared > 20, "only {compared} methods refused an id");
    let after = (digests(&mut identity, &silk.id).await, digests(&mut customer, &silk.id).await);
    assert_eq!(before, after, "something of the other tenant changed");
}
