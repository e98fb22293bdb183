//! Each change is told once, what is read changes nothing, and the table of all methods: who may, under which path, what a
//! repetition does, and what is told. The table is a reviewed snapshot: what changes there changes for integrators.
use std::{collections::BTreeSet, fmt::Write as _};

use prost_reflect::Value;
use rapport_proto::{Access, Method, POOL, Rule, SessionEffect, methods};

use super::{
    evidence::{Evidence, differing, mismatches},
    exactly,
    isolation::{DEPTH, choices},
    name, none, refusal,
    resource::Resource,
    stage::Stage,
};

/// Writes that tell nothing, and why.
const SILENT: &[(&str, &str)] = &[
    ("ChangePassword", "a password is its owner's own affair; nobody else follows it"),
    ("ExchangeCredential", "a token is no change"),
    ("RevokeSession", "sessions are their owner's own; that they begin is told"),
    ("SignOut", "sessions are their owner's own; that they begin is told"),
];

/// Methods after which a worker goes on with the record at once, so that its version moves on by itself.
const GOES_ON: &[&str] = &["CancelImport", "DryRunImport", "StartImport", "UndoImport"];

/// The field by which an upsert finds a record.
const KEY: &str = "external_id";

const REGISTRY: &str = include_str!("../../../proto/registry.lock");

/// Whether a write is known to tell nothing.
pub(super) fn is_silent(method: &Method) -> bool {
    SILENT.iter().any(|(silent, _)| *silent == name(method))
}

/// The REST face: verb and path.
pub(super) fn face(method: &Method) -> (String, String) {
    let http = POOL.get_extension_by_name("google.api.http").unwrap();
    let options = method.descriptor.options();
    let rule = options.get_extension(&http).into_owned();
    let rule = rule.as_message().unwrap();
    ["get", "post", "put", "patch", "delete"]
        .into_iter()
        .find(|verb| rule.has_field_by_name(verb))
        .map(|verb| {
            let path = rule.get_field_by_name(verb).unwrap().as_str().unwrap().to_owned();
            (verb.to_uppercase(), path)
        })
        .unwrap_or_else(|| panic!("{} has no REST face", method.path))
}

/// A line of the table.
fn line(method: &Method, events: &BTreeSet<String>) -> String {
    let rule = match &method.rule {
        Some(Rule::Permission(permission)) => permission.clone(),
        Some(Rule::Access(Access::Public)) => "anyone".into(),
        Some(Rule::Access(Access::SignedIn)) => "signed in".into(),
        Some(Rule::Access(Access::Internal)) => "services only".into(),
        Some(Rule::Access(Access::Operator)) => "operators only".into(),
        None => "nobody".into(),
    };
    let session = match method.session {
        SessionEffect::None => "",
        SessionEffect::Begins => ", begins a session",
        SessionEffect::Ends => ", ends the session",
    };
    let repetition = match (method.writes(), method.input().get_field_by_name("request_id")) {
        (false, _) => "read",
        (true, Some(_)) => "write, request id",
        (true, None) => "write",
    };
    let (verb, path) = face(method);
    let told = events.iter().cloned().collect::<Vec<_>>().join(", ");
    let full = format!("{}.{}/{}", method.service(), method.descriptor.parent_service().name(), name(method));
    format!(
        "{full}\n  {verb} {path}\n  {rule}{session}; {repetition}; tells {}",
        if told.is_empty() { "nothing" } else { &told }
    )
}

/// Calls a method with one of the alternatives of its request, about a record that there is or one that is new; collects what is wrong, and gives what was told.
async fn observe(
    stage: &Stage,
    evidence: &mut Evidence,
    method: &'static Method,
    (choice, is_new): (usize, bool),
    findings: &mut Vec<String>,
) -> BTreeSet<String> {
    let path = format!("{} ({choice})", method.path);
    let mut prepared = match stage.prepare_choice(method, choice).await {
        Ok(prepared) => prepared,
        Err(problem) => {
            findings.push(problem);
            return BTreeSet::new();
        }
    };
    if is_new {
        prepared.request.set_field_by_name(KEY, Value::String(stage.word()));
        let record = Resource::of(method).unwrap().body(method);
        prepared.request.get_field_mut(&record).as_message_mut().unwrap().clear_field_by_name("id");
    }
    let (rows, versions, mark) = (evidence.digests().await, evidence.versions().await, evidence.mark().await);
    let answer = refusal(stage.run(&prepared).await);
    let events = evidence.since(&mark).await;
    match &answer {
        Err(status) => findings.push(format!("{path}: there is no request that succeeds: {status:?}")),
        Ok(_) if !method.writes() => {
            let left = differing(&rows, &evidence.digests().await);
            if !left.is_empty() {
                findings.push(format!("{path} is a read, but changes {left:?}"));
            }
        }
        Ok(_) if !GOES_ON.contains(&name(method)) => {
            let faults = mismatches(&versions, &evidence.versions().await, &events);
            findings.extend(faults.into_iter().map(|fault| format!("{path}: {fault}")));
        }
        // The worker tells what it does by itself; here it is what the call did.
        Ok(_) if events.len() != 1 => findings.push(format!("{path} tells {events:?}")),
        Ok(_) => {}
    }
    if let (Some(resource), Some(id)) = (Resource::of(method), &prepared.id)
        && GOES_ON.contains(&name(method))
    {
        stage.settle(&resource, id).await;
    }
    if method.writes() && events.is_empty() && !is_silent(method) {
        findings.push(format!("{path} tells nothing"));
    }
    events.into_iter().map(|event| event.subject).collect()
}

#[tokio::test]
async fn each_change_is_told_once_and_the_table_of_methods_is_as_reviewed() {
    let stage = Stage::new().await;
    let mut evidence = Evidence::of(&stage.world).await;
    let (mut findings, mut silent, mut table) = (Vec::new(), Vec::new(), String::new());
    for method in methods() {
        let mut subjects = BTreeSet::new();
        // An upsert is asked for a key that there is, and for one that there is not.
        let keys =
            if method.input().get_field_by_name(KEY).is_some() { &[false, true][..] } else { &[false] };
        for choice in 0..choices(&method.input(), DEPTH) {
            for is_new in keys {
                let asked = (choice, *is_new);
                subjects.extend(observe(&stage, &mut evidence, method, asked, &mut findings).await);
            }
        }
        if method.writes() && subjects.is_empty() {
            silent.push(name(method));
        }
        for subject in &subjects {
            if !REGISTRY.lines().any(|line| line == format!("event {subject}")) {
                findings
                    .push(format!("{} tells `{subject}`, which is not in proto/registry.lock", method.path));
            }
        }
        let _ = writeln!(table, "{}", line(method, &subjects));
    }
    none(&findings);
    exactly("writes that tell nothing", &silent, SILENT);
    let gone: Vec<_> = GOES_ON.iter().filter(|known| !methods().any(|m| name(m) == **known)).collect();
    assert!(gone.is_empty(), "there are no methods {gone:?} after which a worker goes on");
    insta::assert_snapshot!("methods", table);
}
