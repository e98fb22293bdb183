//! How a CSV file is written: with which delimiter, with or without a byte-order mark.
use csv_core::{ReadFieldResult, Reader, ReaderBuilder};
use serde::{Deserialize, Serialize};

/// The bytes that some programs put before UTF-8.
pub(crate) const BOM: &[u8] = b"\xef\xbb\xbf";

/// The delimiters that are recognised, the likeliest first.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];
/// How many rows have a say in which delimiter it is.
const ROWS: usize = 20;

/// How a file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Dialect {
    /// What stands between values.
    pub(crate) delimiter: u8,
    /// Whether the file begins with a byte-order mark.
    pub(crate) bom: bool,
}

impl Dialect {
    /// A parser for the file.
    pub(crate) fn reader(self) -> Reader {
        ReaderBuilder::new().delimiter(self.delimiter).build()
    }

    /// Guesses from the file's beginning: the delimiter by which the most rows have as many values as the header, and of
    /// those the one that makes the most columns.
    pub(crate) fn detect(start: &[u8]) -> Self {
        let bom = start.starts_with(BOM);
        let text = if bom { start.get(BOM.len()..).unwrap_or_default() } else { start };
        let mut best = (0, b',');
        for delimiter in DELIMITERS {
            let widths = widths(text, delimiter);
            let Some((&header, rows)) = widths.split_first() else { continue };
            let alike = rows.iter().filter(|width| **width == header).count();
            let score = if header == 1 { 0 } else { (alike + 1) * 10_000 + header.min(9_999) };
            if score > best.0 {
                best = (score, delimiter);
            }
        }
        Self { delimiter: best.1, bom }
    }
}

/// How many values each of the first rows has, without the last one, which may be cut off.
fn widths(text: &[u8], delimiter: u8) -> Vec<usize> {
    let mut reader = ReaderBuilder::new().delimiter(delimiter).build();
    let mut widths = Vec::new();
    let mut width = 0;
    let mut rest = text;
    let mut scratch = [0; 4096];
    while widths.len() <= ROWS {
        let (result, read, _) = reader.read_field(rest, &mut scratch);
        rest = rest.get(read..).unwrap_or_default();
        match result {
            ReadFieldResult::Field { record_end } => {
                width += 1;
                if record_end {
                    widths.push(width);
                    width = 0;
                }
            }
            ReadFieldResult::OutputFull => {}
            // At the end comes what may be half a row; the header counts even then.
            ReadFieldResult::InputEmpty | ReadFieldResult::End => {
                if widths.is_empty() {
                    widths.push(width + 1);
                }
                break;
            }
        }
    }
    widths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_delimiter_is_recognised() {
        for (text, delimiter) in [
            ("a,b,c\n1,2,3\n", b','),
            ("a;b;c\n1,5;2,5;3,5\n", b';'),
            ("Name;Umsatz, EUR;Ort\nX;1,5;Y\n", b';'),
            ("a\tb\n1,2\t3\n", b'\t'),
            ("a|b\n1|2\n", b'|'),
            ("\"last, first\";city\n\"Li, Wei\";杭州\n", b';'),
            ("客户,城市\n\"阿里,云\",杭州\n", b','),
            ("name\n1,5\n", b','),
            ("\"a\nb\",c\n1,2\n", b','),
            ("a,b,c", b','),
            ("a;b", b';'),
            ("", b','),
        ] {
            assert_eq!(Dialect::detect(text.as_bytes()).delimiter as char, delimiter as char, "{text:?}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_header() {
        let dialect = Dialect::detect("\u{feff}\"a\";b\n1;2\n".as_bytes());
        assert_eq!(dialect, Dialect { delimiter: b';', bom: true });
    }
}
