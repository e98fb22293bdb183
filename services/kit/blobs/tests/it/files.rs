//! Against a real folder.
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use rapport_blobs::{Blobs, Key, Settings};
use rapport_kernel::{Clock, Error, Id};
use tempfile::TempDir;
use uuid::Uuid;

const LIMIT: u64 = 64 << 20;

async fn open(folder: &Path) -> Blobs {
    let settings = Settings { url: format!("file://{}", folder.display()), ..Settings::default() };
    Blobs::open(&settings, &Clock::system()).await.unwrap()
}

async fn world() -> (TempDir, Blobs, Key) {
    let folder = tempfile::tempdir().unwrap();
    let blobs = open(&folder.path().join("blobs")).await;
    (folder, blobs, Key::new(Id::new(Uuid::from_u128(1)), "imports", Uuid::from_u128(2)))
}

/// A stream of `count` pieces of `size` bytes, each filled with its number.
fn pieces(count: u8, size: usize) -> impl futures::Stream<Item = Result<Bytes, Error>> + Unpin {
    stream::iter((0..count).map(move |n| Ok(Bytes::from(vec![n; size]))))
}

/// Every file below a folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

#[tokio::test]
async fn what_is_written_is_read_back() {
    let (_folder, blobs, key) = world().await;
    let written = blobs.put(key, pieces(12, 1 << 20), LIMIT).await.unwrap();
    assert_eq!(written.size, 12 << 20);
    assert_eq!(blobs.size(key).await.unwrap(), 12 << 20);

    let across = blobs.read(key, (1 << 20) - 1..(1 << 20) + 1).await.unwrap();
    assert_eq!(&across[..], &[0, 1]);
    let end = blobs.read(key, (12 << 20) - 1..u64::MAX).await.unwrap();
    assert_eq!(&end[..], &[11], "a range is cut to the file's end");
    assert!(blobs.read(key, 5..5).await.unwrap().is_empty());

    let from = (11 << 20) + 7;
    let parts: Vec<Bytes> = blobs.stream(key, from).try_collect().await.unwrap();
    assert!(parts.iter().all(|part| part.len() <= 256 << 10), "in small pieces");
    assert_eq!(parts.concat(), vec![11; (1 << 20) - 7]);
    let nothing: Vec<Bytes> = blobs.stream(key, 12 << 20).try_collect().await.unwrap();
    assert!(nothing.is_empty());
}

#[tokio::test]
async fn the_digest_is_that_of_the_bytes() {
    let (_folder, blobs, key) = world().await;
    let pieces = stream::iter(["a", "", "bc"].map(|text| Ok(Bytes::from(text))));
    let written = blobs.put(key, pieces, LIMIT).await.unwrap();
    let hex: String = written.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused_and_leaves_nothing() {
    let (folder, blobs, key) = world().await;
    let error = blobs.put(key, pieces(20, 1 << 20), 10 << 20).await.unwrap_err();
    assert_eq!(error.to_string(), "file: is larger than 10485760 bytes, which is the most allowed");
    assert!(files(folder.path()).is_empty());
    assert_eq!(blobs.size(key).await.unwrap_err().reason(), "NOT_FOUND");
    // Exactly the limit is allowed.
    assert_eq!(blobs.put(key, pieces(10, 1 << 20), 10 << 20).await.unwrap().size, 10 << 20);
}

#[tokio::test]
async fn a_stream_that_fails_leaves_what_was_there() {
    let (folder, blobs, key) = world().await;
    blobs.put(key, pieces(1, 3), LIMIT).await.unwrap();
    let broken = pieces(7, 1 << 20).chain(stream::iter([Err(Error::invalid("file", "broke off"))]));
    let error = blobs.put(key, broken, LIMIT).await.unwrap_err();
    assert_eq!(error.to_string(), "file: broke off");
    assert_eq!(files(folder.path()).len(), 1);
    assert_eq!(&blobs.read(key, 0..100).await.unwrap()[..], &[0, 0, 0]);
}

#[tokio::test]
async fn a_caller_who_goes_away_leaves_nothing() {
    let (folder, blobs, key) = world().await;
    let endless = pieces(7, 1 << 20).chain(stream::pending());
    let put = tokio::spawn(async move { blobs.put(key, endless, LIMIT).await });
    while files(folder.path()).is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    put.abort();
    put.await.unwrap_err();
    for _ in 0..400 {
        if files(folder.path()).is_empty() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("left behind: {:?}", files(folder.path()));
}

#[tokio::test]
async fn tenants_do_not_share_files() {
    let (_folder, blobs, key) = world().await;
    blobs.put(key, pieces(1, 3), LIMIT).await.unwrap();
    let other = Key::new(Id::new(Uuid::from_u128(9)), "imports", key.id());
    assert_eq!(blobs.read(other, 0..3).await.unwrap_err().reason(), "NOT_FOUND");
    let elsewhere = Key::new(Id::new(Uuid::from_u128(1)), "exports", key.id());
    assert_eq!(blobs.size(elsewhere).await.unwrap_err().reason(), "NOT_FOUND");
}

#[tokio::test]
async fn deleting_is_harmless_when_repeated() {
    let (folder, blobs, key) = world().await;
    blobs.put(key, pieces(1, 3), LIMIT).await.unwrap();
    blobs.delete(key).await.unwrap();
    blobs.delete(key).await.unwrap();
    assert!(files(folder.path()).is_empty());
    let error = blobs.read(key, 0..3).await.unwrap_err();
    assert_eq!(error.to_string(), "file `00000000-0000-0000-0000-000000000002` was not found");
}

#[tokio::test]
async fn a_range_behind_the_end_is_refused() {
    let (_folder, blobs, key) = world().await;
    blobs.put(key, pieces(1, 3), LIMIT).await.unwrap();
    let error = blobs.read(key, 3..9).await.unwrap_err();
    assert_eq!(error.to_string(), "range: begins at byte 3, which the file does not have");
}

#[tokio::test]
async fn what_a_killed_process_left_is_removed_a_day_later() {
    let (folder, blobs, key) = world().await;
    blobs.put(key, pieces(1, 3), LIMIT).await.unwrap();
    let [kept] = files(folder.path()).try_into().unwrap();
    let left = |number: u32, hours: u64| {
        let path = PathBuf::from(format!("{}#{number}", kept.display()));
        let file = File::create(&path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 86_400 - hours * 3600)).unwrap();
        path
    };
    let (old, young) = (left(1, 25), left(2, 1));
    let settings =
        Settings { url: format!("file://{}", folder.path().join("blobs").display()), ..Settings::default() };
    let clock = Clock::chosen(|| rapport_kernel::Instant::EPOCH.plus_seconds(100 * 86_400));
    Blobs::open(&settings, &clock).await.unwrap();
    assert!(!old.exists() && young.exists() && kept.exists());
}

#[tokio::test]
async fn a_place_that_cannot_be_used_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let in_the_way = folder.path().join("file");
    fs::write(&in_the_way, "x").unwrap();
    for (url, says) in [
        (format!("file://{}/blobs", in_the_way.display()), "Not a directory"),
        ("/var/lib/blobs".to_owned(), "relative URL without a base"),
        ("ftp://example.com/x".to_owned(), "`ftp` is not known; there are `file` and `s3`"),
        ("file://host/x".to_owned(), "a folder is named as"),
    ] {
        let settings = Settings { url: url.clone(), ..Settings::default() };
        let error = Blobs::open(&settings, &Clock::system()).await.unwrap_err();
        assert_eq!(error.reason(), "STORAGE_UNUSABLE", "{url}");
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[tokio::test]
async fn s3_is_opened_by_setting() {
    let settings = Settings {
        url: "s3://files/cell-1".into(),
        endpoint: Some("http://127.0.0.1:9".into()),
        access_key_id: Some("id".into()),
        secret_access_key: Some("secret".into()),
        allow_http: true,
        ..Settings::default()
    };
    assert!(!format!("{settings:?}").contains("secret"), "the secret is not printed");
    let blobs = Blobs::open(&settings, &Clock::system()).await.unwrap();
    assert_eq!(format!("{blobs:?}"), "Blobs(AmazonS3(files)/cell-1)");
    let half = Settings { secret_access_key: None, ..settings };
    assert_eq!(Blobs::open(&half, &Clock::system()).await.unwrap_err().reason(), "STORAGE_UNUSABLE");
}
