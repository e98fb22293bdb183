//! Boards and alarms speak of metrics that there are.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The metrics that a text names.
fn metrics(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    words.filter(|word| word.starts_with("rapport_") && word.len() > 8).map(str::to_owned).collect()
}

fn sources(folder: &Path, text: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !["tests", "target"].iter().any(|skipped| path.ends_with(skipped)) {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}

#[test]
fn boards_and_alarms_name_metrics_that_there_are() {
    let mut text = String::new();
    sources(&root().join("services"), &mut text);
    let told: BTreeSet<_> = text.split('"').filter(|word| word.starts_with("rapport_")).collect();
    let mut named = 0;
    for file in ["events.json", "alarms.yml"] {
        let text = fs::read_to_string(root().join("deploy/dashboards").join(file)).unwrap();
        for metric in metrics(&text) {
            assert!(told.contains(metric.as_str()), "{file} names `{metric}`, which nobody tells");
            named += 1;
        }
    }
    assert!(named > 15, "only {named} metrics are named");
    let board = fs::read_to_string(root().join("deploy/dashboards/events.json")).unwrap();
    let board: serde_json::Value = serde_json::from_str(&board).unwrap();
    assert!(board["panels"].as_array().unwrap().len() > 10);
}
