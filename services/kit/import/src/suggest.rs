//! Guessing from a file's header which column fills which target.
use std::collections::BTreeMap;

use unicode_normalization::UnicodeNormalization as _;

use crate::{
    download::PROBLEM_COLUMN,
    importable::Target,
    mapping::{Mapping, Origin},
};

/// How alike two names must be to count as near, from 0 to 1 (Jaro-Winkler), and from which length on: short names are all
/// alike.
const ALIKE: f64 = 0.9;
const LONG_ENOUGH: usize = 5;
/// How many near names an error lists.
const NEAR: usize = 5;

/// Suggests a mapping for each target that a column seems to mean, in the order of the targets. A column fills at most one
/// target; the surest match wins.
pub(crate) fn suggest(columns: &[&str], targets: &[Target]) -> Vec<Mapping> {
    let columns: Vec<(&str, String)> =
        columns.iter().filter(|name| **name != PROBLEM_COLUMN).map(|name| (*name, plain(name))).collect();
    let mut matches = Vec::new();
    for (t, target) in targets.iter().enumerate() {
        let names = names(target);
        for (c, (name, plain)) in columns.iter().enumerate() {
            if let Some(rank) = rank(name, plain, target, &names) {
                matches.push((rank, t, c));
            }
        }
    }
    matches.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut taken = BTreeMap::new();
    for (_, t, c) in matches {
        if !taken.contains_key(&t) && !taken.values().any(|other| *other == c) {
            taken.insert(t, c);
        }
    }
    taken
        .into_iter()
        .filter_map(|(t, c)| {
            let origin = Some(Origin::Column(columns.get(c)?.0.to_owned()));
            Some(Mapping { target: targets.get(t)?.name.clone(), origin, value_map: BTreeMap::new() })
        })
        .collect()
}

/// The targets whose names are like `name`, the likest first.
pub(crate) fn near<'t>(name: &str, targets: &'t [Target]) -> Vec<&'t str> {
    let plain = plain(name);
    let mut near: Vec<(f64, &str)> = targets
        .iter()
        .filter_map(|target| {
            let likeness = names(target).iter().map(|other| likeness(&plain, other)).fold(0.0, f64::max);
            (likeness >= 0.8).then_some((likeness, target.name.as_str()))
        })
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    near.into_iter().take(NEAR).map(|(_, name)| name).collect()
}

/// How surely a column means a target: 0 is surest, `None` not at all.
fn rank(column: &str, plain: &str, target: &Target, names: &[String]) -> Option<f64> {
    if column == target.name {
        return Some(0.0);
    }
    if column == last_part(&target.name) {
        return Some(1.0);
    }
    // The target's own name stands first, then its labels in their order.
    if let Some(place) = names.iter().position(|name| name == plain) {
        return (!plain.is_empty()).then_some(2.0 + place as f64 / 1000.0);
    }
    if plain.chars().count() < LONG_ENOUGH {
        return None;
    }
    let best = names
        .iter()
        .filter(|name| name.chars().count() >= LONG_ENOUGH)
        .map(|name| likeness(plain, name))
        .fold(0.0, f64::max);
    (best >= ALIKE).then_some(4.0 - best)
}

fn likeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(a, b)
}

/// What columns that mean the target may be called, in plain form.
fn names(target: &Target) -> Vec<String> {
    let own = [target.name.as_str(), last_part(&target.name)];
    own.into_iter().chain(target.labels.iter().map(String::as_str)).map(plain).collect()
}

/// `city` of `attributes.city`.
fn last_part(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// A name without case, width, blanks and punctuation: `Monthly Charges`, `monthly_charges` and `ＭonthlyCharges` are one.
fn plain(name: &str) -> String {
    name.nfkc().flat_map(char::to_lowercase).filter(|c| c.is_alphanumeric()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, labels: &[&str]) -> Target {
        let labels = labels.iter().map(ToString::to_string).collect();
        Target { name: name.into(), labels, required: false, example: String::new() }
    }

    fn suggested(columns: &[&str], targets: &[Target]) -> Vec<(String, String)> {
        suggest(columns, targets)
            .into_iter()
            .map(|mapping| (mapping.target.clone(), mapping.column().unwrap().to_owned()))
            .collect()
    }

    #[test]
    fn columns_are_recognised_by_name_label_and_likeness() {
        let targets = [
            target("display_name", &["Name", "Customer name", "客户名称", "名称"]),
            target("external_id", &["customer id", "客户编号"]),
            target("attributes.monthlyCharges", &["Monthly charges", "月费"]),
            target("attributes.city", &["City", "城市"]),
            target("attributes.paymentMethod", &["Payment method"]),
        ];
        let pairs = |columns: &[&str]| suggested(columns, &targets);
        let pair = |target: &str, column: &str| (target.to_owned(), column.to_owned());
        assert_eq!(
            pairs(&["customerID", "MonthlyCharges", "Paymnet Method", "unrelated", "city"]),
            [
                pair("external_id", "customerID"),
                pair("attributes.monthlyCharges", "MonthlyCharges"),
                pair("attributes.city", "city"),
                pair("attributes.paymentMethod", "Paymnet Method"),
            ]
        );
        assert_eq!(
            pairs(&["客户名称", "客户编号", "城市", "月费", "rapport_problem"]),
            [
                pair("display_name", "客户名称"),
                pair("external_id", "客户编号"),
                pair("attributes.monthlyCharges", "月费"),
                pair("attributes.city", "城市"),
            ]
        );
        assert_eq!(pairs(&["ＮＡＭＥ"]), [pair("display_name", "ＮＡＭＥ")]);
        assert_eq!(pairs(&["x", "cite", "--"]), [], "short names are not guessed");
    }

    #[test]
    fn the_surest_match_wins() {
        let targets = [target("attributes.name", &["Name"]), target("display_name", &["Full name", "Name"])];
        assert_eq!(
            suggested(&["Name", "display_name"], &targets),
            [
                ("attributes.name".to_owned(), "Name".to_owned()),
                ("display_name".to_owned(), "display_name".to_owned())
            ]
        );
    }
}
