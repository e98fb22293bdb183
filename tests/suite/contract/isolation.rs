//! No method shows, changes, or lets one guess a record of another tenant: what is said about its id is what is said about
//! an id that does not exist. `time` looks at how long it takes.
use prost_reflect::{DynamicMessage, Value};
use rapport_proto::{Method, Rule, SessionEffect};
use rapport_test_kit::{Caller, Ids, Tenant, World, call, host, park, sample};
use sqlx::{AssertSqlSafe, Executor as _};
use tonic::Status;

use super::{
    callable,
    evidence::{Evidence, differing},
    none,
    prepare::PARKED,
    refusal,
    resource::{Resource, about, id_of, resources},
};

/// What the records of the other tenant say, so that they are known wherever they turn up.
const CANARY: &str = "canary";

/// How deep alternatives of a request lie.
pub(super) const DEPTH: usize = 3;

/// How many methods take ids at least; a test that compared fewer would prove nothing.
const LEAST: usize = 25;

/// Tenant, people and ids for one side of the comparison, and the other.
pub(super) struct Sides {
    pub(super) world: World,
    /// Somebody who asks for the other tenant's records.
    pub(super) asks_theirs: Caller,
    /// Somebody of a third tenant who asks for what does not exist, so that what one call made is not in the way of the other.
    pub(super) asks_nothing: Caller,
    pub(super) theirs: Ids,
    pub(super) nothing: Ids,
    /// Somebody of the other tenant itself.
    insider: Tenant,
    /// The other tenant's id.
    tenant: String,
}

/// A record of each kind that a caller can make.
async fn records(world: &World, caller: &Tenant, word: &str) -> Ids {
    let mut ids = Ids::none(word);
    ids.of.insert("identity.user".into(), caller.user.id.clone());
    for resource in resources().into_iter().filter(|r| callable().any(|m| m.path == r.create.path)) {
        let method = resource.create;
        let mut request = sample(&method.input(), &resource.kind, &ids);
        if let Some(record) = request.get_field_mut(&resource.body(method)).as_message_mut() {
            record.clear_field_by_name("id");
        }
        let answer = call(caller.direct(host(method)), method, request).await;
        let answer = answer.unwrap_or_else(|status| panic!("{}: {status:?}", method.path));
        ids.of.insert(resource.kind, id_of(&answer).unwrap());
    }
    ids.of.insert(PARKED.into(), park(&world.databases, &caller.id, word).await);
    let list = rapport_proto::method("/rapport.identity.v1.SessionService/ListSessions").unwrap();
    let sessions = call(caller.direct("identity"), list, DynamicMessage::new(list.input())).await.unwrap();
    let sessions = sessions.get_field_by_name("sessions").unwrap().into_owned();
    let session = sessions.as_list().and_then(|all| all.first()?.as_message().and_then(id_of));
    ids.of.extend(session.map(|session| ("identity.session".to_owned(), session)));
    ids
}

impl Sides {
    pub(super) async fn new() -> Self {
        let world = World::new().await;
        let (tea, wool, silk) =
            (world.tenant("tea").await, world.tenant("wool").await, world.tenant("silk").await);
        let theirs = records(&world, &silk, CANARY).await.saying("sample");
        Self {
            asks_theirs: tea.clone(),
            asks_nothing: wool.clone(),
            nothing: theirs.of_nothing(),
            theirs: Ids { other: Some(rapport_kernel::Clock::system().new_uuid().to_string()), ..theirs },
            tenant: silk.id.clone(),
            insider: silk,
            world,
        }
    }
}

/// A method, and which of the alternatives of its request is asked.
pub(super) type Asked = (&'static Method, usize);

/// The methods to compare: all but those that begin or end the caller's own sessions. Reads come first, what ends a record
/// after what needs one, and what makes records last, since it makes some with the very ids that the others are to find
/// missing.
pub(super) fn compared() -> Vec<Asked> {
    let mut methods: Vec<_> = callable()
        .filter(|method| {
            let is_public = method.rule == Some(Rule::Access(rapport_proto::Access::Public));
            method.session == SessionEffect::None && !is_public && super::name(method) != "ChangePassword"
        })
        .flat_map(|method| (0..choices(&method.input(), DEPTH)).map(move |choice| (method, choice)))
        .collect();
    methods.sort_by_key(|asked| (makes(*asked), ends(*asked), asked.0.writes()));
    methods
}

/// Whether a method ends a record, so that others do not find it afterwards.
fn ends((method, choice): Asked) -> bool {
    let request = sample(&method.input(), &about(method), &Ids { choice, ..Ids::none("any") });
    let verbs = ["Delete", "Deactivate", "Revoke"];
    verbs.iter().any(|verb| super::name(method).starts_with(verb)) || has_part(&request, &["delete"])
}

/// Whether a method makes a record, so that its ids are those of what is to be.
pub(super) fn makes((method, choice): Asked) -> bool {
    let creates = Resource::of(method).is_some_and(|resource| resource.create.path == method.path);
    let request = sample(&method.input(), &about(method), &Ids { choice, ..Ids::none("any") });
    creates || super::name(method).starts_with("Upsert") || has_part(&request, &["create", "upsert"])
}

/// Whether a request has one of these parts somewhere.
pub(super) fn has_part(request: &DynamicMessage, names: &[&str]) -> bool {
    request.fields().any(|(field, value)| {
        let inside = |value: &Value| value.as_message().is_some_and(|inner| has_part(inner, names));
        names.contains(&field.name())
            || inside(value)
            || value.as_list().is_some_and(|list| list.iter().any(inside))
    })
}

/// How many alternatives the parts of a request have.
pub(super) fn choices(message: &prost_reflect::MessageDescriptor, depth: usize) -> usize {
    let own = message.oneofs().filter(|oneof| !oneof.is_synthetic()).map(|oneof| oneof.fields().count());
    let inner = message.fields().filter_map(|field| match field.kind() {
        prost_reflect::Kind::Message(inner) if depth > 0 && inner.full_name().starts_with("rapport.") => {
            Some(choices(&inner, depth - 1))
        }
        _ => None,
    });
    own.chain(inner).max().unwrap_or(1)
}

pub(super) async fn ask(
    caller: &Caller,
    (method, choice): Asked,
    ids: &Ids,
) -> Result<DynamicMessage, Status> {
    let request = sample(&method.input(), &about(method), &Ids { choice, ..ids.clone() });
    refusal(call(caller.direct(host(method)), method, request).await)
}

/// A method as findings name it.
fn described((method, choice): Asked) -> String {
    format!("{} ({choice})", method.path)
}

/// What is said, with the ids in it made the same: code, message and details of a refusal.
fn said(answer: &Result<DynamicMessage, Status>, ids: &Ids) -> String {
    let text = match answer {
        Ok(_) => "an answer".to_owned(),
        Err(status) => {
            let details = String::from_utf8_lossy(status.details()).into_owned();
            format!("{:?}: {} {details:?}", status.code(), status.message())
        }
    };
    let known = ids.of.values().chain(&ids.other);
    known.fold(text, |text, id| text.replace(id.as_str(), "<id>"))
}

/// What tells the other tenant's records from nothing; and the methods that refused their ids.
async fn leaks(
    asked: Vec<Asked>,
    asks_theirs: &Caller,
    theirs: &Ids,
    asks_nothing: &Caller,
    nothing: &Ids,
) -> (Vec<String>, Vec<Asked>) {
    let (mut findings, mut refused) = (Vec::new(), Vec::new());
    for asked in asked {
        let path = described(asked);
        let of_theirs = ask(asks_theirs, asked, theirs).await;
        let of_nothing = ask(asks_nothing, asked, nothing).await;
        let (left, right) = (said(&of_theirs, theirs), said(&of_nothing, nothing));
        if left != right {
            findings.push(format!("{path} tells them apart: {left} and {right}"));
        }
        if of_theirs.as_ref().is_ok_and(|answer| format!("{answer:?}").contains(CANARY)) {
            findings.push(format!("{path} shows what the other tenant has"));
        }
        if of_nothing.is_err() && !makes(asked) {
            refused.push(asked);
        }
    }
    (findings, refused)
}

#[tokio::test]
async fn ids_of_another_tenant_are_as_unknown_as_ids_that_do_not_exist() {
    let sides = Sides::new().await;
    let mut evidence = Evidence::of(&sides.world).await;
    let before = evidence.digests_of(&sides.tenant).await;
    let (mut findings, refused) =
        leaks(compared(), &sides.asks_theirs, &sides.theirs, &sides.asks_nothing, &sides.nothing).await;
    let changed = differing(&before, &evidence.digests_of(&sides.tenant).await);
    if !changed.is_empty() {
        findings.push(format!("something of the other tenant changed in {changed:?}"));
    }
    none(&findings);
    let refused: Vec<_> = refused.into_iter().map(described).collect();
    assert!(refused.len() >= LEAST, "only these refused an id: {refused:#?}");
}

/// A sabotage: the one who asks belongs to the other tenant, as if walls were not there. It proves that each method was
/// asked for a record that there is, that the comparison sees the difference, and that the digests see the changes.
#[tokio::test]
async fn somebody_inside_the_other_tenant_is_told_apart_by_every_method_that_takes_an_id() {
    let sides = Sides::new().await;
    let mut evidence = Evidence::of(&sides.world).await;
    let before = evidence.digests_of(&sides.tenant).await;
    let (mut findings, mut refused, mut theirs) = (Vec::new(), Vec::new(), sides.theirs.clone());
    for (n, asked) in compared().into_iter().enumerate() {
        // What one method ends, the next is not to look for.
        if ends(asked) {
            theirs = records(&sides.world, &sides.insider, &format!("{CANARY}{n}")).await;
        }
        let (found, denied) =
            leaks(vec![asked], &sides.insider, &theirs, &sides.asks_nothing, &sides.nothing).await;
        findings.extend(found);
        refused.extend(denied);
    }
    let unseen: Vec<_> = refused
        .into_iter()
        .map(described)
        .filter(|path| !findings.iter().any(|finding| finding.starts_with(&format!("{path} "))))
        .collect();
    assert!(unseen.is_empty(), "not told apart: {unseen:#?}");
    assert!(findings.iter().any(|finding| finding.contains("shows what the other tenant has")));
    let changed = differing(&before, &evidence.digests_of(&sides.tenant).await);
    assert!(changed.len() > 5, "only these tables changed: {changed:?}");
}

/// The first belt alone: without row-level security it is the statements that name the tenant, and nothing leaks either.
#[tokio::test]
async fn statements_name_the_tenant_even_where_no_policy_does() {
    let sides = Sides::new().await;
    let mut evidence = Evidence::of(&sides.world).await;
    for conn in evidence.conns() {
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relrowsecurity",
        )
        .fetch_all(&mut *conn)
        .await
        .unwrap();
        for table in tables {
            let disable = format!("ALTER TABLE {table} DISABLE ROW LEVEL SECURITY");
            conn.execute(AssertSqlSafe(disable)).await.unwrap();
        }
    }
    let before = evidence.digests_of(&sides.tenant).await;
    let (findings, _) =
        leaks(compared(), &sides.asks_theirs, &sides.theirs, &sides.asks_nothing, &sides.nothing).await;
    none(&findings);
    assert_eq!(before, evidence.digests_of(&sides.tenant).await);
}
