//! Workers that die, meet, or are met by errors: every row goes in exactly once.
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use rapport_import::Options;
use rapport_kernel::Error;
use rapport_proto::imports::v1::ImportState;
use sqlx::Executor as _;

use crate::{
    gadget::Sabotage,
    world::{Wishes, Worker, World, figures, gadgets, options, progress, state},
};

/// Every gadget of the file is there once, with one event.
async fn each_once(world: &World, count: usize) {
    let expected: Vec<_> = (1..=count).map(|n| format!("gadget {n:07}")).collect();
    assert_eq!(world.names().await, expected);
    let events = world.count("SELECT count(*) FROM platform.outbox WHERE resource = 'gadget'").await;
    assert_eq!(usize::try_from(events).unwrap(), count);
    let remembered = world.count("SELECT count(*) FROM import_rows").await;
    assert_eq!(usize::try_from(remembered).unwrap(), count);
}

#[tokio::test]
async fn a_worker_that_dies_anywhere_loses_nothing_and_repeats_nothing() {
    let world = World::with(Wishes {
        options: Some(Options { batch_rows: 97, lease_seconds: 5, ..options() }),
        ..Wishes::default()
    })
    .await;
    // Without external ids: nothing but the engine keeps a row from coming twice.
    let file: String =
        gadgets(6_000).lines().map(|line| format!("{}\n", line.split_once(',').unwrap().1)).collect();
    let import = world.uploaded(file).await;
    world.start(&import.id).await.unwrap();
    let mut deaths = 0;
    // Times that are not multiples of one another, so that it dies in ever other places.
    for wait in (0..).map(|n| 3 + (n * 37) % 61) {
        let worker = Worker::start(&world.imports);
        tokio::time::sleep(Duration::from_millis(wait)).await;
        worker.kill().await;
        deaths += 1;
        world.later(10);
        if state(&world.get(&import.id).await) == ImportState::Done {
            break;
        }
        assert!(deaths < 2_000, "it does not get on");
    }
    assert!(deaths > 10, "it was killed often enough to mean something: {deaths}");
    let done = world.get(&import.id).await;
    assert_eq!((figures(&done), progress(&done).rows_total), ([6_000, 0, 0, 0], 6_000));
    each_once(&world, 6_000).await;
}

#[tokio::test]
async fn a_dry_run_that_dies_begins_again() {
    let world = World::with(Wishes {
        options: Some(Options { batch_rows: 50, lease_seconds: 5, ..options() }),
        ..Wishes::default()
    })
    .await;
    let file = format!("{}g1,again\nx,\n", gadgets(1_000));
    let import = world.uploaded(file).await;
    world.dry_run(&import.id).await.unwrap();
    let worker = Worker::start(&world.imports);
    world.until(&import.id, |import| progress(import).rows_done > 100).await;
    worker.kill().await;
    world.later(10);
    let checked = world.work(&import.id).await;
    assert_eq!((state(&checked), figures(&checked)), (ImportState::Checked, [1_000, 1, 0, 1]));
    assert_eq!(world.issues(&import.id).await.len(), 1);
    assert_eq!(world.count("SELECT count(*) FROM gadgets").await, 0);
}

#[tokio::test]
async fn two_workers_do_not_step_on_each_other() {
    let world =
        World::with(Wishes { options: Some(Options { batch_rows: 100, ..options() }), ..Wishes::default() })
            .await;
    let other = world.other_process(Options { batch_rows: 30, ..options() }, Sabotage::default());
    let workers = [Worker::start(&world.imports), Worker::start(&other), Worker::start(&world.imports)];
    let import = world.uploaded(gadgets(3_000)).await;
    world.start(&import.id).await.unwrap();
    let done = world.ended(&import.id).await;
    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(figures(&done), [3_000, 0, 0, 0]);
    each_once(&world, 3_000).await;
}

#[tokio::test]
async fn a_lease_is_taken_over_when_it_has_run_out_and_not_before() {
    // The first process hangs in the middle of a batch, with nothing in the database that would stop another.
    let world = World::with(Wishes {
        options: Some(Options { batch_rows: 10, lease_seconds: 30, parallel: 1, ..options() }),
        sabotage: Sabotage::new(|name| {
            (name == "gadget 0000015").then_some(Error::Unavailable("hangs".into()))
        }),
    })
    .await;
    let import = world.uploaded(gadgets(40)).await;
    world.start(&import.id).await.unwrap();
    let hanging = Worker::start(&world.imports);
    world.until(&import.id, |import| progress(import).rows_done == 14).await;

    let others = world.other_process(options(), Sabotage::default());
    let worker = Worker::start(&others);
    world.later(25);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(state(&world.get(&import.id).await), ImportState::Running, "its lease still holds");
    world.later(10);
    let done = world.ended(&import.id).await;
    assert_eq!(figures(&done), [40, 0, 0, 0]);
    each_once(&world, 40).await;
    // The first one comes back to life, and finds that it is not needed.
    tokio::time::sleep(Duration::from_millis(500)).await;
    hanging.stop().await;
    worker.stop().await;
    each_once(&world, 40).await;
}

#[tokio::test]
async fn a_worker_that_stops_lets_others_go_on_at_once() {
    let world =
        World::with(Wishes { options: Some(Options { batch_rows: 50, ..options() }), ..Wishes::default() })
            .await;
    let import = world.uploaded(gadgets(3_000)).await;
    world.start(&import.id).await.unwrap();
    let worker = Worker::start(&world.imports);
    world.until(&import.id, |import| progress(import).rows_done > 0).await;
    worker.stop().await;
    let stopped = world.get(&import.id).await;
    assert!(state(&stopped) == ImportState::Running && progress(&stopped).rows_done < 3_000);
    let done = world.work(&import.id).await;
    assert_eq!(figures(&done), [3_000, 0, 0, 0], "without a wait for the lease");
    each_once(&world, 3_000).await;
}

#[tokio::test]
async fn connections_that_break_are_waited_out() {
    let world =
        World::with(Wishes { options: Some(Options { batch_rows: 50, ..options() }), ..Wishes::default() })
            .await;
    let import = world.uploaded(gadgets(4_000)).await;
    world.start(&import.id).await.unwrap();
    let worker = Worker::start(&world.imports);
    let mut admin = world.admin().await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(60)).await;
        admin
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                 WHERE datname = current_database() AND usename = 'rapport_import_test'",
            )
            .await
            .unwrap();
    }
    for _ in 0..2_000 {
        let state: String =
            sqlx::query_scalar("SELECT state FROM imports").fetch_one(&mut admin).await.unwrap();
        if state != "running" {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.stop().await;
    each_once(&world, 4_000).await;
}

#[tokio::test]
async fn one_bad_row_does_not_block_the_others() {
    let tried = Arc::new(AtomicU32::new(0));
    let counted = tried.clone();
    let world = World::with(Wishes {
        sabotage: Sabotage::new(move |name| match name {
            "gadget 0000333" => Some(Error::Conflict),
            "gadget 0000334" => Some(Error::internal("boom")),
            "gadget 0000700" => Some(Error::invalid("note", "is too heavy")),
            "gadget 0000001" => {
                counted.fetch_add(1, Ordering::Relaxed);
                None
            }
            _ => None,
        }),
        ..Wishes::default()
    })
    .await;
    let done = world.import(gadgets(1_000)).await;
    assert_eq!((state(&done), figures(&done)), (ImportState::Done, [997, 0, 0, 3]));
    let issues: Vec<_> = world.issues(&done.id).await.into_iter().map(|i| (i.line, i.problem)).collect();
    let expected = [
        (334, "conflicts with another record, or with a change under way"),
        (335, "internal error"),
        (701, "is too heavy"),
    ];
    assert_eq!(issues, expected.map(|(line, problem)| (line, problem.to_owned())));
    assert!(tried.load(Ordering::Relaxed) < 5, "what is good is not tried over and over");
}

#[tokio::test]
async fn a_conflict_that_passes_is_tried_again() {
    let tried = Arc::new(AtomicU32::new(0));
    let counted = tried.clone();
    let world = World::with(Wishes {
        sabotage: Sabotage::new(move |name| {
            (name == "gadget 0000007" && counted.fetch_add(1, Ordering::Relaxed) < 2)
                .then_some(Error::Conflict)
        }),
        ..Wishes::default()
    })
    .await;
    assert_eq!(figures(&world.import(gadgets(20)).await), [20, 0, 0, 0]);
    assert_eq!(tried.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn a_fault_of_ours_ends_the_import_and_a_start_goes_on() {
    let world = World::with(Wishes {
        options: Some(Options { batch_rows: 20, ..options() }),
        sabotage: Sabotage::new(|name| (name > "gadget 0000105").then(|| Error::internal("secret detail"))),
    })
    .await;
    let failed = world.import(gadgets(300)).await;
    assert_eq!(
        (state(&failed), failed.failure.as_str()),
        (
            ImportState::Failed,
            "a fault of Rapport's own, which its log tells under the import's id; start it again to go on"
        )
    );
    let [created, _, _, rejected] = figures(&failed);
    assert!(created == 105 && rejected < 20, "{created} {rejected}");
    assert_eq!(world.count("SELECT count(*) FROM platform.import_work").await, 0);

    let mended = world.other_process(options(), Sabotage::default());
    let running = world.start(&failed.id).await.unwrap();
    assert_eq!((state(&running), running.failure.as_str()), (ImportState::Running, ""));
    let worker = Worker::start(&mended);
    let done = world.ended(&failed.id).await;
    worker.stop().await;
    assert_eq!(figures(&done), [300 - rejected, 0, 0, rejected], "it went on after the last row");
}

#[tokio::test]
async fn what_does_not_answer_ends_the_import_when_patience_is_over() {
    let world = World::with(Wishes {
        options: Some(Options { patience: Duration::from_millis(300), ..options() }),
        sabotage: Sabotage::new(|_| Some(Error::Unavailable("away".into()))),
    })
    .await;
    let failed = world.import(gadgets(3)).await;
    assert_eq!(
        (state(&failed), failed.failure.as_str()),
        (ImportState::Failed, "what it needs did not answer for too long; start it again to go on")
    );
    world.undo(&failed.id).await.unwrap();
    assert_eq!(state(&world.work(&failed.id).await), ImportState::Undone);
}

#[tokio::test]
async fn a_file_that_is_gone_ends_the_import() {
    let world = World::new().await;
    let import = world.uploaded(gadgets(3)).await;
    for tenant in std::fs::read_dir(world.folder.path()).unwrap() {
        std::fs::remove_dir_all(tenant.unwrap().path()).unwrap();
    }
    world.start(&import.id).await.unwrap();
    let failed = world.work(&import.id).await;
    assert_eq!(state(&failed), ImportState::Failed);
    assert!(
        failed.failure.starts_with("file `") && failed.failure.ends_with("was not found"),
        "{}",
        failed.failure
    );
}
