//! Checkpoints: a log of which all was written anew shows, too, and whatever was done to a log is found at the next look.
use std::{collections::BTreeMap, fs, path::Path};

use rapport_events::{Checkpoints, Keep, Log, Seal, Verified, digest, log, verify, verify_against};
use sqlx::{FromRow, PgConnection};
use tempfile::TempDir;

use crate::{
    note::create,
    verify::{REWRITINGS, nineteen_lines, rewrite, undo},
    world::{Kept, World},
};

async fn checkpoints(folder: &Path) -> Checkpoints {
    let url = format!("file://{}", folder.join("checkpoints").display());
    let place = rapport_blobs::Settings { url, ..Default::default() };
    Checkpoints::open(&place, &folder.join("checkpoint.key"), "rapport/test").await.unwrap()
}

async fn look(seal: &mut Seal<'_>) -> Vec<String> {
    let mut verified = Verified::default();
    seal.round(&mut verified).await.unwrap();
    verified.faults
}

/// A log, and checkpoints of it after 19 lines and after 20.
async fn sealed() -> (World, TempDir, Checkpoints) {
    let world = nineteen_lines().await;
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(folder.path()).await;
    let mut seal = Seal::new(&world.db, "test", Some(&checkpoints));
    assert_eq!(look(&mut seal).await, Vec::<String>::new());
    let log = Kept::keep(world.service_log());
    create(&world.db, &world.tenant(), &["one more"]).await;
    world.settled().await;
    log.end().await;
    assert_eq!(look(&mut seal).await, Vec::<String>::new());
    assert_eq!(look(&mut seal).await, Vec::<String>::new());
    (world, folder, checkpoints)
}

async fn verified(world: &World, checkpoints: &Checkpoints) -> Verified {
    verify_against(&world.db, "test", Some(checkpoints), |_| {}).await.unwrap()
}

/// Puts another value into a line, and computes all links after it anew, as whoever knows how they are computed can.
async fn write_all_anew(admin: &mut PgConnection) {
    #[derive(FromRow)]
    struct Row {
        #[sqlx(flatten)]
        line: log::Line,
        retention: String,
        payload_digest: Vec<u8>,
    }
    rewrite(admin, "UPDATE platform.event_log SET principal = 'nobody' WHERE number = 5").await;
    let mut chains = BTreeMap::<(String, i16), digest::Digest>::new();
    let rows: Vec<Row> = sqlx::query_as("SELECT * FROM platform.event_log ORDER BY number")
        .fetch_all(&mut *admin)
        .await
        .unwrap();
    for Row { line, retention, payload_digest } in rows {
        let chain = chains.entry((retention, line.part)).or_default();
        let of_line = digest::line(&line, &payload_digest);
        *chain = digest::link(*chain, line.number, line.part_number, line.tenant_number, of_line);
        let write = sqlx::query("UPDATE platform.event_log SET link = $1 WHERE number = $2");
        write.bind(chain.as_slice()).bind(line.number).execute(&mut *admin).await.unwrap();
    }
    for ((retention, part), link) in chains {
        sqlx::query("UPDATE platform.log_chains SET links[$1] = $2 WHERE retention = $3")
            .bind(i32::from(part) + 1)
            .bind(link.as_slice())
            .bind(retention)
            .execute(&mut *admin)
            .await
            .unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_was_done_to_the_log_is_found_at_the_next_look() {
    let (world, _folder, checkpoints) = sealed().await;
    let mut seal = Seal::new(&world.db, "test", Some(&checkpoints));
    assert_eq!(look(&mut seal).await, Vec::<String>::new());
    let mut admin = world.admin().await;
    for (sabotage, _) in REWRITINGS {
        rewrite(&mut admin, sabotage).await;
        assert_ne!(look(&mut seal).await, Vec::<String>::new(), "{sabotage}");
        undo(&mut admin).await;
        assert_eq!(look(&mut seal).await, Vec::<String>::new(), "after {sabotage}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_of_which_all_was_written_anew_is_found_by_its_checkpoints() {
    let (world, _folder, checkpoints) = sealed().await;
    let before = verified(&world, &checkpoints).await;
    assert_eq!((before.lines, before.checkpoints, before.faults), (20, 2, Vec::new()));
    let mut seal = Seal::new(&world.db, "test", Some(&checkpoints));
    assert_eq!(look(&mut seal).await, Vec::<String>::new());

    let mut admin = world.admin().await;
    write_all_anew(&mut admin).await;
    assert_eq!(
        verify(&world.db).await.unwrap().faults,
        Vec::<String>::new(),
        "the chain alone does not show it"
    );
    let faults = verified(&world, &checkpoints).await.faults;
    assert_eq!(
        faults,
        ["the lines up to 19, kept `standard`, are not what they were when a checkpoint was signed there"]
    );
    // By whoever leads, and by whoever leads next.
    let found = look(&mut seal).await;
    assert!(found[0].ends_with("are missing or others"), "{found:?}");
    let found = look(&mut Seal::new(&world.db, "test", Some(&checkpoints))).await;
    assert_eq!(found, ["the lines up to 20 are not what they were when a checkpoint was signed there"]);

    undo(&mut admin).await;
    assert_eq!(verified(&world, &checkpoints).await.faults, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_shorter_than_it_was_is_found_and_a_forged_checkpoint_is_none() {
    let (world, folder, checkpoints) = sealed().await;
    let place = folder.path().join("checkpoints/test");
    let day = fs::read_dir(&place).unwrap().map(|day| day.unwrap().path()).max().unwrap();
    let last = fs::read_dir(&day).unwrap().map(|file| file.unwrap().path()).max().unwrap();
    let note = fs::read_to_string(&last).unwrap();
    fs::write(day.join(format!("{:020}", 21)), note.replace("\n20\n", "\n21\n")).unwrap();
    let faults = verified(&world, &checkpoints).await.faults;
    assert!(faults[0].starts_with("checkpoint test/") && faults[0].ends_with("is not signed with our key"));
    fs::remove_file(day.join(format!("{:020}", 21))).unwrap();

    // As after a backup was restored of before the last line.
    let mut admin = world.admin().await;
    rewrite(
        &mut admin,
        "DELETE FROM platform.event_log WHERE number = 20; UPDATE platform.log_head SET number = 19",
    )
    .await;
    let faults = verified(&world, &checkpoints).await.faults;
    assert!(
        faults.contains(&"a checkpoint was signed at number 20, and the log ends at 19".to_owned()),
        "{faults:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn checkpoints_hold_when_days_are_dropped_and_many_leaders_follow_one_another() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let checkpoints = checkpoints(folder.path()).await;
    let (standard, extended) = (world.tenant(), world.tenant());
    let keep = Keep { standard_days: 8, extended_days: 400 };
    create(&world.db, &extended, &["a"]).await;
    let extend = sqlx::query("UPDATE platform.tenants SET retention = 'extended'");
    extend.execute(&mut world.admin().await).await.unwrap();
    for _ in 0..12 {
        let log = Kept::keep(Log { keep, ..world.service_log() });
        create(&world.db, &standard, &["a", "b", "c"]).await;
        create(&world.db, &extended, &["a", "b"]).await;
        world.settled().await;
        log.end().await;
        assert_eq!(look(&mut Seal::new(&world.db, "test", Some(&checkpoints))).await, Vec::<String>::new());
        world.later(86_400);
    }
    let log = Kept::keep(Log { keep, ..world.service_log() });
    let kept = "SELECT count(*) FROM platform.event_log WHERE retention = 'standard'";
    create(&world.db, &standard, &["last"]).await;
    for _ in 0..100 {
        if world.count(kept).await == 8 * 3 + 1 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    log.end().await;
    assert_eq!(world.count(kept).await, 8 * 3 + 1, "days were dropped");
    let found = verified(&world, &checkpoints).await;
    assert_eq!((found.checkpoints, found.faults), (12, Vec::new()));
    let rewritten = sqlx::query("UPDATE platform.event_log SET link = sha256('forged') WHERE number = 42");
    rewritten.execute(&mut world.admin().await).await.unwrap();
    let faults = verified(&world, &checkpoints).await.faults;
    assert!(faults.iter().any(|fault| fault.starts_with("the lines up to ")), "{faults:?}");
}
