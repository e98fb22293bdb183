//! Mappings that make no sense, each named with what would be right.
use rapport_proto::imports::v1::{self as pb, ImportState};

use crate::world::{World, column, gadgets, state, text_field};

#[tokio::test]
async fn a_mapping_that_cannot_be_is_refused_with_what_can() {
    let world = World::new().await;
    world.field(&world.ctx, text_field("city", &[("en", "City")])).await;
    let import = world.uploaded(gadgets(3)).await;
    let constant = pb::Mapping {
        target: "external_id".into(),
        value: Some(pb::mapping::Value::Constant("1".into())),
        ..pb::Mapping::default()
    };
    for (mappings, says) in [
        (
            vec![column("attributes.cty", "Name")],
            "import.mappings[0].target: there is no `attributes.cty`; near it are `attributes.city`",
        ),
        (
            vec![column("zzz", "Name")],
            "import.mappings[0].target: there is no `zzz`; there are `display_name`, `note`, `external_id`, `attributes.city`",
        ),
        (
            vec![column("display_name", "name")],
            "import.mappings[0].column: the file has no column `name`; it has `Id`, `Name`",
        ),
        (
            vec![column("note", "Name"), column("note", "Id")],
            "import.mappings[1].target: `note` is filled twice",
        ),
        (
            vec![constant],
            "import.mappings[0].constant: `external_id` tells rows apart, so it must come from a column",
        ),
    ] {
        let refused = world.map(&import, mappings).await.unwrap_err();
        assert_eq!(refused.to_string(), says);
    }
    assert_eq!(world.get(&import.id).await, import, "nothing was changed");
    let early = pb::Import {
        resource: "gadget".into(),
        mappings: vec![column("nam", "Name")],
        ..pb::Import::default()
    };
    assert!(world.create_from(early).await.unwrap_err().to_string().contains("there is no `nam`"));
}

#[tokio::test]
async fn what_is_required_is_asked_for_before_anything_begins() {
    let world = World::new().await;
    let import = world.uploaded(gadgets(3)).await;
    for (mappings, source, says) in [
        (vec![column("note", "Name")], "erp", "`display_name` is required; map a column or a constant to it"),
        (
            vec![column("display_name", "")],
            "erp",
            "`display_name` is required; map a column or a constant to it",
        ),
        (
            vec![column("display_name", "Name"), column("external_id", "Id")],
            "",
            "`external_id` is mapped, so `source` must name the system whose keys these are",
        ),
    ] {
        let changed =
            pb::Import { id: import.id.clone(), mappings, source: source.into(), ..pb::Import::default() };
        let paths = vec!["mappings".into(), "source".into()];
        let request = pb::UpdateImportRequest {
            import: Some(changed),
            update_mask: Some(prost_types::FieldMask { paths }),
            request_id: String::new(),
        };
        world.imports.update(&world.ctx, request).await.unwrap();
        for refused in
            [world.dry_run(&import.id).await.unwrap_err(), world.start(&import.id).await.unwrap_err()]
        {
            assert_eq!((refused.reason(), refused.to_string().as_str()), ("IMPORT_INCOMPLETE", says));
        }
    }
    assert_eq!(state(&world.get(&import.id).await), ImportState::Ready);
    assert_eq!(world.count("SELECT count(*) FROM platform.import_work").await, 0);
}

#[tokio::test]
async fn mappings_made_before_the_file_are_held_against_it_at_the_start() {
    let world = World::new().await;
    let early = pb::Import {
        resource: "gadget".into(),
        mappings: vec![column("display_name", "Label")],
        ..pb::Import::default()
    };
    let import = world.create_from(early).await.unwrap();
    let import = world.upload(&import.id, gadgets(3)).await.unwrap();
    assert_eq!(import.mappings, [column("display_name", "Label")], "what people chose is kept");
    let refused = world.start(&import.id).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "import.mappings[0].column: the file has no column `Label`; it has `Id`, `Name`"
    );
}
