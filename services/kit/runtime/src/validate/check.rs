//! Evaluating a plan on a message: all violations at once, each with the path of its field.
use std::collections::{HashMap, HashSet};

use prost_reflect::{DynamicMessage, MapKey, ReflectMessage as _, Value};
use rapport_kernel::{Violation, cut};

use super::compile::{Check, FieldPlan, Plan, Rules, Shape, ValueRules};

/// Violations travel in headers, which are small: no more of them, and no more bytes, than a client's limits allow.
const MOST: usize = 20;
const MOST_BYTES: usize = 2000;

impl Rules {
    /// Everything that is wrong with `message`; empty when it is right.
    pub fn check(&self, message: &DynamicMessage) -> Vec<Violation> {
        let mut checking =
            Checking { rules: self, path: String::new(), found: Vec::new(), bytes: 0, more: 0 };
        if let Some(plan) = self.plan(&message.descriptor()) {
            checking.message(plan, message);
        }
        if checking.more > 0 {
            let problem = format!("has {} more problems", checking.more);
            checking.found.push(Violation { field: "request".into(), problem });
        }
        checking.found
    }
}

struct Checking<'r> {
    rules: &'r Rules,
    /// Where we are, e.g. `customer.emails[0]`.
    path: String,
    found: Vec<Violation>,
    bytes: usize,
    more: usize,
}

impl Checking<'_> {
    fn message(&mut self, plan: &Plan, message: &DynamicMessage) {
        for oneof in &plan.oneofs {
            if !oneof.fields().any(|member| message.has_field(&member)) {
                let members: Vec<_> = oneof.fields().map(|member| format!("`{}`", member.name())).collect();
                self.at_field(oneof.name(), |here| {
                    here.wrong(format!("needs one of {}", members.join(", ")))
                });
            }
        }
        for field in &plan.fields {
            if message.has_field(&field.field) {
                let value = message.get_field(&field.field);
                self.at_field(field.field.name(), |here| here.field(field, &value));
            } else if field.required {
                self.at_field(field.field.name(), |here| here.wrong("is required".into()));
            } else if !field.field.supports_presence() {
                self.at_field(field.field.name(), |here| here.unset(field));
            }
        }
    }

    /// A field that has a value.
    fn field(&mut self, plan: &FieldPlan, value: &Value) {
        match (&plan.shape, value) {
            (Shape::One { rules, if_set: true }, value)
                if value.is_default(&plan.field.kind()) && rules.nested.is_none() => {}
            (Shape::One { rules, .. }, value) => self.value(rules, value, plan.quoted),
            (Shape::List { min, max, unique, items }, Value::List(list)) => {
                self.count(list.len(), *min, *max, "items");
                if *unique {
                    self.unique(list);
                }
                if !items.is_empty() {
                    for (index, item) in list.iter().enumerate() {
                        self.below(&format!("[{index}]"), |here| here.value(items, item, plan.quoted));
                    }
                }
            }
            (Shape::Map { min, max, keys, values }, Value::Map(map)) => {
                self.count(map.len(), *min, *max, "entries");
                for (key, value) in sorted(map) {
                    self.below(&format!("[\"{}\"]", cut(&shown(key))), |here| {
                        if let MapKey::String(key) = key {
                            here.text(keys, key, plan.quoted);
                        }
                        here.value(values, value, plan.quoted);
                    });
                }
            }
            // prost-reflect read the value by the same descriptor that the plan was made of.
            _ => self.wrong("is not of its type".into()),
        }
    }

    /// A field without presence that is not there: its value is the type's zero, which has to pass too.
    fn unset(&mut self, plan: &FieldPlan) {
        match &plan.shape {
            Shape::One { if_set: true, .. } => {}
            Shape::One { rules, .. } => {
                self.value(rules, &Value::default_value(&plan.field.kind()), plan.quoted);
            }
            Shape::List { min, max, .. } => self.count(0, *min, *max, "items"),
            Shape::Map { min, max, .. } => self.count(0, *min, *max, "entries"),
        }
    }

    fn value(&mut self, rules: &ValueRules, value: &Value, quoted: bool) {
        match value {
            Value::Message(message) => {
                if let Some(plan) = rules.nested.and_then(|index| self.rules.nested(index)) {
                    self.message(plan, message);
                }
            }
            Value::String(text) => self.text(rules, text, quoted),
            Value::I32(number) => self.number(rules, i64::from(*number)),
            Value::I64(number) => self.number(rules, *number),
            Value::EnumNumber(number) => self.choice(rules, *number),
            _ => {}
        }
    }

    fn text(&mut self, rules: &ValueRules, text: &str, quoted: bool) {
        let shown = || {
            if quoted { format!("`{}`", cut(text)) } else { "the value".to_owned() }
        };
        for check in &rules.checks {
            let problem = match check {
                Check::MinChars(1) if text.is_empty() => "must not be empty".into(),
                Check::MinChars(min) if chars(text) < *min => {
                    format!("has {} characters; at least {min} are needed", chars(text))
                }
                Check::MaxChars(max) if chars(text) > *max => {
                    format!("has {} characters; at most {max} are allowed", chars(text))
                }
                Check::MaxBytes(max) if text.len() as u64 > *max => {
                    format!("has {} bytes; at most {max} are allowed", text.len())
                }
                Check::Uuid if !is_uuid(text) => format!("{} is not a UUID", shown()),
                Check::Pattern(pattern) if !pattern.is_match(text) => {
                    format!("{} does not match `{}`", shown(), pattern.as_str())
                }
                _ => continue,
            };
            self.wrong(problem);
        }
    }

    fn number(&mut self, rules: &ValueRules, number: i64) {
        for check in &rules.checks {
            match check {
                Check::AtLeast(min) if number < *min => self.wrong(format!("{number} is less than {min}")),
                Check::AtMost(max) if number > *max => self.wrong(format!("{number} is more than {max}")),
                _ => {}
            }
        }
    }

    fn choice(&mut self, rules: &ValueRules, number: i32) {
        for check in &rules.checks {
            if let Check::Choice(choices) = check
                && choices.iter().all(|(choice, _)| *choice != number)
            {
                let names: Vec<_> = choices.iter().map(|(_, name)| name.as_str()).collect();
                self.wrong(format!("{number} is not one of {}", names.join(", ")));
            }
        }
    }

    fn count(&mut self, count: usize, min: u64, max: u64, what: &str) {
        let count = count as u64;
        if count < min {
            self.wrong(format!("has {count} {what}; at least {min} are needed"));
        } else if count > max {
            self.wrong(format!("has {count} {what}; at most {max} are allowed"));
        }
    }

    fn unique(&mut self, list: &[Value]) {
        let mut seen = HashSet::with_capacity(list.len());
        for (index, text) in list.iter().filter_map(Value::as_str).enumerate() {
            if !seen.insert(text) {
                self.below(&format!("[{index}]"), |here| here.wrong("occurs more than once".into()));
            }
        }
    }

    fn at_field(&mut self, name: &str, f: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        if length > 0 {
            self.path.push('.');
        }
        self.path.push_str(name);
        f(self);
        self.path.truncate(length);
    }

    fn below(&mut self, index: &str, f: impl FnOnce(&mut Self)) {
        let length = self.path.len();
        self.path.push_str(index);
        f(self);
        self.path.truncate(length);
    }

    fn wrong(&mut self, problem: String) {
        self.bytes += self.path.len() + problem.len();
        if self.found.is_empty() || (self.found.len() < MOST && self.bytes < MOST_BYTES) {
            self.found.push(Violation { field: self.path.clone(), problem });
        } else {
            self.more += 1;
        }
    }
}

fn chars(text: &str) -> u64 {
    text.chars().count() as u64
}

/// The form with hyphens, in either case.
fn is_uuid(text: &str) -> bool {
    let part = |(index, byte): (usize, u8)| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    text.len() == 36 && text.bytes().enumerate().all(part)
}

fn shown(key: &MapKey) -> String {
    match key {
        MapKey::String(text) => text.clone(),
        MapKey::Bool(yes) => yes.to_string(),
        MapKey::I32(n) => n.to_string(),
        MapKey::I64(n) => n.to_string(),
        MapKey::U32(n) => n.to_string(),
        MapKey::U64(n) => n.to_string(),
    }
}

/// In the order of the keys, so that the same request gets the same answer.
pub(super) fn sorted(map: &HashMap<MapKey, Value>) -> Vec<(&MapKey, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_by(|a, b| a.0.cmp(b.0));
    entries
}
