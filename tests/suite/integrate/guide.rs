//! The guide shows the programs as they are.

const GUIDE: &str = include_str!("../../../docs/integrate.md");

#[test]
fn the_guide_shows_the_programs_as_they_are() {
    for (name, kind, program) in [
        ("integrate/warehouse.py", "python", include_str!("../../../docs/integrate/warehouse.py")),
        ("integrate/receiver.py", "python", include_str!("../../../docs/integrate/receiver.py")),
        ("integrate/hear.rs", "rust", include_str!("../../../docs/integrate/hear.rs")),
    ] {
        assert!(GUIDE.contains(&format!("]({name})")), "the guide has no link to {name}");
        assert!(
            GUIDE.contains(&format!("```{kind}\n{program}```\n")),
            "the guide does not show {name} as it is: copy it into the guide"
        );
    }
}
