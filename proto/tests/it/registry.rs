//! Names that tenants store stand in `registry.lock`, which only ever grows.
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use prost_reflect::{DynamicMessage, Value};
use rapport_proto::{POOL, Rule, methods};

fn lock() -> BTreeSet<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("registry.lock");
    let text = fs::read_to_string(path).unwrap();
    text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(ToOwned::to_owned).collect()
}

/// The text in a field of the option `name`, where a message has it.
fn option(options: &DynamicMessage, name: &str, field: &str) -> Option<String> {
    let extension = POOL.get_extension_by_name(name).unwrap();
    if !options.has_extension(&extension) {
        return None;
    }
    let value = options.get_extension(&extension);
    match value.as_message()?.get_field_by_name(field)?.into_owned() {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for method in methods() {
        if let Some(Rule::Permission(permission)) = &method.rule {
            names.insert(format!("permission {permission}"));
        }
    }
    names.extend(rapport_proto::hearings().map(|(_, permission)| format!("permission {permission}")));
    for message in POOL.all_messages() {
        let options = message.options();
        if let Some(subject) = option(&options, "rapport.options.v1.event", "subject") {
            names.insert(format!("event {subject}"));
        }
        if let Some(kind) = option(&options, "rapport.options.v1.resource", "kind") {
            names.insert(format!("resource {kind}"));
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    reasons(&root.join("services"), &mut names);
    names
}

/// Words in capitals in the sources that no error gives as its reason. Every other one counts as a reason, wherever and
/// however it is written (an argument, a field, a constant, an arm of a match), so that none is forgotten.
const NO_REASONS: &[&str] = &[
    "ADDRESS",
    "BEGIN",
    "COMMIT",
    "CARGO_PKG_VERSION",
    "CUSTOMER_KIND",
    "CUSTOMER_STATUS",
    "CUSTOMER_TYPE",
    "ERROR",
    "FALSE",
    "FOLDER",
    "OPTIONS",
    "ROLLBACK",
    "SELECT",
];

/// The shortest reason has so many letters (`STALE`); shorter words in capitals are currencies, countries and the like.
const SHORTEST: usize = 5;

/// The reasons of errors: the texts in the sources that are words in capitals, tests apart.
fn reasons(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            if !["target", "node_modules", "tests", "simulation"]
                .iter()
                .any(|skipped| path.ends_with(skipped))
            {
                reasons(&path, names);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["tests.rs", "simulation.rs"].iter().any(|test| path.ends_with(test))
        {
            let text = fs::read_to_string(&path).unwrap();
            let product = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
            names.extend(
                capitals(product)
                    .filter(|word| !NO_REASONS.contains(word))
                    .map(|word| format!("reason {word}")),
            );
        }
    }
}

/// The texts of a source that are nothing but a word in capitals.
fn capitals(source: &str) -> impl Iterator<Item = &str> {
    let is_word = |text: &&str| {
        let ends = text.bytes().next().zip(text.bytes().last());
        text.len() >= SHORTEST
            && text.bytes().all(|b| b.is_ascii_uppercase() || b == b'_')
            && ends.is_some_and(|(first, last)| first != b'_' && last != b'_')
    };
    // What stands between any two neighbouring quotes: the text of a literal, or what is between two of them.
    source.split('"').filter(is_word)
}

#[test]
fn reasons_are_found_however_they_are_written() {
    let source = r#"
        Error::rule("IN_A_CALL", format!("`{name}` is no word"));
        const REASON: &str = "IN_A_CONSTANT";
        Error::Rule { reason: "IN_A_FIELD", message }
        Code::Aborted => "IN_AN_ARM",
        ("no_capitals", "SHUT", "PREFIX_", "A SENTENCE")
    "#;
    let found: Vec<_> = capitals(source).collect();
    assert_eq!(found, ["IN_A_CALL", "IN_A_CONSTANT", "IN_A_FIELD", "IN_AN_ARM"]);
}

#[test]
fn every_name_that_tenants_store_is_registered() {
    let missing: Vec<_> = names().difference(&lock()).cloned().collect();
    assert!(missing.is_empty(), "append these lines to proto/registry.lock:\n{}", missing.join("\n"));
}

#[test]
fn no_registered_name_goes_away() {
    let gone: Vec<_> = lock().difference(&names()).cloned().collect();
    assert!(
        gone.is_empty(),
        "tenants may have stored these names, so they must go on meaning the same: {gone:?}"
    );
}
