//! The REST face, read from the contract at start: which HTTP request is which method, and which part of it fills
//! which field. Whatever the contract says that cannot be served stops the start.
mod table;
mod template;

use std::collections::HashSet;

use http::Method as Verb;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use rapport_proto::{
    Access, Method, POOL, Rule, SessionEffect,
    google::api::{HttpRule, http_rule::Pattern},
};

pub(crate) use table::{Found, Table};
pub(crate) use template::Template;

use crate::SetupError;

/// A field inside fields: `customer.id`.
pub(crate) type FieldPath = Vec<FieldDescriptor>;

/// How one HTTP request becomes one call of a method.
#[derive(Debug)]
pub(crate) struct Route {
    /// The method.
    pub(crate) method: &'static Method,
    /// The HTTP method.
    pub(crate) verb: Verb,
    /// The path.
    pub(crate) template: Template,
    /// The fields that the path's variables fill, in order.
    pub(crate) variables: Vec<FieldPath>,
    /// What the request's body fills.
    pub(crate) body: Body,
    /// The only field of the answer that is shown, where the contract says so.
    pub(crate) answer: Option<FieldDescriptor>,
    /// Whether request or answer are raw.
    pub(crate) shape: Shape,
    /// The field that `Idempotency-Key` fills.
    pub(crate) request_id: Option<FieldDescriptor>,
    /// The field mask that is derived from the body of a PATCH.
    pub(crate) mask: Option<FieldDescriptor>,
    /// The field of the answer that becomes the session cookie.
    pub(crate) secret: Option<FieldDescriptor>,
    /// The field that says whose method is meant, where every service has it.
    pub(crate) service: Option<FieldDescriptor>,
}

/// What a request's body fills.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Body {
    /// Nothing: there is none.
    Nothing,
    /// Every field that the path does not fill.
    Everything,
    /// One field.
    Field(FieldDescriptor),
}

/// Whether the bodies are JSON or raw.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shape {
    /// JSON both ways.
    Json,
    /// The request is raw and fills this `google.api.HttpBody`, in pieces.
    Upload(FieldDescriptor),
    /// The answer is raw.
    Download,
    /// The answer goes on, message by message, as server-sent events.
    Watch,
}

/// Whether the gateway shows this method at all: Rapport's own services speak to each other elsewhere.
pub(crate) fn reachable(method: &Method) -> bool {
    !matches!(method.rule, None | Some(Rule::Access(Access::Internal)))
}

/// Whether it is called without signing in.
pub(crate) fn is_public(method: &Method) -> bool {
    method.rule == Some(Rule::Access(Access::Public))
}

/// The table of the routes of every reachable method of `services`.
///
/// # Errors
/// The contract's annotations contradict each other or ask for what cannot be served.
pub(crate) fn table(services: &HashSet<String>) -> Result<Table<Route>, SetupError> {
    let mut table = Table::default();
    for method in rapport_proto::methods()
        .filter(|m| reachable(m) && (m.is_everywhere() || services.contains(m.service())))
    {
        for route in routes(method).map_err(|problem| SetupError::Contract(method.path.clone(), problem))? {
            let (verb, template) = (route.verb.clone(), route.template.clone());
            table
                .insert(verb, &template, route)
                .map_err(|problem| SetupError::Contract(method.path.clone(), problem))?;
        }
    }
    Ok(table)
}

/// The routes of one method: its rule and the additional ones.
pub(crate) fn routes(method: &'static Method) -> Result<Vec<Route>, String> {
    let extension =
        POOL.get_extension_by_name("google.api.http").ok_or("the contract lacks google.api.http")?;
    let options = method.descriptor.options();
    let rule = options.get_extension(&extension);
    let rule = rule.as_message().ok_or("has no google.api.http")?;
    let mut rule: HttpRule = rule.transcode_to().map_err(|error| error.to_string())?;
    let additional = std::mem::take(&mut rule.additional_bindings);
    std::iter::once(rule).chain(additional).map(|rule| Route::read(method, &rule)).collect()
}

impl Route {
    fn read(method: &'static Method, rule: &HttpRule) -> Result<Self, String> {
        let (verb, path) = match &rule.pattern {
            Some(Pattern::Get(path)) => (Verb::GET, path),
            Some(Pattern::Put(path)) => (Verb::PUT, path),
            Some(Pattern::Post(path)) => (Verb::POST, path),
            Some(Pattern::Delete(path)) => (Verb::DELETE, path),
            Some(Pattern::Patch(path)) => (Verb::PATCH, path),
            Some(Pattern::Custom(_)) | None => return Err("has no get, put, post, delete or patch".into()),
        };
        let (input, output) = (method.input(), method.output());
        let template = Template::parse(path)?;
        let variables = template.variables().map(|name| variable(&input, name)).collect::<Result<_, _>>()?;
        let body = match rule.body.as_str() {
            "" => Body::Nothing,
            "*" => Body::Everything,
            name => Body::Field(field(&input, name)?),
        };
        let answer = match rule.response_body.as_str() {
            "" => None,
            name => Some(field(&output, name)?),
        };
        let mask = input.get_field_by_name("update_mask").filter(|_| verb == Verb::PATCH);
        Ok(Self {
            shape: shape(method, &body)?,
            request_id: input.get_field_by_name("request_id").filter(|field| field.kind() == Kind::String),
            secret: secret(method)?,
            service: whose(method)?,
            method,
            verb,
            template,
            variables,
            body,
            answer,
            mask,
        })
    }

    /// Whether a variable of the path fills this top-level field.
    pub(crate) fn path_fills(&self, field: &FieldDescriptor) -> bool {
        self.variables.iter().any(|path| path.len() == 1 && path.first() == Some(field))
    }
}

fn field(message: &MessageDescriptor, name: &str) -> Result<FieldDescriptor, String> {
    message.get_field_by_name(name).ok_or_else(|| format!("`{}` has no field `{name}`", message.full_name()))
}

/// The field that a path variable names; only single plain values fit into a path.
fn variable(input: &MessageDescriptor, name: &str) -> Result<FieldPath, String> {
    let mut message = Some(input.clone());
    let mut path = FieldPath::new();
    for part in name.split('.') {
        let holder = message.take().ok_or_else(|| format!("`{name}` goes into a plain value"))?;
        let field = field(&holder, part)?;
        if field.is_list() || field.is_map() {
            return Err(format!("`{name}` is not a single value"));
        }
        message = field.kind().as_message().cloned();
        path.push(field);
    }
    match message {
        Some(_) => Err(format!("`{name}` is not a plain value")),
        None => Ok(path),
    }
}

fn is_http_body(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.api.HttpBody"
}

fn shape(method: &Method, body: &Body) -> Result<Shape, String> {
    let raw = match body {
        Body::Field(field) => field.kind().as_message().is_some_and(is_http_body).then(|| field.clone()),
        _ => None,
    };
    let (sends, answers) = (method.descriptor.is_client_streaming(), method.descriptor.is_server_streaming());
    match (raw, sends, answers, is_http_body(&method.output())) {
        (Some(field), true, false, false) => Ok(Shape::Upload(field)),
        (None, false, _, true) => Ok(Shape::Download),
        (None, false, false, false) => Ok(Shape::Json),
        (None, false, true, false) => Ok(Shape::Watch),
        _ => {
            Err("streams what REST cannot carry: of what comes in only google.api.HttpBody is streamed"
                .into())
        }
    }
}

/// The field that says whose method is meant, where every service has it.
fn whose(method: &Method) -> Result<Option<FieldDescriptor>, String> {
    if !method.is_everywhere() {
        return Ok(None);
    }
    let field = method.input().get_field_by_name("service").filter(|field| field.kind() == Kind::String);
    field.map(Some).ok_or_else(|| "is a method of every service, but no field `service` says whose".into())
}

/// The secret that begins a session: one text of the answer, marked `(rapport.options.v1.secret)`.
fn secret(method: &Method) -> Result<Option<FieldDescriptor>, String> {
    if method.session != SessionEffect::Begins {
        return Ok(None);
    }
    let option =
        POOL.get_extension_by_name("rapport.options.v1.secret").ok_or("the contract lacks `secret`")?;
    let is_secret = |field: &FieldDescriptor| {
        field.kind() == Kind::String
            && !field.is_list()
            && field.options().get_extension(&option).as_bool() == Some(true)
    };
    match method.output().fields().find(is_secret) {
        Some(field) => Ok(Some(field)),
        None => Err("begins a session, but its answer has no text marked `secret`".into()),
    }
}
