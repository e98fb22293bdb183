//! What an import does to customers that exist, and what its undo gives back.
use rapport_proto::{
    customer::v1 as pb,
    google::api::HttpBody,
    imports::v1::{
        CreateImportRequest, ExistingPolicy, GetImportRequest, Import, ImportProgress, ImportState,
        StartImportRequest, UndoImportRequest, UploadImportFileRequest,
    },
};
use rapport_test_kit::{Caller, Tenant, World, json};
use serde_json::json;

/// Brings a file in and waits until that is over.
async fn import(caller: &Caller, existing: ExistingPolicy, file: &str) -> Import {
    let import = Import {
        resource: "customer".into(),
        source: "erp".into(),
        existing: existing.into(),
        ..Import::default()
    };
    let request = CreateImportRequest { import: Some(import), request_id: String::new() };
    let id = caller.imports().create_import(request).await.unwrap().into_inner().id;
    let data = file.as_bytes().to_vec().into();
    let file = HttpBody { data, ..HttpBody::default() };
    let pieces = [UploadImportFileRequest { id: id.clone(), file: Some(file) }];
    caller.imports().upload_import_file(tokio_stream::iter(pieces)).await.unwrap();
    caller.imports().start_import(StartImportRequest { id: id.clone() }).await.unwrap();
    over(caller, &id, ImportState::Running).await
}

/// The import when it is not `working` any more.
async fn over(caller: &Caller, id: &str, working: ImportState) -> Import {
    loop {
        let request = GetImportRequest { id: id.to_owned() };
        let import = caller.imports().get_import(request).await.unwrap().into_inner();
        if import.state() != working {
            return import;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

async fn undo(caller: &Caller, id: &str) -> ImportProgress {
    caller.imports().undo_import(UndoImportRequest { id: id.to_owned() }).await.unwrap();
    let undone = over(caller, id, ImportState::Undoing).await;
    assert_eq!(undone.state(), ImportState::Undone, "{}", undone.failure);
    undone.progress.unwrap()
}

/// Created, updated, unchanged, rejected.
fn figures(import: &Import) -> [i64; 4] {
    assert_eq!(import.state(), ImportState::Done, "{}", import.failure);
    let progress = import.progress.unwrap();
    [progress.created, progress.updated, progress.unchanged, progress.rejected]
}

/// Names, industries and tags of all customers, sorted.
async fn customers(caller: &Caller) -> Vec<(String, String, Vec<String>)> {
    let request = pb::ListCustomersRequest { order_by: "display_name".into(), ..Default::default() };
    let page = caller.customers().list_customers(request).await.unwrap().into_inner();
    page.customers.into_iter().map(|c| (c.display_name, c.industry, c.tags)).collect()
}

fn customer(name: &str, industry: &str) -> (String, String, Vec<String>) {
    (name.into(), industry.into(), Vec::new())
}

/// A tenant with two customers from the system `erp`.
async fn tea(world: &World) -> Tenant {
    let tea = world.tenant("tea").await;
    let first =
        import(&tea, ExistingPolicy::Update, "external_id,name,industry\n1,One,tea\n2,Two,tea\n").await;
    assert_eq!(figures(&first), [2, 0, 0, 0]);
    tea
}

const SECOND: &str = "external_id,name,industry\n1,Uno,silk\n2,Two,tea\n3,Tre,silk\n,Nobody,silk\n";

#[tokio::test]
async fn an_import_overwrites_what_it_maps_and_its_undo_gives_that_back() {
    let world = World::new().await;
    let tea = tea(&world).await;
    let second = import(&tea, ExistingPolicy::Update, SECOND).await;
    assert_eq!(figures(&second), [1, 1, 1, 1]);
    assert_eq!(
        customers(&tea).await,
        [customer("Tre", "silk"), customer("Two", "tea"), customer("Uno", "silk")]
    );
    let undone = undo(&tea, &second.id).await;
    assert_eq!((undone.undone, undone.kept), (2, 0));
    assert_eq!(customers(&tea).await, [customer("One", "tea"), customer("Two", "tea")]);
}

#[tokio::test]
async fn an_import_that_skips_leaves_what_exists_as_it_is() {
    let world = World::new().await;
    let tea = tea(&world).await;
    let second = import(&tea, ExistingPolicy::Skip, SECOND).await;
    assert_eq!(figures(&second), [1, 0, 2, 1]);
    assert_eq!(
        customers(&tea).await,
        [customer("One", "tea"), customer("Tre", "silk"), customer("Two", "tea")]
    );
    let undone = undo(&tea, &second.id).await;
    assert_eq!((undone.undone, undone.kept), (1, 0), "it wrote nothing else");
    assert_eq!(customers(&tea).await, [customer("One", "tea"), customer("Two", "tea")]);
}

#[tokio::test]
async fn a_deleted_customers_key_makes_a_new_customer_and_the_undo_leaves_the_deleted_one() {
    let world = World::new().await;
    let tea = tea(&world).await;
    let one = tea.read("/v1/customers?filter=display_name%20==%20%22One%22").await["customers"][0].clone();
    let path = format!("/v1/customers/{}", one["id"].as_str().unwrap());
    json(tea.request(reqwest::Method::DELETE, &path).send().await.unwrap()).await;
    for existing in [ExistingPolicy::Skip, ExistingPolicy::Update] {
        let again = import(&tea, existing, "external_id,name\n1,Again\n").await;
        assert_eq!(figures(&again), [1, 0, 0, 0], "{existing:?}");
        assert_eq!(undo(&tea, &again.id).await.undone, 1);
    }
    json(tea.post(&format!("{path}:undelete"), &json!({})).await).await;
    assert_eq!(customers(&tea).await, [customer("One", "tea"), customer("Two", "tea")]);
}
