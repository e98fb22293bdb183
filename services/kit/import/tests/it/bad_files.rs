//! Files that cannot be: each is refused with what is wrong and what would be right, and leaves nothing.
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use rapport_import::Options;
use rapport_proto::{google::api::HttpBody, imports::v1 as pb};
use tonic::Status;
use uuid::Uuid;

use crate::world::{Wishes, World, gadgets, options, state};

#[tokio::test]
async fn a_file_that_is_no_csv_is_refused_and_leaves_nothing() {
    let world = World::new().await;
    let import = world.create().await;
    for (file, says) in [
        (Bytes::new(), "is empty"),
        ("\u{feff}".into(), "is empty"),
        ("\n\n".into(), "is empty"),
        ("Id,Name\n".into(), "has a header but no rows"),
        (
            "Id,Name,Id\n1,2,3\n".into(),
            "several columns of the same name in its header: `Id` (columns 1 and 3)",
        ),
        ("Id,,Name,\n1,2,3,4\n".into(), "columns without a name in its header: columns 2 and 4"),
        (Bytes::from_static(b"\xff\xfeI\0d\0\n\0"), "is UTF-16; save it as `CSV UTF-8`"),
        (Bytes::from_static(b"\xbf\xcd\xbb\xa7,Id\n1,2\n"), "has a header that is not UTF-8"),
        (Bytes::from_static(b"PK\x03\x04\x14\0\x06\0"), "is a workbook"),
        (Bytes::from_static(b"\x89PNG\r\n\x1a\n\0\0"), "is not text"),
        ("{\"a\": 1}\n{\"a\": 2}\n".into(), "is JSON"),
        ("<!doctype html>\n<p>not found".into(), "is XML or HTML"),
        (format!("{}\n1\n", "x".repeat(2 << 20)).into(), "more than 1 MiB"),
    ] {
        let refused = world.upload(&import.id, file.clone()).await.unwrap_err();
        assert_eq!(refused.reason(), "INVALID", "{refused}");
        assert!(refused.to_string().starts_with("file: ") && refused.to_string().contains(says), "{refused}");
        let after = world.get(&import.id).await;
        assert_eq!(after, import, "the import waits as before");
        assert_eq!(world.files(), 0, "after {says}");
    }
    assert_eq!(world.dry_run(&import.id).await.unwrap_err().reason(), "IMPORT_WAITING");
    assert_eq!(world.start(&import.id).await.unwrap_err().reason(), "IMPORT_WAITING");
}

#[tokio::test]
async fn a_refused_file_does_not_disturb_the_one_before() {
    let world = World::new().await;
    let import = world.uploaded(gadgets(3)).await;
    world.upload(&import.id, "oops").await.unwrap_err();
    assert_eq!(world.get(&import.id).await, import);
    assert_eq!(world.files(), 1);
}

#[tokio::test]
async fn a_file_that_is_too_large_is_refused() {
    let world = World::with(Wishes {
        options: Some(Options { max_file_bytes: 100_000, ..options() }),
        ..Wishes::default()
    })
    .await;
    let import = world.create().await;
    let refused = world.upload(&import.id, gadgets(10_000)).await.unwrap_err();
    assert_eq!(refused.to_string(), "file: is larger than 100000 bytes, which is the most allowed");
    assert_eq!(world.files(), 0);
    assert_eq!(state(&world.upload(&import.id, gadgets(10)).await.unwrap()), pb::ImportState::Ready);
}

#[tokio::test]
async fn an_upload_that_breaks_off_leaves_nothing() {
    let world = World::new().await;
    let import = world.create().await;
    let piece = |data: &'static str| {
        let file = Some(HttpBody { content_type: String::new(), data: data.into(), extensions: Vec::new() });
        Ok(pb::UploadImportFileRequest { id: import.id.clone(), file })
    };
    let pieces = vec![piece("Id,Name\n1,One\n"), Err(Status::cancelled("gone"))];
    let refused = world.imports.upload(&world.ctx, stream::iter(pieces)).await.unwrap_err();
    assert_eq!(refused.to_string(), "file: broke off; send it again");
    assert_eq!((world.files(), state(&world.get(&import.id).await)), (0, pb::ImportState::Waiting));
}

#[tokio::test]
async fn the_first_piece_says_which_import_is_meant() {
    let world = World::new().await;
    let upload = |pieces: Vec<pb::UploadImportFileRequest>| {
        let (imports, ctx) = (world.imports.clone(), world.ctx.clone());
        async move { imports.upload(&ctx, stream::iter(pieces).map(Ok)).await.unwrap_err().to_string() }
    };
    assert_eq!(upload(vec![]).await, "file: is empty");
    assert_eq!(
        upload(vec![pb::UploadImportFileRequest::default()]).await,
        "id: must be given in the first piece"
    );
    let nobody = Uuid::from_u128(7).to_string();
    let unknown = pb::UploadImportFileRequest { id: nobody.clone(), file: None };
    assert_eq!(upload(vec![unknown]).await, format!("import `{nobody}` was not found"));
    assert_eq!(world.files(), 0);
}
