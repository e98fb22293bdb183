//! Refused rows: listed in pages, downloaded, mended and sent again.
use rapport_proto::imports::v1 as pb;

use crate::world::{World, column, figures, text_field};

const HEADER: &str = "rapport_problem,Id,Name,City";

async fn world() -> World {
    let world = World::new().await;
    let date = rapport_proto::fields::v1::Field {
        kind: rapport_proto::fields::v1::FieldKind::Date.into(),
        ..text_field("since", &[])
    };
    world.field(&world.ctx, date).await;
    world.field(&world.ctx, text_field("city", &[("en", "City")])).await;
    world
}

#[tokio::test]
async fn refused_rows_are_mended_and_sent_again() {
    let world = world().await;
    let file =
        "Id,Name,City\n1,One,杭州\n2,,\"a \"\"quoted\"\"\ncity\"\n3,Three\n4,,Ningbo\n5,Five,x,y\n6,Six,\n";
    let done = world.import(file).await;
    assert_eq!(figures(&done), [2, 0, 0, 4]);
    let refused = String::from_utf8(world.issues_csv(&done.id).await).unwrap();
    assert_eq!(
        refused,
        format!(
            "{HEADER}\nName: must not be empty,2,,\"a \"\"quoted\"\"\ncity\"\n\
             has 2 values where the header has 3 columns,3,Three\n\
             Name: must not be empty,4,,Ningbo\n\
             has 4 values where the header has 3 columns,5,Five,x,y\n"
        )
    );
    // Sent again as it is, it is refused again, for the same reasons.
    let again = world.import(refused.clone()).await;
    assert_eq!(figures(&again), [0, 0, 0, 4]);
    let mended = refused.replace(",2,,", ",2,Two,").replace(",5,Five,x,y", ",5,Five,x");
    let better = world.import(mended).await;
    assert_eq!(figures(&better), [2, 0, 0, 2]);
    assert_eq!(world.names().await, ["Five", "One", "Six", "Two"]);
    // The column of the last time is not there twice.
    let rest = String::from_utf8(world.issues_csv(&better.id).await).unwrap();
    assert_eq!(
        rest,
        format!(
            "{HEADER}\nhas 3 values where the header has 4 columns,3,Three\nName: must not be empty,4,,Ningbo\n"
        )
    );
}

#[tokio::test]
async fn all_that_is_wrong_with_a_row_is_said_at_once() {
    let world = world().await;
    let import = world.uploaded("=cmd,@x\n ,soon\n").await;
    world.map(&import, vec![column("display_name", "=cmd"), column("attributes.since", "@x")]).await.unwrap();
    world.start(&import.id).await.unwrap();
    world.work(&import.id).await;
    let issues = world.issues(&import.id).await;
    let found: Vec<_> = issues
        .iter()
        .map(|i| [i.column.as_str(), i.field.as_str(), i.value.as_str(), i.problem.as_str()])
        .collect();
    assert_eq!(
        found,
        [
            ["=cmd", "display_name", " ", "must not be empty"],
            ["@x", "attributes.since", "soon", "`soon` is not a date like `2026-01-31`"]
        ]
    );
    let csv = String::from_utf8(world.issues_csv(&import.id).await).unwrap();
    assert_eq!(
        csv,
        "rapport_problem,=cmd,@x\n\
         '=cmd: must not be empty; @x: `soon` is not a date like `2026-01-31`, ,soon\n",
        "no spreadsheet takes the added column for a formula"
    );
}

#[tokio::test]
async fn issues_come_in_pages_in_the_files_order() {
    let world = world().await;
    let mut file = String::from("Id;Name\n");
    (0..2_500).for_each(|n| file.push_str(&format!("{n};{}\n", if n % 5 == 0 { "ok" } else { "" })));
    let done = world.import(format!("\u{feff}{file}")).await;
    assert_eq!(figures(&done), [500, 0, 0, 2_000]);
    let (mut lines, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListImportIssuesRequest { id: done.id.clone(), page_size: 300, page_token };
        let page = world.imports.list_issues(&world.ctx, &request).await.unwrap().into_inner();
        lines.extend(page.issues.iter().map(|issue| issue.line));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected: Vec<i64> = (0..2_500).filter(|n| n % 5 != 0).map(|n| n + 2).collect();
    assert_eq!(lines, expected);
    let request = pb::ListImportIssuesRequest { id: done.id.clone(), page_size: 0, page_token: "x".into() };
    assert!(
        world
            .imports
            .list_issues(&world.ctx, &request)
            .await
            .unwrap_err()
            .to_string()
            .starts_with("page_token: ")
    );
    let csv = String::from_utf8(world.issues_csv(&done.id).await).unwrap();
    assert!(
        csv.starts_with("\u{feff}rapport_problem;Id;Name\nName: must not be empty;1;\n"),
        "{}",
        &csv[..80]
    );
    assert_eq!(csv.lines().count(), 2_001);
}

#[tokio::test]
async fn a_dry_run_lists_ten_thousand_issues_and_counts_all() {
    let world = world().await;
    let file = format!("Id,Name\n{}", "1,\n".repeat(12_000));
    let import = world.uploaded(file).await;
    world.dry_run(&import.id).await.unwrap();
    assert_eq!(figures(&world.work(&import.id).await), [0, 0, 0, 12_000]);
    assert_eq!(world.count("SELECT count(*) FROM import_issues").await, 10_000);
    world.dry_run(&import.id).await.unwrap();
    assert_eq!(figures(&world.work(&import.id).await), [0, 0, 0, 12_000], "as often as one likes");
    world.start(&import.id).await.unwrap();
    world.work(&import.id).await;
    assert_eq!(world.count("SELECT count(*) FROM import_issues").await, 12_000, "a run lists every one");
}

#[tokio::test]
async fn lines_without_a_file_are_not_downloaded() {
    let world = world().await;
    let import = world.create().await;
    let request = pb::DownloadImportIssuesRequest { id: import.id.clone() };
    let refused = world.imports.download_issues(&world.ctx, &request).await.err().unwrap();
    assert_eq!(refused.reason(), "IMPORT_WAITING");
    let import = world.uploaded("Id,Name\n1,One\n").await;
    assert_eq!(
        world.issues_csv(&import.id).await,
        b"rapport_problem,Id,Name\n",
        "none refused: only the header"
    );
}
