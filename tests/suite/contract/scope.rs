//! Record scope holds in every method: who has every permission on *own* records sees own and shared ones only, in every
//! answer; another's record is not found; one that is shared to read may be read and not changed.
use std::{collections::BTreeMap, sync::OnceLock, time::Duration};

use prost_reflect::{DynamicMessage, Kind, Value};
use rapport::suite::Role;
use rapport_proto::{Method, POOL, identity::v1 as pb, methods};
use rapport_test_kit::{Caller, Ids, call, host, json, sample};
use tonic::{Code, Status};

use super::{
    evidence::{Evidence, differing},
    isolation::{Asked, compared, has_part},
    name, none, refusal,
    resource::{Resource, about, resources},
    stage::Stage,
};

/// What a caller has of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Right {
    /// It is somebody else's.
    None,
    /// It was shared to be read.
    Read,
    /// It was shared to be changed.
    Write,
    /// It belongs to a unit below the caller's.
    Unit,
    /// It is the caller's own.
    Own,
}

/// Whether the contract says that such records have owners.
fn is_owned(resource: &Resource) -> bool {
    let option = POOL.get_extension_by_name("rapport.options.v1.resource").unwrap();
    let options = resource.message.options();
    let value = options.get_extension(&option).into_owned();
    value.as_message().unwrap().get_field_by_name("owned").unwrap().as_bool().unwrap()
}

/// Somebody who may do everything to the records of a scope.
async fn person(stage: &Stage, scope: pb::Scope) -> Caller {
    let mut roles = pb::role_service_client::RoleServiceClient::new(stage.tenant.direct("identity"));
    let known = roles.list_permissions(pb::ListPermissionsRequest {}).await.unwrap().into_inner().permissions;
    let permissions = known
        .into_iter()
        .map(|known| pb::Permission {
            name: known.name,
            scope: if known.scoped { scope.into() } else { pb::Scope::All.into() },
        })
        .collect();
    let role = pb::Role { display_name: stage.word(), permissions, ..pb::Role::default() };
    let request = pb::CreateRoleRequest { role: Some(role), ..pb::CreateRoleRequest::default() };
    let role = roles.create_role(request).await.unwrap().into_inner();
    stage.tenant.person_with(&[format!("identity.role/{}", role.id)]).await
}

/// The name of a unit below that of the caller, where a test has one.
static UNIT_BELOW: OnceLock<String> = OnceLock::new();

/// Puts somebody into a unit above another one, and waits until every service has heard of it.
async fn put_above(stage: &Stage, caller: &Caller) {
    let unit = async |parent: &str| {
        let unit = serde_json::json!({"displayName": stage.word(), "parent": parent});
        let unit = json(stage.tenant.post("/v1/units", &unit).await).await;
        format!("identity.unit/{}", unit["id"].as_str().unwrap())
    };
    let above = unit("").await;
    let _ = UNIT_BELOW.set(unit(&above).await);
    let path = format!("/v1/users/{}", caller.user.id);
    json(stage.tenant.patch(&path, &serde_json::json!({"unit": above})).await).await;
    let mut customer = stage.world.databases.superuser(Role::Customer).await;
    let heard = "SELECT count(*) FROM directory_users u JOIN directory_units_below b ON b.tenant_id = u.tenant_id AND b.above_id = u.unit_id
                 WHERE u.id::text = $1";
    while sqlx::query_scalar::<_, i64>(heard).bind(&caller.user.id).fetch_one(&mut customer).await.unwrap()
        < 2
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What one method did with one record.
struct Trial {
    asked: Asked,
    /// Whether the request names the record by its id.
    is_named: bool,
    answer: Result<DynamicMessage, Status>,
    /// The tables whose rows about the record changed.
    changed: Vec<String>,
    id: String,
}

impl Trial {
    /// Asks a method for the record `id`, whose texts say `word`.
    async fn make(
        stage: &Stage,
        evidence: &mut Evidence,
        resource: &Resource,
        caller: &Caller,
        asked: Asked,
        id: String,
        word: &str,
    ) -> Self {
        let (method, choice) = asked;
        let mut ids = Ids { choice, ..stage.ids.saying(word) };
        if about(method) == resource.kind {
            ids.own = Some(id.clone());
        }
        ids.of.insert(resource.kind.clone(), id.clone());
        let mut request = sample(&method.input(), &about(method), &ids);
        let is_named = if Resource::of(method).is_some_and(|own| own.create.path == method.path) {
            request = stage.to_create(&Resource::of(method).unwrap(), &stage.word());
            false
        } else {
            format!("{request:?}").contains(&id) && !has_part(&request, &["create"])
        };
        let before = evidence.digests_about(&id).await;
        let answer = refusal(call(caller.direct(host(method)), method, request).await);
        let changed = differing(&before, &evidence.digests_about(&id).await);
        Self { asked, is_named, answer, changed, id }
    }

    /// Whether the answer says that there is such a record.
    fn shows(&self) -> bool {
        self.answer.as_ref().is_ok_and(|answer| format!("{answer:?}").contains(&self.id))
    }

    /// Whether the method gives several records of this kind, among which the record would be.
    fn lists(&self, resource: &Resource) -> bool {
        let method = self.asked.0;
        let gives = |field: &prost_reflect::FieldDescriptor| {
            field.is_list() && matches!(field.kind(), Kind::Message(inner) if inner == resource.message)
        };
        !method.writes() && !self.is_named && method.output().fields().any(|field| gives(&field))
    }

    /// Whether this says anything about scope.
    fn concerns(&self, resource: &Resource) -> bool {
        self.is_named || self.lists(resource)
    }

    /// What is wrong with it.
    fn finding(&self, resource: &Resource, right: Right) -> Option<String> {
        let (method, choice) = self.asked;
        let code = self.answer.as_ref().err().map(Status::code);
        let wrong = match right {
            Right::None if self.shows() => "shows it",
            Right::None | Right::Read if !self.changed.is_empty() => "changes it",
            Right::None if self.is_named && code != Some(Code::NotFound) => {
                "does not say that it is not found"
            }
            Right::None => return None,
            _ if self.lists(resource) && !self.shows() => "does not show it",
            _ if !self.is_named => return None,
            Right::Read if method.writes() && code != Some(Code::PermissionDenied) => "lets it be written",
            Right::Read if !method.writes() && code.is_some() => "does not let it be read",
            Right::Read => return None,
            Right::Write | Right::Unit | Right::Own
                if matches!(code, Some(Code::NotFound | Code::PermissionDenied)) =>
            {
                "does not let it be used"
            }
            Right::Write | Right::Unit | Right::Own => return None,
        };
        let path = &method.path;
        Some(format!("{path} ({choice}) with the right {right:?} {wrong}: {:?}", self.answer))
    }
}

/// A record that the caller has this right to.
async fn record(stage: &Stage, resource: &Resource, caller: &Caller, right: Right, word: &str) -> String {
    let mut create = stage.to_create(resource, word);
    if let Some(record) = create.get_field_mut(&resource.body(resource.create)).as_message_mut() {
        let owner = if right == Right::Own { caller.name() } else { stage.tenant.name() };
        record.set_field_by_name("owner", Value::String(owner));
        let unit = if right == Right::Unit { UNIT_BELOW.get().cloned() } else { None };
        record.set_field_by_name("unit", Value::String(unit.unwrap_or_default()));
    }
    let answer = stage.call(resource.create, create).await.unwrap();
    let id = super::resource::id_of(&answer).unwrap();
    // Somebody has a share in any case, which can be taken back.
    let user = stage.ids.of["identity.user"].as_str();
    share(stage, resource, &id, user, 2).await;
    match right {
        Right::Read => share(stage, resource, &id, &caller.user.id, 1).await,
        Right::Write => share(stage, resource, &id, &caller.user.id, 2).await,
        Right::None | Right::Unit | Right::Own => {}
    }
    id
}

/// Gives a user a right on a record.
async fn share(stage: &Stage, resource: &Resource, id: &str, user: &str, level: i32) {
    let share = methods()
        .find(|method| about(method) == resource.kind && name(method).starts_with("Share"))
        .unwrap_or_else(|| panic!("{} has owners, but cannot be shared", resource.kind));
    let mut ids = stage.ids.clone();
    ids.own = Some(id.to_owned());
    ids.of.insert("identity.user".into(), user.to_owned());
    let mut request = sample(&share.input(), &resource.kind, &ids);
    let given = request.get_field_by_name_mut("share").and_then(Value::as_message_mut).unwrap();
    given.set_field_by_name("level", Value::EnumNumber(level));
    stage.call(share, request).await.unwrap();
}

/// What asking every method came to.
#[derive(Default)]
struct Outcome {
    findings: Vec<String>,
    /// The methods that it says something about, and whether something was found.
    checked: BTreeMap<String, bool>,
}

/// Asks every method for a record that the caller has this right to.
async fn check(stage: &Stage, evidence: &mut Evidence, caller: &Caller, right: Right) -> Outcome {
    let mut outcome = Outcome::default();
    for resource in resources().iter().filter(|resource| is_owned(resource)) {
        // Methods about this kind of record get one each, which they may change; the others have nothing to do with it.
        let word = stage.word();
        let strange = record(stage, resource, caller, right, &word).await;
        for asked in compared() {
            let (id, word) = if about(asked.0) == resource.kind {
                let word = stage.word();
                (record(stage, resource, caller, right, &word).await, word)
            } else {
                (strange.clone(), word.clone())
            };
            let trial = Trial::make(stage, evidence, resource, caller, asked, id, &word).await;
            let finding = trial.finding(resource, right);
            if trial.concerns(resource) {
                outcome.checked.insert(format!("{} ({})", asked.0.path, asked.1), finding.is_some());
            }
            outcome.findings.extend(finding);
        }
    }
    outcome
}

#[tokio::test]
async fn who_has_rights_on_own_records_sees_own_and_shared_ones_only() {
    let stage = Stage::new().await;
    let mut evidence = Evidence::of(&stage.world).await;
    let seller = person(&stage, pb::Scope::Own).await;
    let mut findings = Vec::new();
    for right in [Right::None, Right::Read, Right::Write, Right::Own] {
        let outcome = check(&stage, &mut evidence, &seller, right).await;
        findings.extend(outcome.findings);
        let checked = outcome.checked;
        assert!(checked.len() > 10, "only these concern a record with an owner: {:?}", checked.keys());
    }
    none(&findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_rights_on_a_unit_sees_what_belongs_to_it_and_to_those_below() {
    let stage = Stage::new().await;
    let mut evidence = Evidence::of(&stage.world).await;
    let manager = person(&stage, pb::Scope::Unit).await;
    put_above(&stage, &manager).await;
    let mut findings = Vec::new();
    for right in [Right::None, Right::Read, Right::Unit, Right::Own] {
        findings.extend(check(&stage, &mut evidence, &manager, right).await.findings);
    }
    none(&findings);
}

/// A sabotage: somebody whose rights are on all records. It proves that each method was asked for a record that there is,
/// and that what it does with one is seen.
#[tokio::test]
async fn who_has_rights_on_all_records_is_found_by_every_method() {
    let stage = Stage::new().await;
    let mut evidence = Evidence::of(&stage.world).await;
    let manager = person(&stage, pb::Scope::All).await;
    let checked = check(&stage, &mut evidence, &manager, Right::None).await.checked;
    let unseen: Vec<_> = checked.iter().filter(|(_, is_found)| !**is_found).collect();
    assert!(checked.len() > 10 && unseen.is_empty(), "not found: {unseen:#?}");
    let checked = check(&stage, &mut evidence, &manager, Right::Read).await.checked;
    let unseen: Vec<_> = checked
        .iter()
        .filter(|(path, is_found)| {
            let path = path.split(' ').next().unwrap_or_default();
            rapport_proto::method(path).is_some_and(Method::writes) && !**is_found
        })
        .collect();
    assert!(unseen.is_empty(), "not found: {unseen:#?}");
}
