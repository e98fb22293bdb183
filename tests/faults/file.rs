//! Files of customers, and what must be there once they were brought in.
use std::{collections::BTreeMap, fmt::Write as _};

/// The source that external ids of the file belong to.
pub(crate) const SOURCE: &str = "erp";

/// Customers that are there before the import, of whom it changes some.
pub(crate) const BEFORE: u32 = 100;

/// One row. Its values follow from the customer's number and from the variant: another variant is a change.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    number: u32,
    variant: u32,
    /// Whether a value is wrong, so that the row is refused.
    wrong: bool,
}

impl Row {
    pub(crate) const fn new(number: u32, variant: u32) -> Self {
        Self { number, variant, wrong: false }
    }

    pub(crate) fn key(self) -> String {
        format!("k{:05}", self.number)
    }

    pub(crate) fn name(self) -> String {
        format!("customer {} v{}", self.key(), self.variant)
    }

    pub(crate) fn headcount(self) -> u32 {
        self.number + self.variant
    }

    pub(crate) fn phone(self) -> String {
        format!("138{:03}{:05}", self.variant, self.number)
    }

    pub(crate) fn city(self) -> &'static str {
        ["杭州", "Wien", "上海", "Oslo", "成都"][((self.number + self.variant) % 5) as usize]
    }

    /// A number of two places, and the same without its point.
    pub(crate) fn score(self) -> (String, String) {
        let whole = self.number * 7 + self.variant;
        (format!("{}.{:02}", whole / 100, whole % 100), whole.to_string())
    }
}

/// A file: with external ids and a field of unique values, or without, when nothing but the import's own progress keeps a
/// row from coming in twice.
#[derive(Clone, Debug)]
pub(crate) struct File {
    pub(crate) keyed: bool,
    pub(crate) rows: Vec<Row>,
}

impl File {
    /// The customers that are there before.
    pub(crate) fn before() -> Self {
        Self { keyed: true, rows: (0..BEFORE).map(|number| Row::new(number, 0)).collect() }
    }

    /// `count` rows with external ids: of new customers, of some who are there (every other of them is changed), some of
    /// customers of this file again, and some that are refused.
    pub(crate) fn keyed(count: u32) -> Self {
        let row = |n: u32| match n {
            n if n % 10 == 0 && n / 10 < BEFORE => Row::new(n / 10, (n / 10) % 2),
            n if n % 50 == 7 => Row::new(BEFORE + n - 3, 2),
            n if n % 97 == 5 => Row { wrong: true, ..Row::new(BEFORE + n, 1) },
            n => Row::new(BEFORE + n, 1),
        };
        Self { keyed: true, rows: (0..count).map(row).collect() }
    }

    /// `count` rows of as many new customers, without external ids.
    pub(crate) fn keyless(count: u32) -> Self {
        Self { keyed: false, rows: (0..count).map(|number| Row::new(number, 1)).collect() }
    }

    /// The columns, each with what it means.
    pub(crate) fn columns(&self) -> Vec<(&'static str, &'static str)> {
        let mut columns = vec![
            ("name", "display_name"),
            ("headcount", "headcount"),
            ("phone", "phone"),
            ("town", "attributes.town"),
            ("score", "attributes.score"),
        ];
        if self.keyed {
            columns.extend([("key", "external_id"), ("code", "attributes.code")]);
        }
        columns
    }

    /// The file as text.
    pub(crate) fn csv(&self) -> String {
        let mut text = self.columns().into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(",");
        for row in &self.rows {
            let headcount = if row.wrong { "many".to_owned() } else { row.headcount().to_string() };
            let _ =
                write!(text, "\n{},{headcount},{},{},{}", row.name(), row.phone(), row.city(), row.score().0);
            if self.keyed {
                let _ = write!(text, ",{0},{0}", row.key());
            }
        }
        text.push('\n');
        text
    }
}

/// A customer as it must be.
#[derive(Clone, Debug)]
pub(crate) struct Kept {
    /// The last row that was taken.
    pub(crate) row: Row,
    /// How often it changed, its making counted.
    pub(crate) version: i64,
    /// The files that wrote it, by their number, each with the version that it left.
    pub(crate) imports: Vec<(usize, i64)>,
}

impl Kept {
    /// A customer that was created, by no file.
    pub(crate) const fn created(row: Row) -> Self {
        Self { row, version: 1, imports: Vec::new() }
    }
}

/// What must be there.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Customers by key.
    pub(crate) customers: BTreeMap<String, Kept>,
    /// Rows of the last file that were worked on, that made a customer, changed one, changed nothing, were refused.
    pub(crate) figures: [i64; 5],
    /// Lines of the last file that were refused.
    pub(crate) refused: Vec<i64>,
}

impl Outcome {
    /// What the files, one after the other, come to: a small model of what an import does.
    pub(crate) fn of(files: &[&File]) -> Self {
        let mut outcome = Self::default();
        for (number, file) in files.iter().enumerate() {
            outcome.figures = [i64::try_from(file.rows.len()).unwrap(), 0, 0, 0, 0];
            for (line, row) in (2..).zip(&file.rows) {
                outcome.take(number, line, *row);
            }
        }
        outcome
    }

    fn take(&mut self, file: usize, line: i64, row: Row) {
        let figure = match self.customers.get_mut(&row.key()) {
            _ if row.wrong => {
                self.refused.push(line);
                4
            }
            None => {
                let kept = Kept { imports: vec![(file, 1)], ..Kept::created(row) };
                self.customers.insert(row.key(), kept);
                1
            }
            Some(kept) if kept.row.variant == row.variant => 3,
            Some(kept) => {
                (kept.row, kept.version) = (row, kept.version + 1);
                kept.imports.retain(|(number, _)| *number != file);
                kept.imports.push((file, kept.version));
                2
            }
        };
        self.figures[figure] += 1;
    }
}
