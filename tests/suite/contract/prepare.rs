//! For each method a request that succeeds. A method that is added tomorrow gets its request from its descriptor; one that
//! needs more than a fresh record fails by name, until it stands in `NEEDS`.
use prost_reflect::{DynamicMessage, FieldDescriptor, ReflectMessage as _, Value};
use rapport_proto::{Access, Method, Rule, methods};
use rapport_test_kit::{
    Caller, Ids, PASSWORD, call, host, is_immutable, is_output_only, lengthen_file, park, sample,
};
use tonic::Status;

use super::{
    resource::{Resource, about, body, id_of, resources},
    stage::Stage,
};

/// What a method needs beside a fresh record.
#[derive(Clone, Copy, Debug)]
enum Need {
    /// Calls of these methods of the same service about the same record.
    Calls(&'static [&'static str]),
    /// The same, and then that the worker is done with it.
    Work(&'static [&'static str]),
    /// The same with a file that takes the worker a while.
    Busy(&'static [&'static str]),
    /// Somebody who has just signed in.
    Person,
}

/// The methods that need more, and why. `each_need_is_still_one` looks after this list.
const NEEDS: &[(&str, Need, &str)] = &[
    ("ReactivateUser", Need::Calls(&["DeactivateUser"]), "whoever has access needs none"),
    ("ResumeTenant", Need::Calls(&["SuspendTenant"]), "a tenant that is served needs no resuming"),
    ("EraseCustomer", Need::Calls(&["DeleteCustomer"]), "only what was deleted is erased"),
    ("UndeleteCustomer", Need::Calls(&["DeleteCustomer"]), "only what was deleted comes back"),
    ("UndeleteField", Need::Calls(&["DeleteField"]), "only what was archived comes back"),
    ("UnshareCustomer", Need::Calls(&["ShareCustomer"]), "only what was given is taken back"),
    ("DryRunImport", Need::Calls(&["UploadImportFile"]), "there must be a file to check"),
    ("StartImport", Need::Calls(&["UploadImportFile"]), "there must be a file to bring in"),
    ("CancelImport", Need::Busy(&["UploadImportFile", "StartImport"]), "only what is worked on is stopped"),
    ("UndoImport", Need::Work(&["UploadImportFile", "StartImport"]), "only what was written is taken back"),
    ("ListImportIssues", Need::Work(&["UploadImportFile", "DryRunImport"]), "issues are found by a dry run"),
    (
        "DownloadImportIssues",
        Need::Work(&["UploadImportFile", "DryRunImport"]),
        "issues are found by a dry run",
    ),
    ("AcceptInvitation", Need::Person, "needs the secret of an invitation"),
    ("ChangePassword", Need::Person, "needs the password so far"),
    ("ExchangeCredential", Need::Person, "needs the secret of a session"),
    ("RevokeSession", Need::Person, "needs a session of the caller's"),
    ("SignIn", Need::Person, "needs a password"),
];

/// What is parked nobody makes by a call.
pub(super) const PARKED: &str = "events.parked_item";

/// Rows that take the worker several batches.
const MANY: usize = 1_000;

/// A request that succeeds, with who makes it.
pub(super) struct Prepared {
    pub(super) method: &'static Method,
    pub(super) request: DynamicMessage,
    /// Somebody other than the administrator.
    pub(super) caller: Option<Caller>,
    /// The record that it is about.
    pub(super) id: Option<String>,
}

impl Stage {
    /// Makes the call that was prepared.
    pub(super) async fn run(&self, prepared: &Prepared) -> Result<DynamicMessage, Status> {
        let Prepared { method, request, caller, .. } = prepared;
        match caller {
            Some(caller) if !matches!(method.rule, Some(Rule::Access(Access::Public | Access::Internal))) => {
                call(caller.direct(host(method)), method, request.clone()).await
            }
            _ => self.call(method, request.clone()).await,
        }
    }

    /// A request of `method` that succeeds, about a record of its own.
    ///
    /// # Errors
    /// Which method it is that no request can be made for.
    pub(super) async fn prepare(&self, method: &'static Method) -> Result<Prepared, String> {
        self.prepare_choice(method, 0).await
    }

    /// The same with one of the alternatives that the request has.
    ///
    /// # Errors
    /// As for `prepare`.
    pub(super) async fn prepare_choice(
        &self,
        method: &'static Method,
        choice: usize,
    ) -> Result<Prepared, String> {
        let need =
            NEEDS.iter().find(|(name, ..)| *name == method.descriptor.name()).map(|(_, need, _)| *need);
        self.prepare_with(method, choice, need).await
    }

    async fn prepare_with(
        &self,
        method: &'static Method,
        choice: usize,
        need: Option<Need>,
    ) -> Result<Prepared, String> {
        let kind = about(method);
        let word = self.word();
        let resource = Resource::of(method);
        let id = match &resource {
            Some(resource) if resource.create.path != method.path => {
                Some(self.make_saying(resource, &word).await.0)
            }
            None if kind == PARKED => Some(park(&self.world.databases, &self.tenant.id, &word).await),
            _ => None,
        };
        let mut ids = Ids { choice, ..self.others.saying(&self.word()) };
        if let Some(id) = &id {
            ids.own = Some(id.clone());
        }
        let (calls, rows) = match need {
            Some(Need::Calls(calls) | Need::Work(calls)) => (calls, 1),
            Some(Need::Busy(calls)) => (calls, MANY),
            Some(Need::Person) | None => (&[][..], 1),
        };
        for name in calls {
            let before = methods()
                .find(|other| about(other) == kind && other.descriptor.name() == *name)
                .ok_or_else(|| format!("{}: there is no method {name}", method.path))?;
            let mut request = sample(&before.input(), &kind, &ids);
            if rows > 1 {
                lengthen_file(&mut request, &ids.word, rows);
            }
            self.call(before, request)
                .await
                .map_err(|s| format!("{} before {}: {s:?}", name, method.path))?;
        }
        if let (Some(Need::Work(_)), Some(resource), Some(id)) = (need, &resource, &id) {
            self.settle(resource, id).await;
        }
        let mut prepared = Prepared { method, request: self.request(method, &ids, &word), caller: None, id };
        if matches!(need, Some(Need::Person)) {
            self.as_person(&mut prepared).await;
        }
        Ok(prepared)
    }

    /// A request with the ids and words of `ids`; `key` is the word of the record that it is about, by which it is known
    /// elsewhere.
    fn request(&self, method: &'static Method, ids: &Ids, key: &str) -> DynamicMessage {
        let Some(resource) = Resource::of(method) else {
            return sample(&method.input(), &about(method), ids);
        };
        if resource.create.path == method.path {
            return self.to_create(&resource, &ids.word);
        }
        let mut request = sample(&method.input(), &resource.kind, ids);
        self.fit(&resource, &mut request, key);
        request
    }

    /// Makes the parts of a request fit the record that there is: a change names nothing that stays as it was created, an
    /// upsert the key that the record has, and what is created gets an id of its own.
    fn fit(&self, resource: &Resource, request: &mut DynamicMessage, key: &str) {
        let descriptor = request.descriptor();
        let record = body(&descriptor, &resource.message);
        let is_partial = descriptor.get_field_by_name("update_mask").is_some();
        let known = sample(&descriptor, &resource.kind, &self.ids.saying(key));
        let fields: Vec<_> = request.fields().map(|(field, _)| field).collect();
        for field in fields {
            if is_partial && ["source", "external_id"].contains(&field.name()) {
                request.set_field(&field, known.get_field(&field).into_owned());
            }
            match request.get_field_mut(&field) {
                Value::Message(inner) if record.as_ref() == Some(&field) => {
                    if !is_partial {
                        *inner = resource.sample(&self.ids.saying(&self.word()));
                        inner.clear_field_by_name("id");
                        continue;
                    }
                    let is_fixed = |field: &FieldDescriptor| is_immutable(field) || is_output_only(field);
                    let fixed = resource.message.fields().filter(is_fixed);
                    fixed.for_each(|field| inner.clear_field(&field));
                }
                Value::Message(inner) if inner.descriptor().full_name().starts_with("rapport.") => {
                    self.fit(resource, inner, key);
                }
                Value::List(list) => {
                    list.iter_mut()
                        .filter_map(Value::as_message_mut)
                        .for_each(|inner| self.fit(resource, inner, key));
                }
                _ => {}
            }
        }
    }

    /// Puts into a request what only this person knows, and makes them call.
    async fn as_person(&self, prepared: &mut Prepared) {
        let set = |request: &mut DynamicMessage, name: &str, text: &str| {
            request.set_field_by_name(name, Value::String(text.to_owned()));
        };
        let person = self.tenant.person_with(&[]).await;
        let request = &mut prepared.request;
        match prepared.method.descriptor.name() {
            "SignIn" => {
                for (name, text) in
                    [("tenant", &*self.tenant.slug), ("email", &person.user.email), ("password", PASSWORD)]
                {
                    set(request, name, text);
                }
            }
            "AcceptInvitation" => {
                let user = resources().into_iter().find(|resource| resource.kind == "identity.user").unwrap();
                let (_, _, answer) = self.create(&user, &self.word()).await;
                let token = answer.get_field_by_name("invitation_token").unwrap();
                set(request, "invitation_token", token.as_str().unwrap());
            }
            "ChangePassword" => set(request, "current_password", PASSWORD),
            "ExchangeCredential" => set(request, "session_token", &person.session_token),
            _ => {
                let list = rapport_proto::method("/rapport.identity.v1.SessionService/ListSessions").unwrap();
                let sessions = DynamicMessage::new(list.input());
                let sessions = call(person.direct("identity"), list, sessions).await.unwrap();
                let sessions = sessions.get_field_by_name("sessions").unwrap().into_owned();
                let first = sessions.as_list().unwrap()[0].as_message().unwrap().clone();
                set(request, "id", &id_of(&first).unwrap());
            }
        }
        prepared.caller = Some(person);
    }
}

#[tokio::test]
async fn each_need_is_still_one() {
    let stage = Stage::new().await;
    let mut evidence = super::evidence::Evidence::of(&stage.world).await;
    for (name, _, reason) in NEEDS {
        let method = methods().find(|method| method.descriptor.name() == *name);
        let method = method.unwrap_or_else(|| panic!("there is no method {name}"));
        let prepared = stage.prepare_with(method, 0, None).await.unwrap();
        let mark = evidence.mark().await;
        let answer = stage.run(&prepared).await;
        let is_idle = match &answer {
            Ok(_) if method.writes() => evidence.since(&mark).await.is_empty(),
            Ok(answer) => answer.fields().next().is_none(),
            Err(_) => true,
        };
        assert!(is_idle, "{name} does without what it is said to need ({reason}): {answer:?}");
    }
}
