//! From the values of a row to the values of the targets: which column goes where is looked up once, not for each row.
use std::collections::{HashMap, HashSet};

use rapport_kernel::{Ctx, Error};

use crate::{
    import::Import,
    importable::{EXTERNAL_ID, Importable, Problem},
    issues::Issue,
    mapping::Origin,
    rows::{Row, Rows},
};

/// Where each target's value comes from.
#[derive(Debug)]
pub(crate) struct Binding {
    names: Vec<String>,
    sources: Vec<Source>,
    columns: Vec<String>,
    /// Which of the targets tells rows apart.
    external_id: Option<usize>,
}

#[derive(Debug)]
enum Source {
    Column { index: usize, value_map: HashMap<String, String> },
    Constant(String),
}

/// What was read from some rows.
#[derive(Debug)]
pub(crate) struct Ready<R> {
    /// Rows to be written, in groups that can be written at once: no group has the same external id twice.
    pub(crate) groups: Vec<Vec<Read<R>>>,
    /// What is wrong with the others.
    pub(crate) issues: Vec<Issue>,
    /// How many others there are.
    pub(crate) rejected: i64,
}

/// A row that was read.
#[derive(Debug)]
pub(crate) struct Read<R> {
    /// Which row of the batch.
    pub(crate) n: usize,
    /// A digest of its external id, where it has one.
    pub(crate) key: Option<u64>,
    /// Its values.
    pub(crate) row: R,
}

impl Binding {
    /// Looks up what the mappings of an import name.
    ///
    /// # Errors
    /// `Rule` when a column is not in the file; the mappings were checked when it was started, so none should.
    pub(crate) fn of(import: &Import) -> Result<Self, Error> {
        let columns: Vec<String> = import.file()?.columns.iter().map(|column| column.name.clone()).collect();
        let mut binding = Self { names: Vec::new(), sources: Vec::new(), columns, external_id: None };
        for mapping in &import.mappings {
            let source = match &mapping.origin {
                None => continue,
                Some(Origin::Constant(value)) => Source::Constant(value.clone()),
                Some(Origin::Column(name)) => {
                    let index =
                        binding.columns.iter().position(|column| column == name).ok_or_else(|| {
                            Error::rule("IMPORT_INCOMPLETE", format!("the file has no column `{name}`"))
                        })?;
                    Source::Column { index, value_map: mapping.value_map.clone().into_iter().collect() }
                }
            };
            if mapping.target == EXTERNAL_ID {
                binding.external_id = Some(binding.names.len());
            }
            binding.names.push(mapping.target.clone());
            binding.sources.push(source);
        }
        Ok(binding)
    }

    /// The targets, in the order of the values.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.names.iter().map(String::as_str).collect()
    }

    /// Reads some rows of a batch.
    pub(crate) fn read<I: Importable>(
        &self,
        importable: &I,
        ctx: &Ctx,
        plan: &I::Plan,
        rows: &Rows,
        range: std::ops::Range<usize>,
    ) -> Ready<I::Row> {
        let mut ready = Ready { groups: Vec::new(), issues: Vec::new(), rejected: 0 };
        let mut group = Vec::with_capacity(range.len());
        let mut seen = HashSet::with_capacity(range.len());
        let mut cells = Vec::with_capacity(self.columns.len());
        let mut values = Vec::with_capacity(self.sources.len());
        for n in range {
            let Some(row) = rows.get(n) else { break };
            let read = match self.cells(rows, row, &mut cells) {
                Ok(()) => {
                    self.values(&cells, &mut values);
                    importable.read(ctx, plan, &values)
                }
                Err(problem) => {
                    cells.clear();
                    Err(vec![problem])
                }
            };
            match read {
                Ok(read) => {
                    let id =
                        self.external_id.and_then(|at| values.get(at)).filter(|id| !id.trim().is_empty());
                    let key = id.map(|id| digest(id.trim()));
                    if key.is_some_and(|key| !seen.insert(key)) {
                        ready.groups.push(std::mem::take(&mut group));
                        seen.clear();
                        seen.extend(key);
                    }
                    group.push(Read { n, key, row: read });
                }
                Err(problems) => {
                    ready.rejected += 1;
                    ready.issues.extend(self.issues(row, &cells, &problems));
                }
            }
        }
        ready.groups.push(group);
        ready
    }

    /// The issues of a row that was refused after it was read.
    pub(crate) fn issues_of(&self, rows: &Rows, n: usize, problems: &[Problem]) -> Vec<Issue> {
        let Some(row) = rows.get(n) else { return Vec::new() };
        let mut cells = Vec::new();
        if self.cells(rows, row, &mut cells).is_err() {
            cells.clear();
        }
        self.issues(row, &cells, problems)
    }

    fn issues(&self, row: &Row, cells: &[&str], problems: &[Problem]) -> Vec<Issue> {
        let whole = [Problem::new("", "was refused")];
        let problems = if problems.is_empty() { &whole } else { problems };
        let issue = |(position, problem): (usize, &Problem)| {
            let source = self
                .names
                .iter()
                .position(|name| *name == problem.target)
                .and_then(|at| self.sources.get(at));
            let (column, value) = match source {
                Some(Source::Column { index, .. }) => {
                    let column = self.columns.get(*index).map(String::as_str).unwrap_or_default();
                    (column, cells.get(*index).copied().unwrap_or_default())
                }
                Some(Source::Constant(value)) => ("", value.as_str()),
                None => ("", ""),
            };
            Issue::new(row, position, column, value, problem)
        };
        problems.iter().enumerate().take(Issue::MOST_OF_A_ROW).map(issue).collect()
    }

    /// Takes a row's values apart.
    ///
    /// # Errors
    /// What is wrong with the row as such.
    fn cells<'r>(&self, rows: &'r Rows, row: &Row, cells: &mut Vec<&'r str>) -> Result<(), Problem> {
        cells.clear();
        let refuse = |problem: String| Err(Problem::new("", problem));
        let lines = if row.last_line > row.start.line {
            format!(
                "; it goes from line {} to line {}, so a quote may be missing",
                row.start.line, row.last_line
            )
        } else {
            String::new()
        };
        if row.too_long {
            return refuse(format!("is longer than {} MiB{lines}", crate::rows::LONGEST >> 20));
        }
        let (width, expected) = (Rows::width(row), self.columns.len());
        if width != expected {
            let values = if width == 1 { "value" } else { "values" };
            return refuse(format!("has {width} {values} where the header has {expected} columns{lines}"));
        }
        let bytes = rows.bytes(row);
        let Ok(text) = std::str::from_utf8(bytes) else { return refuse(self.not_utf8(rows, row)) };
        let mut from = 0;
        for end in rows.ends(row) {
            // A value that ends within a character: two halves that only look like UTF-8 side by side.
            let Some(cell) = text.get(from..*end) else { return refuse(self.not_utf8(rows, row)) };
            cells.push(cell);
            from = *end;
        }
        if bytes.contains(&0) {
            return refuse("has the character U+0000, which texts cannot have".into());
        }
        Ok(())
    }

    fn not_utf8(&self, rows: &Rows, row: &Row) -> String {
        let (bytes, mut from) = (rows.bytes(row), 0);
        for (end, column) in rows.ends(row).iter().zip(&self.columns) {
            if std::str::from_utf8(bytes.get(from..*end).unwrap_or_default()).is_err() {
                return format!("is not UTF-8 in column `{column}`; save the file as `CSV UTF-8`");
            }
            from = *end;
        }
        "is not UTF-8; save the file as `CSV UTF-8`".into()
    }

    fn values<'v>(&'v self, cells: &[&'v str], values: &mut Vec<&'v str>) {
        values.clear();
        values.extend(self.sources.iter().map(|source| match source {
            Source::Constant(value) => value.as_str(),
            Source::Column { index, value_map } => {
                let cell = cells.get(*index).copied().unwrap_or_default();
                if value_map.is_empty() { cell } else { value_map.get(cell).map_or(cell, String::as_str) }
            }
        }));
    }
}

/// A digest that is the same within this process.
fn digest(text: &str) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use rapport_kernel::{Clock, Id};
    use rapport_store::TenantTx;
    use uuid::Uuid;

    use super::*;
    use crate::{
        dialect::Dialect,
        header,
        importable::{ExistingPolicy, Outcome, Target, Undo, Written},
        rows::{Place, Splitter},
    };

    /// A resource that takes every row as it is.
    struct Plain;

    impl Importable for Plain {
        type Plan = ();
        type Row = usize;

        fn resource(&self) -> &'static str {
            "plain"
        }
        fn targets(&self, _: &TenantTx) -> Vec<Target> {
            Vec::new()
        }
        fn plan(&self, _: &TenantTx, _: &[&str]) -> Result<(), Error> {
            Ok(())
        }
        fn read(&self, _: &Ctx, (): &(), values: &[&str]) -> Result<usize, Vec<Problem>> {
            match values.iter().position(|value| *value == "bad") {
                Some(at) => Err(vec![Problem::new(format!("t{at}"), "is bad")]),
                None => Ok(values.iter().map(|value| value.len()).sum()),
            }
        }
        async fn write(
            &self,
            _: &mut TenantTx,
            _: &str,
            _: ExistingPolicy,
            _: Vec<usize>,
        ) -> Result<Vec<Outcome>, Error> {
            Ok(Vec::new())
        }
        async fn undo(&self, _: &mut TenantTx, _: Vec<Written>) -> Result<Vec<Undo>, Error> {
            Ok(Vec::new())
        }
    }

    fn split(text: &[u8], place: Place) -> Rows {
        let mut splitter = Splitter::new(Dialect { delimiter: b',', bom: false }.reader(), place);
        let mut rows = Rows::default();
        let mut rest = text;
        while !rest.is_empty() {
            let (taken, _) = splitter.feed(rest, &mut rows);
            rest = &rest[taken..];
        }
        splitter.feed(&[], &mut rows);
        rows
    }

    fn binding(columns: &[&str], targets: &[(&str, usize)]) -> Binding {
        let source =
            |index| Source::Column { index, value_map: HashMap::from([("Yes".into(), "true".into())]) };
        Binding {
            names: targets.iter().map(|(name, _)| (*name).to_owned()).collect(),
            sources: targets.iter().map(|(_, index)| source(*index)).collect(),
            columns: columns.iter().map(ToString::to_string).collect(),
            external_id: targets.iter().position(|(name, _)| *name == EXTERNAL_ID),
        }
    }

    fn ctx() -> Ctx {
        Ctx::system(Id::new(Uuid::from_u128(1)), Clock::system())
    }

    #[test]
    fn no_group_has_the_same_external_id_twice() {
        let binding = binding(&["id", "x"], &[(EXTERNAL_ID, 0), ("t1", 1)]);
        let rows = split(b"a,1\nb,2\na ,3\n,4\n,5\nb,bad\nc,6\na,7\n", Place { offset: 0, line: 2 });
        let ready = binding.read(&Plain, &ctx(), &(), &rows, 0..rows.len());
        let groups: Vec<Vec<usize>> =
            ready.groups.iter().map(|g| g.iter().map(|read| read.n).collect()).collect();
        assert_eq!(groups, [vec![0, 1], vec![2, 3, 4, 6], vec![7]]);
        assert_eq!(ready.rejected, 1);
        let issue = &ready.issues[0];
        assert_eq!((issue.line, issue.file_column.as_str(), issue.value.as_str()), (7, "x", "bad"));
    }

    #[test]
    #[ignore = "only measures: run it with --release and --nocapture"]
    fn microseconds_to_cut_and_map_a_row() {
        let file = include_bytes!("../../../../tests/data/telco-churn.csv");
        let header = header::read(file, file.len() as u64).unwrap();
        let names: Vec<_> = header.columns.iter().map(|column| column.name.as_str()).collect();
        let targets: Vec<_> = names.iter().enumerate().map(|(index, name)| (*name, index)).collect();
        let mut binding = binding(&names, &targets);
        binding.external_id = Some(0);
        let text = &file[header.first.offset as usize..];
        let (mut cut, mut map, mut count) = (0.0, 0.0, 0.0);
        for _ in 0..20 {
            let started = Instant::now();
            let rows = split(text, header.first);
            cut += started.elapsed().as_secs_f64();
            let started = Instant::now();
            let ready = binding.read(&Plain, &ctx(), &(), &rows, 0..rows.len());
            map += started.elapsed().as_secs_f64();
            assert_eq!(ready.groups[0].len(), 7_043);
            count += 7_043.0;
        }
        println!("cut: {:.2} µs a row, map: {:.2} µs a row", cut * 1e6 / count, map * 1e6 / count);
    }
}
