//! Messages and fields as JSON Schema, each message once under `components`.
use std::collections::{BTreeMap, BTreeSet};

use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

use super::{comments::Comments, rules};
use crate::json::Known;

/// The schemas that were needed so far.
pub(super) struct Schemas<'c> {
    comments: &'c Comments,
    done: BTreeMap<String, Value>,
    begun: BTreeSet<String>,
}

impl<'c> Schemas<'c> {
    /// None yet but that of errors.
    pub(super) fn new(comments: &'c Comments) -> Self {
        Self { comments, done: BTreeMap::from([("Problem".to_owned(), problem())]), begun: BTreeSet::new() }
    }

    /// All of them.
    pub(super) fn finish(self) -> Value {
        json!(self.done)
    }

    /// What the contract says about a message.
    pub(super) fn about(&self, message: &MessageDescriptor) -> String {
        match self.comments.of(&message.parent_file(), message.path()) {
            "" => "Done.".to_owned(),
            text => text.to_owned(),
        }
    }

    /// What the contract says about a field.
    pub(super) fn text(&self, field: &FieldDescriptor) -> String {
        self.comments.of(&field.parent_file(), field.path()).to_owned()
    }

    /// A parameter named `name` for a field.
    pub(super) fn parameter(&mut self, field: &FieldDescriptor, name: &str) -> Map<String, Value> {
        let mut schema = self.field(field);
        let description = schema.as_object_mut().and_then(|schema| schema.remove("description"));
        let mut parameter = Map::new();
        parameter.insert("name".into(), json!(name));
        if let Some(description) = description {
            parameter.insert("description".into(), description);
        }
        parameter.insert("schema".into(), schema);
        parameter
    }

    /// The schema of a field, with its description and constraints.
    pub(super) fn field(&mut self, field: &FieldDescriptor) -> Value {
        let mut schema = if let Some(value) = map_value(field) {
            json!({"type": "object", "additionalProperties": self.kind(&value.kind())})
        } else if field.is_list() {
            json!({"type": "array", "items": self.kind(&field.kind())})
        } else {
            self.kind(&field.kind())
        };
        if let Some(schema) = schema.as_object_mut() {
            rules::apply(schema, field);
            let text = self.text(field);
            if text.contains("Output only.") {
                schema.insert("readOnly".into(), json!(true));
            }
            if !text.is_empty() {
                schema.insert("description".into(), json!(text));
            }
        }
        schema
    }

    /// A reference to the schema of a message; written when it is first needed.
    pub(super) fn message(&mut self, message: &MessageDescriptor) -> Value {
        if let Some(schema) = well_known(message) {
            return schema;
        }
        let name = component(message.full_name());
        if self.begun.insert(name.clone()) {
            let fields: Vec<_> = message.fields().collect();
            let mut schema = self.object(message, &fields);
            let about = self.comments.of(&message.parent_file(), message.path()).to_owned();
            if let Some(schema) = schema.as_object_mut().filter(|_| !about.is_empty()) {
                schema.insert("description".into(), json!(about));
            }
            self.done.insert(name.clone(), schema);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// An object with some fields of a message.
    pub(super) fn object(&mut self, message: &MessageDescriptor, fields: &[FieldDescriptor]) -> Value {
        let mut properties = Map::new();
        let mut required = Vec::new();
        for field in fields {
            properties.insert(field.json_name().to_owned(), self.field(field));
            if rules::required(field) {
                required.push(field.json_name().to_owned());
            }
        }
        let mut schema = json!({"type": "object", "properties": properties, "additionalProperties": false});
        if let Some(schema) = schema.as_object_mut() {
            if !required.is_empty() {
                schema.insert("required".into(), json!(required));
            }
            let choices: Vec<_> = message.oneofs().filter(|oneof| !oneof.is_synthetic()).collect();
            if !choices.is_empty() {
                let names = |oneof: &prost_reflect::OneofDescriptor| {
                    oneof.fields().map(|field| field.json_name().to_owned()).collect::<Vec<_>>()
                };
                schema.insert("x-only-one-of".into(), json!(choices.iter().map(names).collect::<Vec<_>>()));
            }
        }
        schema
    }

    fn kind(&mut self, kind: &Kind) -> Value {
        match kind {
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "string", "format": "int64"}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "string", "format": "uint64"}),
            Kind::Float | Kind::Double => json!({"type": "number"}),
            Kind::Enum(values) => self.choice(values),
            Kind::Message(message) => self.message(message),
        }
    }

    fn choice(&mut self, values: &EnumDescriptor) -> Value {
        let name = component(values.full_name());
        if self.begun.insert(name.clone()) {
            let names: Vec<_> = values.values().map(|value| value.name().to_owned()).collect();
            let told = values.values().map(|value| {
                format!("- `{}`: {}", value.name(), self.comments.of(&value.parent_file(), value.path()))
            });
            let told: Vec<_> = told.collect();
            let about = self.comments.of(&values.parent_file(), values.path());
            let text = format!("{about}\n\n{}", told.join("\n"));
            self.done.insert(name.clone(), json!({"type": "string", "enum": names, "description": text}));
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }
}

fn map_value(field: &FieldDescriptor) -> Option<FieldDescriptor> {
    field.is_map().then(|| field.kind().as_message().map(MessageDescriptor::map_entry_value_field)).flatten()
}

/// `rapport.customer.v1.Customer` is `customer.Customer`: unique, and stable when others come.
fn component(full_name: &str) -> String {
    full_name
        .trim_start_matches("rapport.")
        .split('.')
        .filter(|part| *part != "v1")
        .collect::<Vec<_>>()
        .join(".")
}

fn well_known(message: &MessageDescriptor) -> Option<Value> {
    if message.full_name() == "google.protobuf.Empty" {
        return Some(json!({"type": "object"}));
    }
    Some(match Known::of(message)? {
        Known::Timestamp => json!({"type": "string", "format": "date-time"}),
        Known::Duration => json!({"type": "string", "pattern": "^-?[0-9]+([.][0-9]{1,9})?s$"}),
        Known::FieldMask => json!({"type": "string"}),
        Known::Struct => json!({"type": "object", "additionalProperties": true}),
        Known::Value => json!({}),
        Known::ListValue => json!({"type": "array", "items": {}}),
        Known::Any => {
            json!({"type": "object", "properties": {"@type": {"type": "string"}}, "additionalProperties": true})
        }
        Known::Wrapper => json!({"type": ["string", "number", "boolean"]}),
    })
}

/// The schema of errors.
fn problem() -> Value {
    let text = |about: &str| json!({"type": "string", "description": about});
    json!({
        "type": "object",
        "description": "What went wrong (RFC 9457).",
        "properties": {
            "type": text("Always `about:blank`: `reason` tells problems apart."),
            "title": text("The HTTP status in words."),
            "status": {"type": "integer", "description": "The HTTP status."},
            "detail": text("What went wrong, for people."),
            "instance": text("The path that was asked for."),
            "code": text("The gRPC code, e.g. `NOT_FOUND`."),
            "reason": text("A stable name of the reason, for programs."),
            "violations": {
                "type": "array",
                "description": "Which fields are wrong.",
                "items": {
                    "type": "object",
                    "properties": {
                        "field": text("The path of the field in the request, e.g. `customer.emails[0].address`."),
                        "problem": text("What is wrong and what would be right."),
                    },
                },
            },
            "retryAfter": {"type": "integer", "description": "Seconds to wait before trying again."},
            "requestId": text("What to quote when asking for help."),
        },
        "required": ["type", "title", "status", "detail", "code", "reason"],
    })
}
