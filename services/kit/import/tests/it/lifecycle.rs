//! The whole life of an import, and what people see of it.
use rapport_kernel::Error;
use rapport_proto::imports::v1::{self as pb, ImportState};

use crate::world::{World, column, figures, gadgets, pairs, progress, state, text_field};

const FILE: &str = "\
Id,Name,City,Since
g1,Pump,杭州,2020-01-31
g2,,Beijing,2021-02-28
g3,Valve,\"New
York\",2022-03-31
g4,Gear,Berlin,yesterday
g1,Pump 2,Ningbo,2020-01-31
";

async fn world() -> World {
    let world = World::new().await;
    world.field(&world.ctx, text_field("city", &[("en", "City"), ("zh", "城市")])).await;
    let since = rapport_proto::fields::v1::Field {
        kind: rapport_proto::fields::v1::FieldKind::Date.into(),
        ..text_field("since", &[("en", "Customer since")])
    };
    world.field(&world.ctx, since).await;
    world
}

#[tokio::test]
async fn a_file_goes_in_from_upload_to_done() {
    let world = world().await;
    let import = world.create().await;
    assert_eq!((state(&import), import.etag.as_str()), (ImportState::Waiting, "1"));
    assert_eq!(import.creator, format!("identity.user/{}", world.ctx.user().unwrap()));

    let import = world.upload(&import.id, FILE).await.unwrap();
    assert_eq!(state(&import), ImportState::Ready);
    let columns: Vec<_> = import.columns.iter().map(|c| (c.name.as_str(), c.samples.join("|"))).collect();
    assert_eq!(columns[0], ("Id", "g1|g2|g3".into()));
    assert_eq!(columns[2], ("City", "杭州|Beijing|New\nYork".into()));
    assert_eq!(
        pairs(&import),
        ["display_name<Name", "external_id<Id", "attributes.city<City", "attributes.since<Since"],
        "suggested from the header"
    );
    assert_eq!(progress(&import).rows_total, 5, "estimated from the size");

    world.dry_run(&import.id).await.unwrap();
    let checked = world.work(&import.id).await;
    assert_eq!((state(&checked), figures(&checked)), (ImportState::Checked, [2, 1, 0, 2]));
    assert_eq!((progress(&checked).rows_total, progress(&checked).rows_done), (5, 5));
    assert_eq!(world.count("SELECT count(*) FROM gadgets").await, 0, "nothing was written");
    assert_eq!(world.count("SELECT count(*) FROM import_rows").await, 0);
    assert_eq!(world.count("SELECT count(*) FROM platform.outbox WHERE resource = 'gadget'").await, 0);
    let expected: Vec<_> = [
        (3, "Name", "display_name", "", "must not be empty"),
        (6, "Since", "attributes.since", "yesterday", "`yesterday` is not a date like `2026-01-31`"),
    ]
    .map(|(line, column, field, value, problem)| pb::ImportIssue {
        line,
        column: column.into(),
        field: field.into(),
        value: value.into(),
        problem: problem.into(),
    })
    .into();
    assert_eq!(world.issues(&import.id).await, expected);

    world.start(&import.id).await.unwrap();
    let done = world.work(&import.id).await;
    assert_eq!((state(&done), figures(&done)), (ImportState::Done, [2, 1, 0, 2]), "as the dry run said");
    assert_eq!(world.names().await, ["Pump 2", "Valve"]);
    assert_eq!(world.issues(&import.id).await, expected);
    assert_eq!(world.count("SELECT count(*) FROM platform.import_work").await, 0);

    let told: Vec<(String, i64, String, String)> = sqlx::query_as(
        "SELECT subject, version, principal, via FROM platform.outbox WHERE resource = 'gadget' ORDER BY id",
    )
    .fetch_all(&mut world.admin().await)
    .await
    .unwrap();
    let user = world.ctx.principal.to_string();
    let told: Vec<_> = told.iter().map(|(s, v, p, via)| (s.as_str(), *v, p == &user, via.as_str())).collect();
    assert_eq!(
        told,
        [
            ("customer.created.v1", 1, true, "import"),
            ("customer.created.v1", 1, true, "import"),
            ("customer.updated.v1", 2, true, "import")
        ],
        "one event for each change, by whoever started the import"
    );
}

#[tokio::test]
async fn each_step_is_told_to_the_world() {
    use prost::Message as _;
    let world = world().await;
    let import = world.uploaded(FILE).await;
    world.dry_run(&import.id).await.unwrap();
    world.work(&import.id).await;
    world.start(&import.id).await.unwrap();
    let done = world.work(&import.id).await;
    let told: Vec<(String, Vec<u8>)> =
        sqlx::query_as("SELECT subject, payload FROM platform.outbox WHERE resource = 'import' ORDER BY id")
            .fetch_all(&mut world.admin().await)
            .await
            .unwrap();
    assert!(told.iter().all(|(subject, _)| subject == "import.state_changed.v1"));
    let told: Vec<_> =
        told.iter().map(|(_, payload)| pb::ImportStateChanged::decode(payload.as_slice()).unwrap()).collect();
    let steps: Vec<_> =
        told.iter().map(|event| (event.previous_state(), state(event.import.as_ref().unwrap()))).collect();
    use ImportState as S;
    assert_eq!(
        steps,
        [
            (S::Unspecified, S::Waiting),
            (S::Waiting, S::Ready),
            (S::Ready, S::Checking),
            (S::Checking, S::Checked),
            (S::Checked, S::Running),
            (S::Running, S::Done)
        ]
    );
    let last = told.last().unwrap().import.as_ref().unwrap();
    assert_eq!((&last.etag, last.progress), (&done.etag, done.progress));
    assert!(last.columns.iter().all(|column| column.samples.is_empty()), "nobody's data travels in samples");
}

#[tokio::test]
async fn imports_are_listed_filtered_and_paged() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.create().await.id);
    }
    world.upload(&ids[1], gadgets(3)).await.unwrap();
    let list = |filter: &str, order_by: &str, page_size, page_token: &str| {
        let request = pb::ListImportsRequest {
            filter: filter.into(),
            order_by: order_by.into(),
            page_size,
            page_token: page_token.into(),
        };
        let (imports, ctx) = (world.imports.clone(), world.ctx.clone());
        async move { imports.list(&ctx, &request).await.map(tonic::Response::into_inner) }
    };
    let named =
        |page: &pb::ListImportsResponse| page.imports.iter().map(|i| i.id.clone()).collect::<Vec<_>>();
    let first = list("", "", 2, "").await.unwrap();
    assert_eq!(named(&first), [ids[2].clone(), ids[1].clone()], "newest first");
    let second = list("", "", 2, &first.next_page_token).await.unwrap();
    assert_eq!((named(&second), second.next_page_token.as_str()), (vec![ids[0].clone()], ""));
    assert_eq!(named(&list("state == \"ready\"", "", 0, "").await.unwrap()), [ids[1].clone()]);
    let creator = format!("creator == \"{}\" && resource == \"gadget\"", world.ctx.user().unwrap());
    assert_eq!(list(&creator, "create_time", 0, "").await.unwrap().imports.len(), 3);
    let wrong = list("stat == \"ready\"", "", 0, "").await.unwrap_err();
    assert!(wrong.to_string().contains("state"), "{wrong}");
    assert!(list("", "creator", 0, "").await.is_err(), "not everyone has one to sort by");
}

#[tokio::test]
async fn an_import_is_changed_until_it_starts() {
    let world = world().await;
    let import = world.uploaded(FILE).await;
    let update = |import: pb::Import, paths: &[&str]| {
        let update_mask =
            Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() });
        let request =
            pb::UpdateImportRequest { import: Some(import), update_mask, request_id: String::new() };
        let (imports, ctx) = (world.imports.clone(), world.ctx.clone());
        async move { imports.update(&ctx, request).await.map(tonic::Response::into_inner) }
    };
    world.dry_run(&import.id).await.unwrap();
    let checked = world.work(&import.id).await;

    let stale = update(pb::Import { source: "crm".into(), ..import.clone() }, &["source"]).await.unwrap_err();
    assert_eq!(stale.reason(), "STALE");
    let changed = pb::Import {
        source: "crm".into(),
        existing: pb::ExistingPolicy::Skip.into(),
        file_name: "x.csv".into(),
        ..checked.clone()
    };
    let ready = update(changed, &["source", "existing"]).await.unwrap();
    assert_eq!(state(&ready), ImportState::Ready, "what was checked is checked no more");
    assert_eq!(
        (ready.source.as_str(), ready.existing(), ready.file_name.as_str()),
        ("crm", pb::ExistingPolicy::Skip, "")
    );
    assert_eq!((figures(&ready), ready.mappings.len()), ([0; 4], 4));

    for (paths, says) in [
        (["state"], "`state` cannot be changed"),
        (["columns"], "`columns` cannot be changed"),
        (["nothing"], "there is no field `nothing`"),
    ] {
        let error = update(pb::Import { etag: String::new(), ..ready.clone() }, &paths).await.unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
    let other = pb::Import { resource: "other".into(), ..ready.clone() };
    assert!(update(other, &["resource"]).await.unwrap_err().to_string().contains("create another import"));
    // A whole import that was read and is sent back is no mistake.
    let whole = pb::UpdateImportRequest {
        import: Some(pb::Import { file_name: "y.csv".into(), ..ready.clone() }),
        ..pb::UpdateImportRequest::default()
    };
    let whole = world.imports.update(&world.ctx, whole).await.unwrap().into_inner();
    assert_eq!((whole.file_name.as_str(), &whole.mappings), ("y.csv", &ready.mappings));

    world.start(&import.id).await.unwrap();
    for attempt in [
        update(pb::Import { etag: String::new(), ..ready.clone() }, &["source"]).await,
        world.upload(&import.id, FILE).await,
        world.dry_run(&import.id).await,
        world.start(&import.id).await,
        world.undo(&import.id).await,
    ] {
        assert_eq!(attempt.unwrap_err().reason(), "IMPORT_RUNNING");
    }
    let done = world.work(&import.id).await;
    assert_eq!(figures(&done), [2, 0, 1, 2], "the second `g1` was skipped");
    assert_eq!(world.start(&import.id).await.unwrap_err().reason(), "IMPORT_DONE");
    assert_eq!(world.cancel(&import.id).await.unwrap_err().reason(), "IMPORT_NOT_RUNNING");
}

#[tokio::test]
async fn a_client_may_choose_the_id_once() {
    let world = World::new().await;
    let id = "0199aaaa-0000-7000-8000-000000000001";
    let import = pb::Import { id: id.into(), resource: "gadget".into(), ..pb::Import::default() };
    assert_eq!(world.create_from(import.clone()).await.unwrap().id, id);
    let taken = world.create_from(import).await.unwrap_err();
    assert!(matches!(taken, Error::AlreadyExists { .. }), "{taken}");
    let unknown = pb::Import { resource: "widget".into(), ..pb::Import::default() };
    assert_eq!(
        world.create_from(unknown).await.unwrap_err().to_string(),
        "import.resource: `widget` cannot be imported here; there are `gadget`"
    );
}

#[tokio::test]
async fn columns_constants_and_value_maps_fill_targets() {
    let world = world().await;
    let import = world.uploaded("key;label;vip\r\n1;One;Y\r\n2;Two;N\r\n3;Three;?\r\n").await;
    let mut vip = column("note", "vip");
    vip.value_map = [("Y", "very important"), ("N", "")].map(|(a, b)| (a.to_owned(), b.to_owned())).into();
    let city = pb::Mapping {
        target: "attributes.city".into(),
        value: Some(pb::mapping::Value::Constant("杭州".into())),
        ..pb::Mapping::default()
    };
    let mappings = vec![column("display_name", "label"), column("external_id", "key"), vip, city];
    world.map(&import, mappings).await.unwrap();
    world.start(&import.id).await.unwrap();
    assert_eq!(figures(&world.work(&import.id).await), [3, 0, 0, 0]);
    let rows: Vec<(String, String, String, String)> = sqlx::query_as(
        "SELECT display_name, note, attributes ->> 'city', external_ids -> 0 ->> 'external_id' FROM gadgets
         ORDER BY external_ids",
    )
    .fetch_all(&mut world.admin().await)
    .await
    .unwrap();
    let rows: Vec<_> = rows.iter().map(|(a, b, c, d)| [a.as_str(), b, c, d]).collect();
    assert_eq!(
        rows,
        [["One", "very important", "杭州", "1"], ["Two", "", "杭州", "2"], ["Three", "?", "杭州", "3"]]
    );
}

#[tokio::test]
async fn another_file_takes_the_place_of_the_first() {
    let world = world().await;
    let import = world.uploaded("Id,Name,City\n1,One,杭州\n").await;
    assert_eq!(world.files(), 1);
    let again = world.upload(&import.id, "编号,名称\n1,一\n2,二\n").await.unwrap();
    assert_eq!(world.files(), 1, "the first is gone");
    assert_eq!(pairs(&again), ["display_name<名称", "external_id<编号"], "suggested anew");
    world.start(&import.id).await.unwrap();
    assert_eq!(figures(&world.work(&import.id).await), [2, 0, 0, 0]);
    assert_eq!(world.names().await, ["一", "二"]);
}
