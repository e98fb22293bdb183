//! A figure: what was measured, what it was measured against, and what was promised.
use std::fmt::{self, Display, Formatter, Write as _};

/// What is promised of a figure.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Aim {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Nothing: it explains another one.
    None,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What was measured, and in what unit.
    pub(crate) name: String,
    /// What was measured.
    pub(crate) value: String,
    /// What it was measured against.
    pub(crate) reference: String,
    /// What the promise is about: a ratio, or the value itself.
    pub(crate) result: f64,
    /// The promise.
    pub(crate) aim: Aim,
}

impl Figure {
    /// A value that is held against a reference of the same unit.
    pub(crate) fn ratio(name: &str, unit: &str, value: f64, reference: f64, aim: Aim) -> Self {
        Self {
            name: name.to_owned(),
            value: with_unit(value, unit),
            reference: with_unit(reference, unit),
            result: value / reference,
            aim,
        }
    }

    /// A value that stands for itself.
    pub(crate) fn plain(name: &str, unit: &str, value: f64, aim: Aim) -> Self {
        Self {
            name: name.to_owned(),
            value: with_unit(value, unit),
            reference: String::new(),
            result: value,
            aim,
        }
    }

    fn promise(&self) -> (String, &'static str) {
        let verdict = |met| if met { "met" } else { "MISSED" };
        match self.aim {
            Aim::AtLeast(aim) => (format!("≥ {aim}"), verdict(self.result >= aim)),
            Aim::AtMost(aim) => (format!("≤ {aim}"), verdict(self.result <= aim)),
            Aim::None => (String::new(), ""),
        }
    }
}

impl Display for Figure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let ratio = if self.reference.is_empty() { String::new() } else { format!("{:.2}", self.result) };
        let (aim, verdict) = self.promise();
        let Self { name, value, reference, .. } = self;
        write!(f, "| {name} | {value} | {reference} | {ratio} | {aim} | {verdict} |")
    }
}

fn with_unit(value: f64, unit: &str) -> String {
    let digits = if value >= 100.0 { 0 } else { 2 };
    format!("{value:.digits$} {unit}")
}

/// The middle of some values.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// All figures, in Markdown.
pub(crate) fn table(figures: &[Figure]) -> String {
    let mut table =
        String::from("\n| figure | measured | reference | ratio | aim | |\n|---|--:|--:|--:|--:|---|\n");
    for figure in figures {
        let _ = writeln!(table, "{figure}");
    }
    table
}
