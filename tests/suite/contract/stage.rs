//! A world in which every method can be called: callers of each sort, and a record of each kind.
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use prost_reflect::{DynamicMessage, Kind, Value};
use rapport::access::Bearer;
use rapport_proto::{Access, Method, Rule};
use rapport_test_kit::{Ids, Tenant, World, call, host, park, sample};
use tonic::Status;

use super::{
    prepare::PARKED,
    resource::{Resource, id_of, record_in, resources},
};

/// The world, a tenant with two people, and records of each kind.
pub(super) struct Stage {
    pub(super) world: World,
    pub(super) tenant: Tenant,
    /// A record of each kind, to refer to.
    pub(super) ids: Ids,
    /// Another one of each, for changes.
    pub(super) others: Ids,
    operator: Bearer,
    words: AtomicUsize,
}

impl Stage {
    pub(super) async fn new() -> Self {
        let world = World::new().await;
        let (tenant, operator) = (world.tenant("tea").await, world.operator().await);
        let none = Ids::none("stage");
        let mut stage =
            Self { world, tenant, ids: none.clone(), others: none, operator, words: AtomicUsize::new(0) };
        stage.ids.of.insert("identity.user".into(), stage.tenant.user.id.clone());
        for resource in resources() {
            let (id, _) = stage.make(&resource).await;
            stage.ids.of.entry(resource.kind).or_insert(id);
        }
        let parked = park(&stage.world.databases, &stage.tenant.id, "stage").await;
        stage.ids.of.insert(PARKED.into(), parked);
        stage.others = Ids { nth: 1, ..stage.ids.clone() };
        for resource in resources() {
            let (id, _) = stage.make(&resource).await;
            stage.others.of.insert(resource.kind, id);
        }
        // What is told of a tenant's people and keys is told in their tenant.
        stage.others.of.insert("identity.tenant".into(), stage.tenant.id.clone());
        stage
    }

    /// A word that no record has so far; all are of the same length, so that every order agrees on them.
    pub(super) fn word(&self) -> String {
        format!("sample{:03}", self.words.fetch_add(1, Ordering::Relaxed))
    }

    /// Calls as whoever may: the tenant's administrator, the operator, another service.
    pub(super) async fn call(
        &self,
        method: &'static Method,
        request: DynamicMessage,
    ) -> Result<DynamicMessage, Status> {
        let service = host(method);
        match method.rule {
            Some(Rule::Access(Access::Operator)) => {
                call(self.world.access().with(service, &self.operator).unwrap(), method, request).await
            }
            Some(Rule::Access(Access::Internal)) => call(self.world.internal(service), method, request).await,
            Some(Rule::Access(Access::Public)) => {
                call(self.world.access().anonymous(service).unwrap(), method, request).await
            }
            _ => call(self.tenant.direct(service), method, request).await,
        }
    }

    /// Makes a record; says its id and what was sent.
    ///
    /// # Panics
    /// When its service refuses the sample; the text names the method.
    pub(super) async fn make(&self, resource: &Resource) -> (String, DynamicMessage) {
        self.make_saying(resource, &self.word()).await
    }

    /// The same with words of one's own.
    pub(super) async fn make_saying(&self, resource: &Resource, word: &str) -> (String, DynamicMessage) {
        let (id, request, _) = self.create(resource, word).await;
        let sent = request.get_field(&resource.body(resource.create)).as_message().unwrap().clone();
        (id, sent)
    }

    /// Makes a record; says its id, what was asked and what was answered.
    pub(super) async fn create(
        &self,
        resource: &Resource,
        word: &str,
    ) -> (String, DynamicMessage, DynamicMessage) {
        let request = self.to_create(resource, word);
        let answer = self.call(resource.create, request.clone()).await;
        let path = &resource.create.path;
        let answer = answer.unwrap_or_else(|status| panic!("{path} refuses its sample: {status:?}"));
        let id = id_of(&answer).unwrap_or_else(|| panic!("{path} answers without an id"));
        (id, request, answer)
    }

    /// A request to create; the service chooses the id.
    pub(super) fn to_create(&self, resource: &Resource, word: &str) -> DynamicMessage {
        let mut request = sample(&resource.create.input(), &resource.kind, &self.ids.saying(word));
        if let Value::Message(record) = request.get_field_mut(&resource.body(resource.create)) {
            record.clear_field_by_name("id");
        }
        request
    }

    /// Reads a record.
    pub(super) async fn read(&self, resource: &Resource, id: &str) -> Result<DynamicMessage, Status> {
        self.call(resource.get, resource.get(id)).await
    }

    /// Waits until no worker works on the record.
    pub(super) async fn settle(&self, resource: &Resource, id: &str) {
        let Some(state) = resource.message.get_field_by_name("state") else { return };
        let Kind::Enum(states) = state.kind() else { return };
        let busy: Vec<i32> = states
            .values()
            .filter(|value| {
                ["_CHECKING", "_RUNNING", "_UNDOING"].iter().any(|end| value.name().ends_with(end))
            })
            .map(|value| value.number())
            .collect();
        for _ in 0..3_000 {
            let record = self.read(resource, id).await.unwrap();
            let record = record_in(&record, &resource.message).unwrap();
            if !busy.contains(&record.get_field(&state).as_enum_number().unwrap()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{} {id} is worked on for a minute", resource.kind);
    }
}
