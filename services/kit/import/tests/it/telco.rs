//! The 7,043 customers of a telephone company, as published.
use rapport_proto::{
    fields::v1::{self as fields_pb, FieldKind},
    imports::v1 as pb,
};

use crate::world::{World, column, figures, issues_free, progress, text_field};

pub(crate) const FILE: &[u8] = include_bytes!("../../../../../tests/data/telco-churn.csv");

/// Each column but the first, and what its values are.
const FIELDS: [(&str, FieldKind); 20] = [
    ("gender", FieldKind::Choice),
    ("SeniorCitizen", FieldKind::Boolean),
    ("Partner", FieldKind::Boolean),
    ("Dependents", FieldKind::Boolean),
    ("tenure", FieldKind::Number),
    ("PhoneService", FieldKind::Boolean),
    ("MultipleLines", FieldKind::Choice),
    ("InternetService", FieldKind::Choice),
    ("OnlineSecurity", FieldKind::Choice),
    ("OnlineBackup", FieldKind::Choice),
    ("DeviceProtection", FieldKind::Choice),
    ("TechSupport", FieldKind::Choice),
    ("StreamingTV", FieldKind::Choice),
    ("StreamingMovies", FieldKind::Choice),
    ("Contract", FieldKind::Choice),
    ("PaperlessBilling", FieldKind::Boolean),
    ("PaymentMethod", FieldKind::Choice),
    ("MonthlyCharges", FieldKind::Number),
    ("TotalCharges", FieldKind::Number),
    ("Churn", FieldKind::Boolean),
];

/// The key of a column's field: `monthlyCharges` of `MonthlyCharges`.
fn key(column: &str) -> String {
    column[..1].to_lowercase() + &column[1..]
}

/// Defines the 20 fields, two of them indexed.
pub(crate) async fn define_fields(world: &World) {
    let header: Vec<&str> = std::str::from_utf8(FILE).unwrap().lines().next().unwrap().split(',').collect();
    for (name, kind) in FIELDS {
        let at = header.iter().position(|column| *column == name).unwrap();
        let mut values: Vec<_> = std::str::from_utf8(FILE)
            .unwrap()
            .lines()
            .skip(1)
            .map(|line| line.split(',').nth(at).unwrap())
            .collect();
        values.sort_unstable();
        values.dedup();
        let choice = |key: &str| fields_pb::Choice { key: key.into(), ..fields_pb::Choice::default() };
        let choices =
            if kind == FieldKind::Choice { values.into_iter().map(choice).collect() } else { Vec::new() };
        let field = fields_pb::Field {
            kind: kind.into(),
            scale: if name.ends_with("Charges") { 2 } else { 0 },
            indexed: ["tenure", "MonthlyCharges"].contains(&name),
            choices,
            ..text_field(&key(name), &[("en", name)])
        };
        world.field(&world.ctx, field).await;
    }
}

/// The mappings: `customerID` is name and external id, `Yes` and `No` are true and false.
pub(crate) fn mappings() -> Vec<pb::Mapping> {
    let own = ["display_name", "external_id"].map(|target| column(target, "customerID"));
    let custom = FIELDS.map(|(name, kind)| {
        let mut mapping = column(&format!("attributes.{}", key(name)), name);
        if kind == FieldKind::Boolean {
            let map = [("Yes", "true"), ("No", "false"), ("1", "true"), ("0", "false")];
            mapping.value_map = map.map(|(from, to)| (from.into(), to.into())).into();
        }
        mapping
    });
    own.into_iter().chain(custom).collect()
}

#[tokio::test]
async fn the_whole_file_goes_in_with_twenty_custom_fields() {
    let world = World::new().await;
    define_fields(&world).await;
    let import = world.uploaded(FILE).await;
    assert_eq!(import.columns.len(), 21);
    assert_eq!(import.mappings.len(), 21, "all but the name are suggested: {:?}", import.mappings);
    let guess = progress(&import).rows_total;
    assert!((6_700..7_400).contains(&guess), "{guess}");

    world.map(&import, mappings()).await.unwrap();
    world.dry_run(&import.id).await.unwrap();
    let checked = world.work(&import.id).await;
    assert_eq!(figures(&checked), [7_043, 0, 0, 0], "{:?}", world.issues(&import.id).await);
    world.start(&import.id).await.unwrap();
    let done = world.work(&import.id).await;
    assert_eq!(figures(&done), [7_043, 0, 0, 0]);
    issues_free(&world, &import.id).await;

    let count = |sql| world.count(sql);
    assert_eq!(
        count("SELECT count(*) FROM gadgets WHERE NOT attributes ? 'totalCharges'").await,
        11,
        "blank ones"
    );
    assert_eq!(count("SELECT count(*) FROM gadgets WHERE (attributes ->> 'churn')::boolean").await, 1_869);
    assert_eq!(count("SELECT sum((attributes ->> 'tenure')::bigint)::bigint FROM gadgets").await, 227_990);
    let cents = "SELECT (sum((attributes ->> 'monthlyCharges')::numeric) * 100)::bigint FROM gadgets";
    assert_eq!(count(cents).await, 45_611_660, "to the cent");
    assert_eq!(count("SELECT count(*) FROM attribute_numbers").await, 2 * 7_043);
    assert_eq!(count("SELECT count(*) FROM platform.outbox WHERE resource = 'gadget'").await, 7_043);
}
