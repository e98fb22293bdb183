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

/// The reasons of errors, as the sources write them: `Error::rule("REASON", …)` and `reason: "REASON"`.
fn reasons(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path: PathBuf = entry.unwrap().path();
        if path.is_dir() {
            if !["target", "node_modules", "tests"].iter().any(|skipped| path.ends_with(skipped)) {
                reasons(&path, names);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).unwrap();
            for (at, _) in text.match_indices("rule(") {
                let argument = text[at + "rule(".len()..].trim_start();
                let Some(reason) = argument.strip_prefix('"').and_then(|rest| rest.split('"').next()) else {
                    continue;
                };
                if !reason.is_empty() && reason.bytes().all(|b| b.is_ascii_uppercase() || b == b'_') {
                    names.insert(format!("reason {reason}"));
                }
            }
        }
    }
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
