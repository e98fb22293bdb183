//! Reading the beginning of a file: whether it is a CSV in UTF-8, what its columns are, how many rows it may have.
use std::collections::BTreeMap;

use rapport_kernel::{Error, cut};

use crate::{
    dialect::{BOM, Dialect},
    import::Column,
    issues::kept,
    rows::{Place, Row, Rows, Splitter},
};

/// How much of a file is looked at.
pub(crate) const START: u64 = 1 << 20;
/// The most columns.
const MAX_COLUMNS: usize = 2_000;
/// The longest name of a column and the longest sample, in characters.
const MAX_NAME: usize = 255;
const MAX_SAMPLE: usize = 100;
/// How many samples each column has, and out of how many rows they are taken.
const SAMPLES: usize = 3;
const SAMPLE_ROWS: usize = 20;
/// Out of how many rows the number of all is estimated.
const ESTIMATE_ROWS: usize = 500;

/// What the beginning of a file says.
#[derive(Debug)]
pub(crate) struct Header {
    pub(crate) dialect: Dialect,
    pub(crate) columns: Vec<Column>,
    /// Where the first row begins.
    pub(crate) first: Place,
    /// How many rows the file seems to have.
    pub(crate) estimate: i64,
}

/// Reads the header out of `start`, the beginning of a file of `size` bytes.
///
/// # Errors
/// `Invalid` on the field `file`, with what is wrong with it and what would be right.
pub(crate) fn read(start: &[u8], size: u64) -> Result<Header, Error> {
    recognise(start)?;
    let dialect = Dialect::detect(start);
    let skip = if dialect.bom { BOM.len() } else { 0 };
    let begin = Place { offset: skip as u64, line: 1 };
    let whole = start.len() as u64 >= size;
    let rows = rows(start.get(skip..).unwrap_or_default(), Splitter::new(dialect.reader(), begin), whole);
    let Some(header) = rows.get(0) else {
        return Err(refuse(if whole {
            "is empty"
        } else {
            "has a header of more than 1 MiB; is it a CSV file?"
        }));
    };
    let names = names(&rows, header)?;
    let first = rows.after(0).unwrap_or(begin);
    let next = usize::try_from(first.offset).ok().and_then(|at| start.get(at..)).unwrap_or_default();
    if rows.len() < 2 && next.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
        return Err(refuse("has a header but no rows"));
    }
    let columns = columns(names, &rows);
    Ok(Header { dialect, columns, first, estimate: estimate(&rows, first, size) })
}

/// The header and the first rows.
fn rows(text: &[u8], mut splitter: Splitter, whole: bool) -> Rows {
    let mut rows = Rows::default();
    let mut rest = text;
    while !rest.is_empty() && rows.len() <= ESTIMATE_ROWS {
        let (taken, _) = splitter.feed(rest, &mut rows);
        rest = rest.get(taken..).unwrap_or_default();
    }
    if rest.is_empty() && whole {
        splitter.feed(&[], &mut rows);
    }
    if splitter.incomplete() == splitter.place() {
        splitter.skip_breaks(rest);
    }
    rows.end = Some(splitter.incomplete());
    rows
}

/// Refuses what is well known not to be a CSV in UTF-8.
fn recognise(start: &[u8]) -> Result<(), Error> {
    let text = start.strip_prefix(BOM).unwrap_or(start).trim_ascii_start();
    let begins = |with: &[&[u8]]| with.iter().any(|begin| start.starts_with(begin));
    let problem = if text.is_empty() {
        "is empty"
    } else if begins(&[b"\xff\xfe", b"\xfe\xff"]) {
        "is UTF-16; save it as `CSV UTF-8`"
    } else if begins(&[b"PK\x03\x04", b"\xd0\xcf\x11\xe0"]) {
        "is a workbook; open it and save the sheet as `CSV UTF-8`"
    } else if begins(&[b"%PDF", b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"\x89PNG"]) || start.contains(&0) {
        "is not text; it must be a CSV in UTF-8"
    } else if text.starts_with(b"{") || text.starts_with(b"[{") {
        "is JSON; it must be a CSV in UTF-8"
    } else if text.starts_with(b"<") {
        "is XML or HTML; it must be a CSV in UTF-8"
    } else {
        return Ok(());
    };
    Err(refuse(problem))
}

/// The names of the columns, without blanks around them.
fn names(rows: &Rows, header: &Row) -> Result<Vec<String>, Error> {
    let cells = cells(rows, header);
    if header.too_long || cells.len() > MAX_COLUMNS {
        return Err(refuse(format!("has {} columns; at most {MAX_COLUMNS} are allowed", cells.len())));
    }
    let mut names = Vec::with_capacity(cells.len());
    for cell in cells {
        let Ok(name) = std::str::from_utf8(cell) else {
            return Err(refuse(
                "has a header that is not UTF-8 (is it GB 18030 or Windows-1252?); save it as `CSV UTF-8`",
            ));
        };
        names.push(name.trim().to_owned());
    }
    let unnamed: Vec<_> = (1..).zip(&names).filter(|(_, name)| name.is_empty()).map(|(n, _)| n).collect();
    if !unnamed.is_empty() {
        return Err(refuse(format!("has columns without a name in its header: {}", numbers(&unnamed))));
    }
    let mut places = BTreeMap::<&str, Vec<usize>>::new();
    for (n, name) in (1..).zip(&names) {
        places.entry(name).or_default().push(n);
    }
    let twice: Vec<_> = places
        .iter()
        .filter(|(_, places)| places.len() > 1)
        .map(|(name, places)| format!("`{}` ({})", cut(name), numbers(places)))
        .collect();
    if !twice.is_empty() {
        let twice = twice.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
        return Err(refuse(format!("has several columns of the same name in its header: {twice}")));
    }
    if let Some(long) = names.iter().find(|name| name.chars().count() > MAX_NAME) {
        let problem = format!(
            "has a column name of more than {MAX_NAME} characters: `{}`; is a header missing?",
            cut(long)
        );
        return Err(refuse(problem));
    }
    Ok(names)
}

/// `column 3`, `columns 1 and 4`.
fn numbers(places: &[usize]) -> String {
    let texts: Vec<_> = places.iter().take(20).map(ToString::to_string).collect();
    match texts.split_last() {
        Some((only, [])) => format!("column {only}"),
        Some((last, others)) => format!("columns {} and {last}", others.join(", ")),
        None => String::new(),
    }
}

fn columns(names: Vec<String>, rows: &Rows) -> Vec<Column> {
    let mut columns: Vec<Column> =
        names.into_iter().map(|name| Column { name, samples: Vec::new() }).collect();
    for n in 1..=SAMPLE_ROWS {
        let Some(row) = rows.get(n) else { break };
        let cells = cells(rows, row);
        if cells.len() != columns.len() {
            continue;
        }
        for (column, cell) in columns.iter_mut().zip(cells) {
            let sample = kept(&String::from_utf8_lossy(cell), MAX_SAMPLE);
            if column.samples.len() < SAMPLES
                && !sample.trim().is_empty()
                && !column.samples.contains(&sample)
            {
                column.samples.push(sample);
            }
        }
    }
    columns
}

fn cells<'r>(rows: &'r Rows, row: &Row) -> Vec<&'r [u8]> {
    let (bytes, mut from) = (rows.bytes(row), 0);
    rows.ends(row)
        .iter()
        .map(|end| {
            let cell = bytes.get(from..*end).unwrap_or_default();
            from = *end;
            cell
        })
        .collect()
}

/// How many rows a file of `size` bytes has, if the rest is like its beginning.
fn estimate(rows: &Rows, first: Place, size: u64) -> i64 {
    let seen = u64::try_from(rows.len().saturating_sub(1)).unwrap_or(0).max(1);
    let end = rows.end.map_or(first.offset, |end| end.offset);
    let bytes = end.saturating_sub(first.offset).max(1);
    let rest = size.saturating_sub(first.offset);
    i64::try_from(u128::from(rest) * u128::from(seen) / u128::from(bytes)).unwrap_or(i64::MAX).max(1)
}

fn refuse(problem: impl Into<String>) -> Error {
    Error::invalid("file", problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(file: &[u8]) -> String {
        read(file, file.len() as u64).unwrap_err().to_string()
    }

    #[test]
    fn a_header_names_the_columns() {
        let file = "\u{feff}客户;\" 城市 \";MRR\r\n阿里云;\"杭州\n西湖\";29,85\r\n腾讯;深圳;\r\n;;\r\n华为;深圳;1\r\n";
        let header = read(file.as_bytes(), file.len() as u64).unwrap();
        assert_eq!(header.dialect, Dialect { delimiter: b';', bom: true });
        let names: Vec<_> = header.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["客户", "城市", "MRR"]);
        assert_eq!(header.columns[1].samples, ["杭州\n西湖", "深圳"]);
        assert_eq!(header.columns[2].samples, ["29,85", "1"]);
        assert_eq!(header.first.line, 2);
        assert_eq!(header.estimate, 4);
    }

    #[test]
    fn what_is_no_csv_is_refused_by_name() {
        assert_eq!(problem(b""), "file: is empty");
        assert_eq!(problem("\u{feff}\r\n \n".as_bytes()), "file: is empty");
        assert_eq!(problem(b"a,b\n"), "file: has a header but no rows");
        assert_eq!(problem(b"a,b\n\n\r\n"), "file: has a header but no rows");
        assert_eq!(
            problem(b"a,,c, \n1,2,3,4\n"),
            "file: has columns without a name in its header: columns 2 and 4"
        );
        assert_eq!(
            problem(b"a,b, a,c,b\n1,2,3,4,5\n"),
            "file: has several columns of the same name in its header: `a` (columns 1 and 3), `b` (columns 2 and 5)"
        );
        assert!(problem(b"\xff\xfea\0,\0b\0").contains("UTF-16"));
        assert!(problem(b"PK\x03\x04\x14\0").contains("workbook"));
        assert!(problem(b"%PDF-1.7\n1 0 obj\n").contains("not text"));
        assert!(problem(b"a,b\n1,\0\n").contains("not text"));
        assert!(problem(b"  {\"a\": 1}\n").contains("JSON"));
        assert!(problem(b"[{\"a\": 1}]\n").contains("JSON"));
        assert!(problem(b"<html>\n<table>").contains("HTML"));
        assert!(problem(b"\xbf\xcd\xbb\xa7,b\n1,2\n").contains("not UTF-8"));
        assert!(problem(&[b"x,".repeat(3_000), b"y\n1\n".to_vec()].concat()).contains("at most 2000"));
        assert!(problem(format!("{}\n1\n", "x".repeat(300)).as_bytes()).contains("more than 255 characters"));
    }

    #[test]
    fn the_number_of_rows_is_estimated_from_the_size() {
        let mut file = b"id,name\n".to_vec();
        (0..100_000).for_each(|n| file.extend(format!("{n:06},somebody\n").bytes()));
        let header = read(&file[..1 << 20], file.len() as u64).unwrap();
        assert!((99_000..101_000).contains(&header.estimate), "{}", header.estimate);
    }

    #[test]
    fn a_first_row_may_be_longer_than_what_is_looked_at() {
        let file = format!("id,text\n1,{}\n", "x".repeat(2 << 20));
        let header = read(&file.as_bytes()[..1 << 20], file.len() as u64).unwrap();
        assert_eq!(header.columns.len(), 2);
    }
}
