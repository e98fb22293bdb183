//! Files as they come: delimiters, quotes, line breaks, encodings, and rows that are not like the others.
use rapport_proto::imports::v1::ImportState;

use crate::world::{World, figures, pairs, progress, state, text_field};

/// Imports a file and says what its figures and issues are.
async fn import(world: &World, file: impl Into<bytes::Bytes>) -> ([i64; 4], Vec<(i64, String, String)>) {
    let done = world.import(file).await;
    assert_eq!(state(&done), ImportState::Done, "{}", done.failure);
    let progress = progress(&done);
    assert_eq!(progress.rows_done, figures(&done).iter().sum::<i64>());
    assert_eq!(progress.rows_total, progress.rows_done, "known once it was read through");
    let issues = world.issues(&done.id).await;
    (figures(&done), issues.into_iter().map(|issue| (issue.line, issue.column, issue.problem)).collect())
}

#[tokio::test]
async fn chinese_headers_semicolons_and_a_byte_order_mark() {
    let world = World::new().await;
    world.field(&world.ctx, text_field("city", &[("en", "City"), ("zh", "城市")])).await;
    let file = "\u{feff}客户编号;客户名称;城市\r\n1;\"阿里;巴巴\";\"杭州\r\n西湖\"\r\n2;\"\";深圳\r\n3;\"华为 \"\"技术\"\"\";深圳";
    let ready = world.uploaded(file).await;
    assert_eq!(pairs(&ready), ["display_name<客户名称", "external_id<客户编号", "attributes.city<城市"]);
    let (figures, issues) = import(&world, file).await;
    assert_eq!(figures, [2, 0, 0, 1]);
    assert_eq!(issues, [(4, "客户名称".into(), "must not be empty".into())], "lines are those of the file");
    assert_eq!(world.names().await, ["华为 \"技术\"", "阿里;巴巴"]);
    let cities = "SELECT count(*) FROM gadgets WHERE attributes ->> 'city' = E'杭州\\r\\n西湖'";
    assert_eq!(world.count(cities).await, 1);
}

#[tokio::test]
async fn tabs_pipes_and_old_line_breaks() {
    let world = World::new().await;
    for (n, file) in
        ["Id\tName\n1\ttab, and more\n", "Id|Name\r1|pipe\r2|\r\r3|old\r"].into_iter().enumerate()
    {
        let (figures, issues) = import(&world, file).await;
        match n {
            0 => assert_eq!((figures, issues.len()), ([1, 0, 0, 0], 0)),
            _ => assert_eq!((figures, issues[0].0), ([1, 1, 0, 1], 3)),
        }
    }
    assert_eq!(world.names().await, ["old", "pipe"]);
}

#[tokio::test]
async fn rows_of_another_width_are_refused_and_the_others_go_in() {
    let world = World::new().await;
    let file = "Id,Name\n1,One\n2\n3,Three,more\n\n4,\"Fo\nur\",more\n5,Five\n";
    let (figures, issues) = import(&world, file).await;
    assert_eq!(figures, [2, 0, 0, 3]);
    let expected = [
        (3, "has 1 value where the header has 2 columns"),
        (4, "has 3 values where the header has 2 columns"),
        (
            6,
            "has 3 values where the header has 2 columns; it goes from line 6 to line 7, so a quote may be missing",
        ),
    ];
    assert_eq!(issues, expected.map(|(line, problem)| (line, String::new(), problem.to_owned())));
}

#[tokio::test]
async fn bytes_that_are_no_text_are_refused_with_their_column() {
    let world = World::new().await;
    let file = b"Id,Name\n1,good\n2,\xb0\xa2\xc0\xef\n3\xe4,\xbd\xa0\n4,\xe4\xbd\xa0\n5,nu\0ll\n".to_vec();
    // The header is looked at together with the first rows, where no binary file would pass: so the NUL comes late.
    let mut late = b"Id,Name\n".to_vec();
    (0..80_000).for_each(|n| late.extend(format!("p{n},padding\n").bytes()));
    late.extend(&file[8..]);
    let (figures, issues) = import(&world, late).await;
    assert_eq!(figures, [80_002, 0, 0, 3]);
    let save = "save the file as `CSV UTF-8`";
    let expected = [
        (80_003, format!("is not UTF-8 in column `Name`; {save}")),
        (80_004, format!("is not UTF-8 in column `Id`; {save}")),
        (80_006, "has the character U+0000, which texts cannot have".into()),
    ];
    assert_eq!(issues, expected.map(|(line, problem)| (line, String::new(), problem)));
    assert_eq!(world.names().await.last().unwrap(), "你");
}

#[tokio::test]
async fn a_row_of_a_mebibyte_goes_in() {
    let world = World::new().await;
    let note = "长".repeat(350_000);
    let file = format!("Id,Name,Note\n1,One,\"{note}\"\n2,Two,\"{note}\"\n3,Three,\n");
    let (figures, issues) = import(&world, file).await;
    assert_eq!((figures, issues.len()), ([3, 0, 0, 0], 0));
    assert_eq!(world.count("SELECT count(*) FROM gadgets WHERE octet_length(note) = 1050000").await, 2);
}

#[tokio::test]
async fn a_quote_without_end_swallows_rows_but_says_so() {
    let world = World::new().await;
    let rest = "7,Seven\n".repeat(600_000);
    let (figures, issues) = import(&world, format!("Id,Name\n1,One\n2,\"Two\n{rest}")).await;
    assert_eq!(figures, [1, 0, 0, 1]);
    let says = "is longer than 4 MiB; it goes from line 3 to line 600004, so a quote may be missing";
    assert_eq!(issues, [(3, String::new(), says.to_owned())]);
}
