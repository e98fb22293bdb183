//! Taking an import back, and running one again.
use rapport_kernel::Error;
use rapport_proto::imports::v1::ImportState;
use rapport_store::ListParams;

use crate::{
    gadget::{Gadget, Sabotage, change},
    world::{Wishes, Worker, World, figures, gadgets, options, progress, state},
};

/// Somebody renames a gadget.
async fn rename(world: &World, from: &str, to: &str) {
    let mut tx = world.db.begin(&world.ctx).await.unwrap();
    let page = tx.list::<Gadget>(&ListParams { page_size: 200, ..ListParams::default() }).await.unwrap();
    let id = page.items.iter().find(|gadget| gadget.display_name == from).unwrap().id;
    let before = tx.get_for_update::<Gadget>(id).await.unwrap();
    let after = Gadget { display_name: to.into(), ..before.clone() };
    change(&mut tx, &before, after).unwrap();
    tx.finish().await.unwrap();
}

#[tokio::test]
async fn an_undo_takes_back_what_nobody_changed_since() {
    let world = World::new().await;
    world.import("Id,Name,Note\n1,One,old\n2,Two,old\n3,Three,old\n").await;
    let second =
        world.import("Id,Name,Note\n1,Uno,new\n2,Due,new\n3,Three,old\n4,Quattro,new\n5,Cinque,new\n").await;
    assert_eq!(figures(&second), [2, 2, 1, 0], "{:?}", world.issues(&second.id).await);
    rename(&world, "Due", "Deux").await;
    rename(&world, "Cinque", "Cinq").await;

    let undoing = world.undo(&second.id).await.unwrap();
    assert_eq!(state(&undoing), ImportState::Undoing);
    assert_eq!(world.cancel(&second.id).await.unwrap_err().reason(), "IMPORT_UNDOING");
    let undone = world.work(&second.id).await;
    assert_eq!(state(&undone), ImportState::Undone);
    assert_eq!((progress(&undone).undone, progress(&undone).kept), (2, 2));
    assert_eq!(figures(&undone), figures(&second), "what it did is still told");
    assert_eq!(world.names().await, ["Cinq", "Deux", "One", "Three"]);
    let old = "SELECT count(*) FROM gadgets WHERE display_name = 'One' AND note = 'old' AND version = 3";
    assert_eq!(world.count(old).await, 1);
    assert_eq!(world.undo(&second.id).await.unwrap_err().reason(), "IMPORT_UNDONE");
    assert_eq!(world.count("SELECT count(*) FROM import_rows").await, 3, "those of the first import");
}

#[tokio::test]
async fn a_record_written_twice_by_an_import_is_taken_back_once() {
    let world = World::with(Wishes {
        options: Some(rapport_import::Options { batch_rows: 4, ..options() }),
        ..Wishes::default()
    })
    .await;
    world.import("Id,Name\nold,Old\n").await;
    // In one batch, and in different ones.
    let mut file = String::from("Id,Name\nnew,A\nnew,B\nold,C\nold,D\n");
    (0..20).for_each(|n| file.push_str(&format!("x{n},X\n")));
    file.push_str("new,E\nold,F\nold,F\n");
    let done = world.import(file).await;
    assert_eq!(figures(&done), [21, 5, 1, 0]);
    world.undo(&done.id).await.unwrap();
    let undone = world.work(&done.id).await;
    assert_eq!((progress(&undone).undone, progress(&undone).kept), (22, 0));
    assert_eq!(world.names().await, ["Old"]);
}

#[tokio::test]
async fn what_somebody_changed_between_two_rows_is_given_back_as_they_made_it() {
    let world = World::with(Wishes {
        options: Some(rapport_import::Options { batch_rows: 1, ..options() }),
        sabotage: Sabotage::new(|name| (name == "wait").then_some(Error::Unavailable("not yet".into()))),
    })
    .await;
    let import = world.uploaded("Id,Name\n1,One\n2,wait\n1,Three\n").await;
    world.start(&import.id).await.unwrap();
    let worker = Worker::start(&world.imports);
    world.until(&import.id, |import| progress(import).rows_done == 1).await;
    worker.kill().await;
    rename(&world, "One", "Somebody's").await;
    world.later(60);
    let others = world.other_process(options(), Sabotage::default());
    let worker = Worker::start(&others);
    let done = world.ended(&import.id).await;
    assert_eq!(figures(&done), [2, 1, 0, 0]);
    world.undo(&import.id).await.unwrap();
    let undone = world.ended(&import.id).await;
    worker.stop().await;
    assert_eq!((progress(&undone).undone, progress(&undone).kept), (2, 0));
    assert_eq!(world.names().await, ["Somebody's"]);
}

#[tokio::test]
async fn a_file_sent_twice_changes_nothing_the_second_time() {
    let world = World::new().await;
    let file = gadgets(1_500);
    assert_eq!(figures(&world.import(file.clone()).await), [1_500, 0, 0, 0]);
    let events = world.count("SELECT count(*) FROM platform.outbox WHERE resource = 'gadget'").await;
    let again = world.uploaded(file).await;
    world.dry_run(&again.id).await.unwrap();
    assert_eq!(figures(&world.work(&again.id).await), [0, 0, 1_500, 0]);
    world.start(&again.id).await.unwrap();
    assert_eq!(figures(&world.work(&again.id).await), [0, 0, 1_500, 0]);
    assert_eq!(world.names().await.len(), 1_500);
    assert_eq!(world.count("SELECT count(*) FROM platform.outbox WHERE resource = 'gadget'").await, events);
    world.undo(&again.id).await.unwrap();
    let undone = world.work(&again.id).await;
    assert_eq!((state(&undone), progress(&undone).undone), (ImportState::Undone, 0));
    assert_eq!(world.names().await.len(), 1_500, "it had written nothing");
}

#[tokio::test]
async fn a_cancelled_run_stops_and_can_be_taken_back() {
    let world = World::new().await;
    let import = world.uploaded(gadgets(30_000)).await;
    world.start(&import.id).await.unwrap();
    let worker = Worker::start(&world.imports);
    let running = world.until(&import.id, |import| progress(import).rows_done > 0).await;
    assert_eq!(state(&running), ImportState::Running);
    let guess = progress(&running).rows_total;
    assert!((25_000..35_000).contains(&guess), "estimated while it runs: {guess}");
    let cancelled = world.cancel(&import.id).await.unwrap();
    assert_eq!(state(&cancelled), ImportState::Cancelled);
    let written = progress(&cancelled).created;
    assert!(written < 30_000, "it was in time");
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert_eq!(world.get(&import.id).await, cancelled, "nothing comes after");
    assert_eq!(i64::try_from(world.names().await.len()).unwrap(), written);
    assert_eq!(world.start(&import.id).await.unwrap_err().reason(), "IMPORT_CANCELLED");

    world.undo(&import.id).await.unwrap();
    let undone = world.ended(&import.id).await;
    worker.stop().await;
    assert_eq!((state(&undone), progress(&undone).undone), (ImportState::Undone, written));
    assert!(world.names().await.is_empty());
    assert_eq!(world.count("SELECT count(*) FROM external_ids").await, 0);
}

#[tokio::test]
async fn a_cancelled_dry_run_leaves_the_import_ready() {
    let world = World::new().await;
    let import = world.uploaded(gadgets(30_000)).await;
    world.dry_run(&import.id).await.unwrap();
    let worker = Worker::start(&world.imports);
    world.until(&import.id, |import| progress(import).rows_done > 0).await;
    let ready = world.cancel(&import.id).await.unwrap();
    assert_eq!((state(&ready), figures(&ready)), (ImportState::Ready, [0; 4]));
    worker.stop().await;
    assert_eq!(world.get(&import.id).await, ready);
}
