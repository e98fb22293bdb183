//! How targets are filled from the columns of a file, and whether that makes sense.
use std::collections::{BTreeMap, BTreeSet};

use rapport_kernel::{Error, Violation};
use rapport_proto::imports::v1 as pb;
use serde::{Deserialize, Serialize};

use crate::{
    importable::{EXTERNAL_ID, Target},
    suggest,
};

/// How many names an error lists.
const LISTED: usize = 50;

/// How one target is filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// The field, e.g. `attributes.city`.
    pub target: String,
    /// Where its value comes from; `None` leaves the target out.
    pub origin: Option<Origin>,
    /// What values of the column are replaced by; others are taken as they are.
    #[serde(default)]
    pub value_map: BTreeMap<String, String>,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A column of the file, by name.
    Column(String),
    /// The same value for every row.
    Constant(String),
}

impl Mapping {
    /// The column that it reads.
    pub(crate) fn column(&self) -> Option<&str> {
        match &self.origin {
            Some(Origin::Column(name)) => Some(name),
            _ => None,
        }
    }
}

impl From<&pb::Mapping> for Mapping {
    fn from(mapping: &pb::Mapping) -> Self {
        let origin = match &mapping.value {
            Some(pb::mapping::Value::Column(name)) if !name.is_empty() => Some(Origin::Column(name.clone())),
            Some(pb::mapping::Value::Constant(value)) if !value.is_empty() => {
                Some(Origin::Constant(value.clone()))
            }
            _ => None,
        };
        let value_map = mapping.value_map.clone().into_iter().collect();
        Self { target: mapping.target.clone(), origin, value_map }
    }
}

impl From<Mapping> for pb::Mapping {
    fn from(mapping: Mapping) -> Self {
        let value = mapping.origin.map(|origin| match origin {
            Origin::Column(name) => pb::mapping::Value::Column(name),
            Origin::Constant(value) => pb::mapping::Value::Constant(value),
        });
        Self { target: mapping.target, value, value_map: mapping.value_map.into_iter().collect() }
    }
}

/// Whether each mapping by itself makes sense: its target exists and is filled once, its column is in the file (`columns`
/// is `None` while there is no file).
///
/// # Errors
/// `Invalid`, with every mapping that does not.
pub(crate) fn check(mappings: &[Mapping], targets: &[Target], columns: Option<&[&str]>) -> Result<(), Error> {
    let mut violations = Vec::new();
    let mut seen = BTreeSet::new();
    for (n, mapping) in mappings.iter().enumerate() {
        let mut refuse = |part: &str, problem: String| {
            violations.push(Violation { field: format!("import.mappings[{n}].{part}"), problem });
        };
        if !targets.iter().any(|target| target.name == mapping.target) {
            refuse("target", format!("there is no `{}`; {}", mapping.target, near(&mapping.target, targets)));
            continue;
        }
        if !seen.insert(mapping.target.as_str()) {
            refuse("target", format!("`{}` is filled twice", mapping.target));
        }
        if let (Some(name), Some(columns)) = (mapping.column(), columns)
            && !columns.contains(&name)
        {
            refuse(
                "column",
                format!("the file has no column `{name}`; it has {}", list(columns.iter().copied())),
            );
        }
        if matches!(mapping.origin, Some(Origin::Constant(_))) {
            if mapping.target == EXTERNAL_ID {
                refuse(
                    "constant",
                    format!("`{EXTERNAL_ID}` tells rows apart, so it must come from a column"),
                );
            }
            if !mapping.value_map.is_empty() {
                refuse("value_map", "replaces values of a column, and this is a constant".into());
            }
        }
    }
    if violations.is_empty() { Ok(()) } else { Err(Error::Invalid(violations)) }
}

/// Whether the mappings together are enough to begin.
///
/// # Errors
/// `Rule` with the reason `IMPORT_INCOMPLETE` that says what is missing.
pub(crate) fn complete(mappings: &[Mapping], targets: &[Target], source: &str) -> Result<(), Error> {
    let filled = |target: &str| mappings.iter().any(|m| m.target == target && m.origin.is_some());
    let missing: Vec<_> =
        targets.iter().filter(|t| t.required && !filled(&t.name)).map(|t| t.name.as_str()).collect();
    if !missing.is_empty() {
        let verb = if missing.len() == 1 { "is" } else { "are" };
        let message =
            format!("{} {verb} required; map a column or a constant to it", list(missing.into_iter()));
        return Err(Error::rule("IMPORT_INCOMPLETE", message));
    }
    if mappings.iter().all(|mapping| mapping.origin.is_none()) {
        return Err(Error::rule("IMPORT_INCOMPLETE", "nothing is mapped; map a column to a target"));
    }
    if filled(EXTERNAL_ID) && source.is_empty() {
        let message =
            format!("`{EXTERNAL_ID}` is mapped, so `source` must name the system whose keys these are");
        return Err(Error::rule("IMPORT_INCOMPLETE", message));
    }
    Ok(())
}

/// Which targets may have been meant.
fn near(name: &str, targets: &[Target]) -> String {
    let near = suggest::near(name, targets);
    if near.is_empty() {
        return format!("there are {}", list(targets.iter().map(|target| target.name.as_str())));
    }
    format!("near it are {}", list(near.into_iter()))
}

fn list<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names: Vec<_> = names.map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(LISTED);
    names.truncate(LISTED);
    let listed = names.join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Vec<Target> {
        let target = |name: &str, required| Target {
            name: name.into(),
            labels: Vec::new(),
            required,
            example: String::new(),
        };
        vec![target("display_name", true), target("external_id", false), target("attributes.city", false)]
    }

    fn column(target: &str, name: &str) -> Mapping {
        let origin = Some(Origin::Column(name.into()));
        Mapping { target: target.into(), origin, value_map: BTreeMap::new() }
    }

    #[test]
    fn mistakes_are_named_with_what_would_be_right() {
        let mut constant = column("external_id", "");
        constant.origin = Some(Origin::Constant("7".into()));
        constant.value_map.insert("a".into(), "b".into());
        let mappings = [
            column("display_nam", "Name"),
            column("zzz", "Name"),
            column("display_name", "Nmae"),
            column("display_name", "Name"),
            constant,
        ];
        let Err(Error::Invalid(violations)) = check(&mappings, &targets(), Some(&["Name", "客户编号"]))
        else {
            panic!()
        };
        let violations: Vec<_> = violations.iter().map(|v| format!("{}: {}", v.field, v.problem)).collect();
        assert_eq!(
            violations,
            [
                "import.mappings[0].target: there is no `display_nam`; near it are `display_name`",
                "import.mappings[1].target: there is no `zzz`; there are `display_name`, `external_id`, `attributes.city`",
                "import.mappings[2].column: the file has no column `Nmae`; it has `Name`, `客户编号`",
                "import.mappings[3].target: `display_name` is filled twice",
                "import.mappings[4].constant: `external_id` tells rows apart, so it must come from a column",
                "import.mappings[4].value_map: replaces values of a column, and this is a constant",
            ]
        );
        check(&mappings[3..4], &targets(), Some(&["Name"])).unwrap();
        check(&mappings[2..3], &targets(), None).unwrap();
    }

    #[test]
    fn what_is_required_must_be_filled() {
        let problem =
            |mappings: &[Mapping], source| complete(mappings, &targets(), source).unwrap_err().to_string();
        assert_eq!(problem(&[], ""), "`display_name` is required; map a column or a constant to it");
        let left_out = Mapping { origin: None, ..column("display_name", "") };
        assert_eq!(problem(&[left_out], ""), "`display_name` is required; map a column or a constant to it");
        let both = [column("display_name", "Name"), column("external_id", "No")];
        assert_eq!(
            problem(&both, ""),
            "`external_id` is mapped, so `source` must name the system whose keys these are"
        );
        complete(&both, &targets(), "erp").unwrap();
        complete(&both[..1], &targets(), "").unwrap();
    }

    #[test]
    fn an_empty_column_or_constant_leaves_the_target_out() {
        let empty = pb::Mapping {
            target: "a".into(),
            value: Some(pb::mapping::Value::Column(String::new())),
            ..pb::Mapping::default()
        };
        assert_eq!(Mapping::from(&empty).origin, None);
        let constant = pb::Mapping { value: Some(pb::mapping::Value::Constant("x".into())), ..empty };
        assert_eq!(pb::Mapping::from(Mapping::from(&constant)), constant);
    }
}
