//! From the contract's annotations to a plan.
use std::collections::HashMap;

use prost_reflect::{
    Cardinality, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor, OneofDescriptor,
    ReflectMessage as _, Value,
};
use regex::Regex;

/// The rules of every message that a method takes.
#[derive(Debug)]
pub struct Rules {
    plans: Vec<Plan>,
    by_name: HashMap<String, usize>,
}

/// The contract says something that the rules here do not know.
#[derive(Debug, thiserror::Error)]
#[error("{at}: the rule `{rule}` is not known; use another or teach it to rapport-runtime")]
pub struct UnknownRule {
    /// The full name of the field, oneof or message.
    pub at: String,
    /// The rule, e.g. `string.email`.
    pub rule: String,
}

/// What is demanded of a message.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) fields: Vec<FieldPlan>,
    /// Oneofs of which one member has to be set.
    pub(super) oneofs: Vec<OneofDescriptor>,
}

/// What is demanded of a field.
#[derive(Debug)]
pub(super) struct FieldPlan {
    pub(super) field: FieldDescriptor,
    pub(super) required: bool,
    /// Whether the field may be repeated in an error: it holds neither a secret nor personal data.
    pub(super) quoted: bool,
    pub(super) shape: Shape,
}

/// What is demanded of the field's value, by how many it has.
#[derive(Debug)]
pub(super) enum Shape {
    /// One value. `if_set`: the rules count only when it is not the type's zero.
    One { rules: ValueRules, if_set: bool },
    /// A list.
    List { min: u64, max: u64, unique: bool, items: ValueRules },
    /// A map.
    Map { min: u64, max: u64, keys: ValueRules, values: ValueRules },
}

/// What is demanded of a single value.
#[derive(Debug, Default)]
pub(super) struct ValueRules {
    pub(super) checks: Vec<Check>,
    /// The plan of the message that the value is.
    pub(super) nested: Option<usize>,
}

/// One demand.
#[derive(Debug)]
pub(super) enum Check {
    MinChars(u64),
    MaxChars(u64),
    MaxBytes(u64),
    Pattern(Regex),
    Uuid,
    AtLeast(i64),
    AtMost(i64),
    /// An enum's number is one of these.
    Choice(Vec<(i32, String)>),
}

impl Rules {
    /// Compiles the rules of `inputs` and of everything in them.
    ///
    /// # Errors
    /// When the contract uses a rule that is not known here.
    pub fn compile(inputs: impl IntoIterator<Item = MessageDescriptor>) -> Result<Self, UnknownRule> {
        let mut rules = Self { plans: Vec::new(), by_name: HashMap::new() };
        for input in inputs {
            rules.message(&input)?;
        }
        rules.prune();
        Ok(rules)
    }

    /// The plan of a message type; `None` when nothing is demanded of it.
    pub(super) fn plan(&self, message: &MessageDescriptor) -> Option<&Plan> {
        self.nested(*self.by_name.get(message.full_name())?)
    }

    pub(super) fn nested(&self, index: usize) -> Option<&Plan> {
        self.plans.get(index).filter(|plan| !plan.is_empty())
    }

    /// The index of a type's plan, which is made at first sight: types may contain themselves.
    fn message(&mut self, message: &MessageDescriptor) -> Result<usize, UnknownRule> {
        if let Some(index) = self.by_name.get(message.full_name()) {
            return Ok(*index);
        }
        let index = self.plans.len();
        self.by_name.insert(message.full_name().to_owned(), index);
        self.plans.push(Plan::default());
        if let Some(other) = extension(&message.options(), "buf.validate.message").iter().flat_map(set).next()
        {
            return Err(UnknownRule { at: message.full_name().to_owned(), rule: other.0 });
        }
        let mut plan = Plan::default();
        for oneof in message.oneofs() {
            for (rule, value) in extension(&oneof.options(), "buf.validate.oneof").iter().flat_map(set) {
                match (rule.as_str(), value) {
                    ("required", Value::Bool(true)) => plan.oneofs.push(oneof.clone()),
                    ("required", Value::Bool(false)) => {}
                    _ => return Err(UnknownRule { at: oneof.full_name().to_owned(), rule }),
                }
            }
        }
        for field in message.fields() {
            plan.fields.push(self.field(field)?);
        }
        if let Some(place) = self.plans.get_mut(index) {
            *place = plan;
        }
        Ok(index)
    }

    fn field(&mut self, field: FieldDescriptor) -> Result<FieldPlan, UnknownRule> {
        let unknown = |rule: String| UnknownRule { at: field.full_name().to_owned(), rule };
        let options = field.options();
        let marked = |name| {
            options.descriptor().parent_pool().get_extension_by_name(name).is_some_and(|mark| {
                options.has_extension(&mark) && options.get_extension(&mark).as_bool() == Some(true)
            })
        };
        let quoted = !marked("rapport.options.v1.personal") && !marked("rapport.options.v1.secret");
        let (mut required, mut if_set, mut typed) = (false, false, None);
        for (rule, value) in extension(&options, "buf.validate.field").iter().flat_map(set) {
            match (rule.as_str(), value) {
                ("required", Value::Bool(yes)) => required = yes,
                ("ignore", Value::EnumNumber(1)) => if_set = true,
                (_, Value::Message(rules)) if typed.is_none() => typed = Some((rule, rules)),
                _ => return Err(unknown(rule)),
            }
        }
        let shape = if let Kind::Message(entry) = field.kind()
            && field.is_map()
        {
            self.map(&entry, typed).map_err(unknown)
        } else if field.cardinality() == Cardinality::Repeated {
            self.list(&field.kind(), typed).map_err(unknown)
        } else {
            let one = self.value(&field.kind(), typed).map_err(unknown);
            one.map(|rules| Shape::One { rules, if_set })
        };
        if if_set && !matches!(shape, Ok(Shape::One { .. })) {
            return Err(unknown("ignore".into()));
        }
        Ok(FieldPlan { shape: shape?, field, required, quoted })
    }

    fn list(&mut self, item: &Kind, rules: Option<(String, DynamicMessage)>) -> Result<Shape, String> {
        let (mut min, mut max, mut unique, mut items) = (0, u64::MAX, false, None);
        for (rule, value) in below(rules, "repeated")? {
            match (rule.as_str(), value) {
                ("repeated.min_items", Value::U64(n)) => min = n,
                ("repeated.max_items", Value::U64(n)) => max = n,
                ("repeated.unique", Value::Bool(yes)) if matches!(item, Kind::String) => unique = yes,
                ("repeated.items", Value::Message(rules)) => items = only(&rules, "repeated.items")?,
                _ => return Err(rule),
            }
        }
        Ok(Shape::List { min, max, unique, items: self.value(item, items)? })
    }

    fn map(
        &mut self,
        entry: &MessageDescriptor,
        rules: Option<(String, DynamicMessage)>,
    ) -> Result<Shape, String> {
        let (mut min, mut max, mut keys, mut values) = (0, u64::MAX, None, None);
        for (rule, value) in below(rules, "map")? {
            match (rule.as_str(), value) {
                ("map.min_pairs", Value::U64(n)) => min = n,
                ("map.max_pairs", Value::U64(n)) => max = n,
                ("map.keys", Value::Message(rules)) => keys = only(&rules, "map.keys")?,
                ("map.values", Value::Message(rules)) => values = only(&rules, "map.values")?,
                _ => return Err(rule),
            }
        }
        let keys = self.value(&entry.map_entry_key_field().kind(), keys)?;
        let values = self.value(&entry.map_entry_value_field().kind(), values)?;
        Ok(Shape::Map { min, max, keys, values })
    }

    fn value(&mut self, kind: &Kind, rules: Option<(String, DynamicMessage)>) -> Result<ValueRules, String> {
        if let Kind::Message(message) = kind {
            // A message field has no rules of its own but `required`; those of its type are in the type's plan.
            if let Some((rule, _)) = rules {
                return Err(rule);
            }
            let nested = self.message(message).map_err(|e| format!("{} of {}", e.rule, e.at))?;
            return Ok(ValueRules { checks: Vec::new(), nested: Some(nested) });
        }
        let checks = match kind {
            Kind::String => below(rules, "string")?.into_iter().filter_map(text).collect::<Result<_, _>>()?,
            Kind::Int32 => below(rules, "int32")?.into_iter().map(number).collect::<Result<_, _>>()?,
            Kind::Int64 => below(rules, "int64")?.into_iter().map(number).collect::<Result<_, _>>()?,
            Kind::Enum(choices) => choice(choices, below(rules, "enum")?)?,
            _ => match rules {
                Some((rule, _)) => return Err(rule),
                None => Vec::new(),
            },
        };
        Ok(ValueRules { checks, nested: None })
    }

    /// Drops what demands nothing, so that a check does not walk through it: most types, `Struct` among them.
    fn prune(&mut self) {
        loop {
            let empty: Vec<_> = self.plans.iter().map(Plan::is_empty).collect();
            let gone = |index: &usize| empty.get(*index).copied().unwrap_or(true);
            let mut changed = false;
            for plan in &mut self.plans {
                for value in plan.fields.iter_mut().flat_map(|field| field.shape.values_mut()) {
                    changed |= value.nested.take_if(|index| gone(index)).is_some();
                }
                plan.fields.retain(|field| field.required || !field.shape.is_empty());
            }
            if !changed {
                return;
            }
        }
    }
}

impl Plan {
    fn is_empty(&self) -> bool {
        self.oneofs.is_empty() && self.fields.iter().all(|field| !field.required && field.shape.is_empty())
    }
}

impl Shape {
    fn is_empty(&self) -> bool {
        match self {
            Self::One { rules, .. } => rules.is_empty(),
            Self::List { min, max, unique, items } => {
                *min == 0 && *max == u64::MAX && !unique && items.is_empty()
            }
            Self::Map { min, max, keys, values } => {
                *min == 0 && *max == u64::MAX && keys.is_empty() && values.is_empty()
            }
        }
    }

    fn values_mut(&mut self) -> Vec<&mut ValueRules> {
        match self {
            Self::One { rules, .. } => vec![rules],
            Self::List { items, .. } => vec![items],
            Self::Map { keys, values, .. } => vec![keys, values],
        }
    }
}

impl ValueRules {
    pub(super) fn is_empty(&self) -> bool {
        self.checks.is_empty() && self.nested.is_none()
    }
}

fn extension(options: &DynamicMessage, name: &str) -> Option<DynamicMessage> {
    let extension = options.descriptor().parent_pool().get_extension_by_name(name)?;
    options.has_extension(&extension).then(|| options.get_extension(&extension).as_message().cloned())?
}

/// What is set in a message of rules, own rules by extension included.
fn set(rules: &DynamicMessage) -> Vec<(String, Value)> {
    let fields = rules.fields().map(|(field, value)| (field.name().to_owned(), value.clone()));
    let extensions = rules.extensions().map(|(own, value)| (own.full_name().to_owned(), value.clone()));
    fields.chain(extensions).collect()
}

/// What is set in the rules for the type `kind`, each as `kind.rule`; none of another type may be there.
fn below(rules: Option<(String, DynamicMessage)>, kind: &str) -> Result<Vec<(String, Value)>, String> {
    match rules {
        None => Ok(Vec::new()),
        Some((name, rules)) if name == kind => {
            Ok(set(&rules).into_iter().map(|(rule, value)| (format!("{kind}.{rule}"), value)).collect())
        }
        Some((name, _)) => Err(name),
    }
}

/// The rules of a list's items or a map's keys or values: those of their type and no others.
fn only(rules: &DynamicMessage, at: &str) -> Result<Option<(String, DynamicMessage)>, String> {
    match set(rules).as_slice() {
        [] => Ok(None),
        [(rule, Value::Message(typed))] => Ok(Some((rule.clone(), typed.clone()))),
        [(rule, _), ..] => Err(format!("{at}.{rule}")),
    }
}

fn text((rule, value): (String, Value)) -> Option<Result<Check, String>> {
    Some(match (rule.as_str(), value) {
        ("string.min_len", Value::U64(n)) => Ok(Check::MinChars(n)),
        ("string.max_len", Value::U64(n)) => Ok(Check::MaxChars(n)),
        ("string.max_bytes", Value::U64(n)) => Ok(Check::MaxBytes(n)),
        ("string.uuid", Value::Bool(true)) => Ok(Check::Uuid),
        ("string.uuid", Value::Bool(false)) => return None,
        ("string.pattern", Value::String(pattern)) => {
            Regex::new(&pattern).map(Check::Pattern).map_err(|_| format!("{rule} = {pattern:?}"))
        }
        _ => Err(rule),
    })
}

fn number((rule, value): (String, Value)) -> Result<Check, String> {
    let bound = match value {
        Value::I32(n) => i64::from(n),
        Value::I64(n) => n,
        _ => return Err(rule),
    };
    match rule.split_once('.') {
        Some((_, "gte")) => Ok(Check::AtLeast(bound)),
        Some((_, "lte")) => Ok(Check::AtMost(bound)),
        _ => Err(rule),
    }
}

fn choice(
    choices: &prost_reflect::EnumDescriptor,
    rules: Vec<(String, Value)>,
) -> Result<Vec<Check>, String> {
    let (mut defined_only, mut out) = (false, Vec::new());
    for (rule, value) in rules {
        match (rule.as_str(), value) {
            ("enum.defined_only", Value::Bool(yes)) => defined_only = yes,
            ("enum.not_in", Value::List(numbers)) => out.extend(numbers.iter().filter_map(Value::as_i32)),
            _ => return Err(rule),
        }
    }
    if !defined_only {
        return if out.is_empty() {
            Ok(Vec::new())
        } else {
            Err("enum.not_in without enum.defined_only".into())
        };
    }
    let choices = choices.values().filter(|choice| !out.contains(&choice.number()));
    Ok(vec![Check::Choice(choices.map(|choice| (choice.number(), choice.name().to_owned())).collect())])
}
