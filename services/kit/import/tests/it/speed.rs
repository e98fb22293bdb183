//! Memory and speed. What only measures is ignored: run it with `cargo test --release -- --ignored --nocapture`.
use std::time::Instant;

use rapport_import::Options;
use rapport_proto::imports::v1::ImportState;

use crate::{
    telco,
    world::{Wishes, Worker, World, figures, options, progress, state},
};

/// Megabytes of this process that lie in memory.
fn resident() -> usize {
    let pages: usize =
        std::fs::read_to_string("/proc/self/statm").unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    pages * 4096 / 1_000_000
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_stays_flat_however_long_the_file_is() {
    let world = World::new().await;
    let note = "a note that makes the row longer - as rows in real files are; ".repeat(5);
    let mut file = String::from("Id,Name,Note\n");
    (0..200_000).for_each(|n| file.push_str(&format!("{n},gadget {n},{note}\n")));
    let import = world.uploaded(file).await;
    world.start(&import.id).await.unwrap();
    let worker = Worker::start(&world.imports);
    world.until(&import.id, |import| progress(import).rows_done > 20_000).await;
    let early = resident();
    let done = world.ended(&import.id).await;
    let late = resident();
    worker.stop().await;
    assert_eq!((state(&done), figures(&done)), (ImportState::Done, [200_000, 0, 0, 0]));
    // The file has 62 MB, what becomes of it several times that.
    println!("memory: {early} MB after 20,000 rows, {late} MB at the end");
    assert!(late < early + 30, "from {early} MB to {late} MB");
}

/// The telephone company's file `times` over, each time with other ids.
fn larger(times: usize) -> String {
    let text = std::str::from_utf8(telco::FILE).unwrap();
    let (header, rows) = text.split_once('\n').unwrap();
    let mut file = format!("{header}\n");
    for n in 0..times {
        rows.lines().for_each(|row| file.push_str(&format!("{n}-{row}\n")));
    }
    file
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "only measures"]
async fn rows_per_second_with_twenty_custom_fields() {
    let options = Options { pause_ratio: 0.0, ..options() };
    let world = World::with(Wishes { options: Some(options), ..Wishes::default() }).await;
    telco::define_fields(&world).await;
    let import = world.uploaded(larger(10)).await;
    world.map(&import, telco::mappings()).await.unwrap();
    let worker = Worker::start(&world.imports);
    for (what, dry) in [("dry run", true), ("run", false)] {
        let started = Instant::now();
        if dry {
            world.dry_run(&import.id).await.unwrap();
        } else {
            world.start(&import.id).await.unwrap();
        }
        let ended = world.ended(&import.id).await;
        let rows = progress(&ended).rows_done;
        assert_eq!(figures(&ended), [70_430, 0, 0, 0]);
        let took = started.elapsed();
        println!("{what}: {rows} rows in {took:.2?}, {:.0} rows/s", rows as f64 / took.as_secs_f64());
    }
    let started = Instant::now();
    world.undo(&import.id).await.unwrap();
    let undone = progress(&world.ended(&import.id).await).undone;
    println!("undo: {undone} records in {:.2?}", started.elapsed());
    worker.stop().await;
}
