//! Tenants beside each other: they see nothing of one another, and nobody waits behind a neighbour.
use std::sync::Arc;

use rapport_import::Options;
use rapport_kernel::{Error, FieldRights, Grants, Scope};
use rapport_proto::imports::v1::{self as pb, ImportState};
use sqlx::Executor as _;

use crate::{
    gadget::{KIND, Sabotage},
    world::{Wishes, Worker, World, caller, figures, gadgets, options, progress, state, text_field},
};

#[tokio::test]
async fn another_tenants_import_does_not_exist() {
    let world = World::new().await;
    let import = world.import(gadgets(3)).await;
    let stranger = caller(2, &world.clock);
    let id = import.id.clone();
    let imports = &world.imports;
    let changed = pb::Import { id: id.clone(), source: "x".into(), ..pb::Import::default() };
    let update = pb::UpdateImportRequest { import: Some(changed), ..pb::UpdateImportRequest::default() };
    let errors = [
        imports.get(&stranger, &pb::GetImportRequest { id: id.clone() }).await.unwrap_err(),
        imports.update(&stranger, update).await.unwrap_err(),
        imports.dry_run(&stranger, &pb::DryRunImportRequest { id: id.clone() }).await.unwrap_err(),
        imports.start(&stranger, &pb::StartImportRequest { id: id.clone() }).await.unwrap_err(),
        imports.cancel(&stranger, &pb::CancelImportRequest { id: id.clone() }).await.unwrap_err(),
        imports.undo(&stranger, &pb::UndoImportRequest { id: id.clone() }).await.unwrap_err(),
        imports
            .list_issues(&stranger, &pb::ListImportIssuesRequest { id: id.clone(), ..Default::default() })
            .await
            .unwrap_err(),
        imports
            .download_issues(&stranger, &pb::DownloadImportIssuesRequest { id: id.clone() })
            .await
            .err()
            .unwrap(),
        world.upload_as(&stranger, &id, gadgets(1)).await.unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.to_string(), format!("import `{id}` was not found"));
    }
    let listed = imports.list(&stranger, &pb::ListImportsRequest::default()).await.unwrap().into_inner();
    assert!(listed.imports.is_empty());
    assert_eq!(world.get(&id).await, import);
    assert_eq!(world.files(), 1);
}

#[tokio::test]
async fn one_import_of_a_tenant_runs_at_a_time_and_others_do_not_wait_behind_it() {
    let world =
        World::with(Wishes { options: Some(Options { batch_rows: 50, ..options() }), ..Wishes::default() })
            .await;
    let (first, second) = (world.uploaded(gadgets(6_000)).await, world.uploaded("Name\nlast\n").await);
    world.start(&first.id).await.unwrap();
    world.start(&second.id).await.unwrap();
    let neighbour = caller(2, &world.clock);
    let import = pb::Import { resource: "gadget".into(), source: "erp".into(), ..pb::Import::default() };
    let request = pb::CreateImportRequest { import: Some(import), ..Default::default() };
    let other = world.imports.create(&neighbour, request).await.unwrap().into_inner();
    world.upload_as(&neighbour, &other.id, gadgets(10)).await.unwrap();
    world.imports.start(&neighbour, &pb::StartImportRequest { id: other.id.clone() }).await.unwrap();

    let worker = Worker::start(&world.imports);
    let get = pb::GetImportRequest { id: other.id.clone() };
    while state(&world.imports.get(&neighbour, &get).await.unwrap().into_inner()) == ImportState::Running {
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert_eq!(state(&world.get(&first.id).await), ImportState::Running, "the neighbour was done meanwhile");
    let second = world.until(&second.id, |import| progress(import).rows_done > 0).await;
    assert_eq!(state(&world.get(&first.id).await), ImportState::Done, "one after the other: {second:?}");
    worker.stop().await;
    assert_eq!(
        world
            .count("SELECT count(*) FROM gadgets WHERE tenant_id = '00000000-0000-0000-0000-000000000002'")
            .await,
        10
    );
}

#[tokio::test]
async fn the_import_of_a_suspended_tenant_waits() {
    let world = World::new().await;
    let import = world.uploaded(gadgets(10)).await;
    world.start(&import.id).await.unwrap();
    let mut admin = world.admin().await;
    let told = |subject: &'static str| sqlx::query_scalar::<_, i64>(subject);
    for waiting in ["suspended", "read_only"] {
        sqlx::query("UPDATE platform.tenants SET state = $1")
            .bind(waiting)
            .execute(&mut admin)
            .await
            .unwrap();
        let worker = Worker::start(&world.imports);
        for _ in 0..1_000 {
            let put_off = "SELECT count(*) FROM platform.import_work WHERE holder IS NULL AND lease_until > now() + interval '1 day'";
            if told(put_off).fetch_one(&mut admin).await.unwrap() == 1 {
                break;
            }
            world.later(3_600);
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        worker.stop().await;
        let state: String =
            sqlx::query_scalar("SELECT state FROM imports").fetch_one(&mut admin).await.unwrap();
        assert_eq!(state, "running", "while {waiting}");
        assert_eq!(world.count("SELECT count(*) FROM gadgets").await, 0);
    }
    admin.execute("UPDATE platform.tenants SET state = 'active'").await.unwrap();
    world.later(100 * 86_400);
    assert_eq!(figures(&world.work(&import.id).await), [10, 0, 0, 0]);
}

#[tokio::test]
async fn an_import_runs_with_the_rights_of_whoever_started_it() {
    let world = World::new().await;
    world.field(&world.ctx, text_field("city", &[("en", "City")])).await;
    let mut rights = FieldRights::default();
    rights.locked.entry(KIND.into()).or_default().insert("attributes.city".into());
    let clerk = rapport_kernel::Ctx {
        principal: rapport_kernel::Principal::User(uuid::Uuid::from_u128(77)),
        grants: Arc::new([("gadgets.import", Scope::All)].into_iter().collect::<Grants>()),
        field_rights: Arc::new(rights),
        ..world.ctx.clone()
    };
    let file = "Id,Name,City\n1,One,杭州\n";
    let import = world.uploaded(file).await;
    // What the clerk may not write is no target for the clerk, whoever mapped it.
    let start = pb::StartImportRequest { id: import.id.clone() };
    let refused = world.imports.start(&clerk, &start).await.unwrap_err();
    assert!(refused.to_string().contains("there is no `attributes.city`"), "{refused}");
    let again = world.upload_as(&clerk, &import.id, "Id,Name,Town\n1,One,杭州\n").await.unwrap();
    assert!(again.mappings.iter().all(|mapping| mapping.target != "attributes.city"));
    world.imports.start(&clerk, &start).await.unwrap();
    assert_eq!(figures(&world.work(&import.id).await), [1, 0, 0, 0]);
    let by: Vec<String> = sqlx::query_scalar(
        "SELECT principal || ' via ' || via FROM platform.outbox WHERE resource = 'gadget'",
    )
    .fetch_all(&mut world.admin().await)
    .await
    .unwrap();
    assert_eq!(by, [format!("{} via import", clerk.principal)]);
}

#[tokio::test]
async fn a_field_that_goes_away_in_the_middle_ends_the_import_and_coming_back_it_goes_on() {
    let world = World::with(Wishes {
        options: Some(Options { batch_rows: 10, ..options() }),
        sabotage: Sabotage::new(|name| (name == "wait").then_some(Error::Unavailable("not yet".into()))),
    })
    .await;
    world.field(&world.ctx, text_field("city", &[("en", "City")])).await;
    let mut file = String::from("Id,Name,City\n");
    (0..30).for_each(|n| file.push_str(&format!("{n},One,x\n")));
    file.push_str("30,wait,x\n");
    let import = world.uploaded(file).await;
    world.start(&import.id).await.unwrap();
    let worker = Worker::start(&world.imports);
    world.until(&import.id, |import| progress(import).rows_done == 30).await;
    let field: uuid::Uuid =
        sqlx::query_scalar("SELECT id FROM custom_fields").fetch_one(&mut world.admin().await).await.unwrap();
    let mut tx = world.db.begin(&world.ctx).await.unwrap();
    let delete =
        rapport_proto::fields::v1::DeleteFieldRequest { id: field.to_string(), ..Default::default() };
    rapport_store::fields::delete(&mut tx, &delete).await.unwrap();
    tx.finish().await.unwrap();
    let failed = world.ended(&import.id).await;
    worker.stop().await;
    assert_eq!(
        (state(&failed), failed.failure.as_str()),
        (ImportState::Failed, "mappings: there is no target `attributes.city` any more")
    );
    let refused = world.start(&import.id).await.unwrap_err();
    assert!(refused.to_string().contains("there is no `attributes.city`"), "{refused}");

    let mut tx = world.db.begin(&world.ctx).await.unwrap();
    let undelete =
        rapport_proto::fields::v1::UndeleteFieldRequest { id: field.to_string(), ..Default::default() };
    rapport_store::fields::undelete(&mut tx, &undelete, &[("gadget", "gadgets")]).await.unwrap();
    tx.finish().await.unwrap();
    world.start(&import.id).await.unwrap();
    let worker = Worker::start(&world.other_process(options(), Sabotage::default()));
    let done = world.ended(&import.id).await;
    worker.stop().await;
    assert_eq!((state(&done), figures(&done)), (ImportState::Done, [31, 0, 0, 0]));
}
