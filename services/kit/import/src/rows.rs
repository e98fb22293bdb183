//! Cutting a CSV file into rows: exact places and line numbers, flat memory, no allocation for each row.
//!
//! The parser is `csv-core`, which is fed piece by piece. Around it stands what it does not know: where in the file a row
//! begins (so that a run can go on from there), on which line of the file (a line break inside quotes counts), and where to
//! stop when a row does not end (so that one forgotten quote cannot fill the memory).
use csv_core::{ReadRecordResult, Reader};
use serde::{Deserialize, Serialize};

/// The longest row that is read, in bytes. What is longer is most likely a quote without its end.
pub(crate) const LONGEST: usize = 4 << 20;

/// The least room that the parser is given, for bytes and for values.
const ROOM: usize = 4 << 10;
const ENDS_ROOM: usize = 64;

/// A place in the file, between rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Bytes before it.
    pub(crate) offset: u64,
    /// Its line, from 1.
    pub(crate) line: i64,
}

/// Some rows, one after the other in one text.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    /// The values of all rows, without quotes and delimiters, and room for more.
    text: Vec<u8>,
    /// How much of `text` is in use.
    used: usize,
    /// Where each value ends, counted from where its row begins in `text`, and room for more.
    ends: Vec<usize>,
    /// How much of `ends` is in use.
    ends_used: usize,
    rows: Vec<Row>,
    /// Where the row after the last one begins; `None` while nothing was read.
    pub(crate) end: Option<Place>,
    /// Whether these are the file's last rows.
    pub(crate) last: bool,
}

/// Where one row lies.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    /// Where it begins in the file.
    pub(crate) start: Place,
    /// How many bytes it has there, with its line break.
    pub(crate) length: u64,
    /// The line on which it ends.
    pub(crate) last_line: i64,
    /// Whether it is longer than the longest that is read; then it has no values.
    pub(crate) too_long: bool,
    text: usize,
    ends: usize,
    width: usize,
}

impl Rows {
    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// How many bytes their values have.
    pub(crate) const fn size(&self) -> usize {
        self.used
    }

    /// Makes sure that the parser can go on; doubles, so that it happens seldom.
    fn make_room(&mut self) {
        if self.text.len() < self.used + ROOM {
            self.text.resize((self.text.len() * 2).max(self.used + ROOM), 0);
        }
        if self.ends.len() < self.ends_used + ENDS_ROOM {
            self.ends.resize((self.ends.len() * 2).max(self.ends_used + ENDS_ROOM), 0);
        }
    }

    pub(crate) fn get(&self, n: usize) -> Option<&Row> {
        self.rows.get(n)
    }

    /// Where the row after row `n` begins.
    pub(crate) fn after(&self, n: usize) -> Option<Place> {
        self.rows.get(n + 1).map(|row| row.start).or(self.end)
    }

    /// How many values a row has.
    pub(crate) const fn width(row: &Row) -> usize {
        row.width
    }

    /// The bytes of all values of a row, one after the other.
    pub(crate) fn bytes(&self, row: &Row) -> &[u8] {
        let length =
            row.width.checked_sub(1).and_then(|last| self.ends.get(row.ends + last)).copied().unwrap_or(0);
        self.text.get(row.text..row.text + length).unwrap_or_default()
    }

    /// Each value's range in `bytes`.
    pub(crate) fn ends(&self, row: &Row) -> &[usize] {
        self.ends.get(row.ends..row.ends + row.width).unwrap_or_default()
    }
}

/// A row on its way.
#[derive(Debug)]
struct Begun {
    row: Row,
    /// What was written to `text` so far.
    written: usize,
}

/// Cuts a stream of bytes into rows.
#[derive(Debug)]
pub(crate) struct Splitter {
    reader: Reader,
    place: Place,
    /// Whether the last byte was a carriage return: a line feed after it belongs to the same line break.
    after_return: bool,
    begun: Option<Begun>,
}

impl Splitter {
    /// Begins between two rows, at `place`.
    pub(crate) const fn new(reader: Reader, place: Place) -> Self {
        Self { reader, place, after_return: false, begun: None }
    }

    /// Where the next byte lies.
    pub(crate) const fn place(&self) -> Place {
        self.place
    }

    /// Where the last row that was not completed begins; where the next byte lies when there is none.
    pub(crate) fn incomplete(&self) -> Place {
        self.begun.as_ref().map_or(self.place, |begun| begun.row.start)
    }

    /// Whether a line break may just have been cut in two, so that the next byte has to be seen to know where a row begins.
    pub(crate) const fn unsettled(&self) -> bool {
        self.after_return && self.begun.is_none()
    }

    /// Takes bytes until a row is complete, which is added to `rows`, or until there are no more. No bytes at all mean the
    /// file's end. Says how many were taken, and whether a row was completed.
    pub(crate) fn feed(&mut self, input: &[u8], rows: &mut Rows) -> (usize, bool) {
        let mut taken = 0;
        if self.begun.is_none() {
            taken = self.skip_breaks(input);
        }
        let at_end = input.is_empty();
        let rest = input.get(taken..).unwrap_or_default();
        if self.begun.is_none() && rest.is_empty() {
            // Blank lines only, or the end between two rows.
            return (taken, false);
        }
        let place = self.place;
        let begun = self.begun.get_or_insert_with(|| {
            let row = Row {
                start: place,
                length: 0,
                last_line: place.line,
                too_long: false,
                text: rows.used,
                ends: rows.ends_used,
                width: 0,
            };
            Begun { row, written: 0 }
        });
        let (read, complete) = parse(&mut self.reader, begun, rest, at_end, rows);
        self.pass(rest.get(..read).unwrap_or_default());
        if complete && let Some(Begun { mut row, .. }) = self.begun.take() {
            row.length = self.place.offset - row.start.offset;
            // The break that ends a row has moved the place to the next line already.
            row.last_line = if at_end { self.place.line } else { self.place.line - 1 }.max(row.start.line);
            rows.rows.push(row);
        }
        (taken + read, complete)
    }

    /// Passes line breaks between rows: the second half of one, and blank lines.
    pub(crate) fn skip_breaks(&mut self, input: &[u8]) -> usize {
        let breaks = input.iter().take_while(|byte| matches!(byte, b'\n' | b'\r')).count();
        self.pass(input.get(..breaks).unwrap_or_default());
        breaks
    }

    /// Counts bytes and lines. A line ends with `\n`, `\r\n` or, as old files have it, `\r`.
    fn pass(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match byte {
                b'\n' if self.after_return => {}
                b'\n' | b'\r' => self.place.line += 1,
                _ => {}
            }
            self.after_return = *byte == b'\r';
        }
        self.place.offset += bytes.len() as u64;
    }
}

/// Gives bytes to the parser until the row is complete or they are used up.
fn parse(
    reader: &mut Reader,
    begun: &mut Begun,
    input: &[u8],
    at_end: bool,
    rows: &mut Rows,
) -> (usize, bool) {
    let mut taken = 0;
    loop {
        let rest = input.get(taken..).unwrap_or_default();
        if rest.is_empty() && !at_end {
            return (taken, false);
        }
        rows.make_room();
        let (result, read, written, ended) = reader.read_record(
            rest,
            rows.text.get_mut(rows.used..).unwrap_or_default(),
            rows.ends.get_mut(rows.ends_used..).unwrap_or_default(),
        );
        taken += read;
        let row = &mut begun.row;
        begun.written += written;
        row.width += ended;
        if row.too_long || begun.written > LONGEST {
            // What does not end is read to its end, but not kept.
            (row.too_long, row.width, begun.written) = (true, 0, 0);
        }
        (rows.used, rows.ends_used) = (row.text + begun.written, row.ends + row.width);
        match result {
            ReadRecordResult::Record => return (taken, true),
            ReadRecordResult::End => return (taken, false),
            ReadRecordResult::InputEmpty if at_end => return (taken, false),
            ReadRecordResult::InputEmpty
            | ReadRecordResult::OutputFull
            | ReadRecordResult::OutputEndsFull => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dialect::Dialect;

    /// Cuts `file` into rows, fed in pieces of `piece` bytes.
    fn split(file: &[u8], piece: usize) -> (Rows, Place) {
        let dialect = Dialect { delimiter: b',', bom: false };
        let mut splitter = Splitter::new(dialect.reader(), Place { offset: 0, line: 1 });
        let mut rows = Rows::default();
        for mut piece in file.chunks(piece.max(1)) {
            while !piece.is_empty() {
                let (taken, _) = splitter.feed(piece, &mut rows);
                piece = &piece[taken..];
            }
        }
        splitter.feed(&[], &mut rows);
        (rows, splitter.place())
    }

    fn values(rows: &Rows, n: usize) -> Vec<String> {
        let row = rows.get(n).unwrap();
        let (bytes, mut from) = (rows.bytes(row), 0);
        rows.ends(row)
            .iter()
            .map(|end| {
                let value = String::from_utf8_lossy(&bytes[from..*end]).into_owned();
                from = *end;
                value
            })
            .collect()
    }

    #[test]
    fn rows_know_their_line_and_place() {
        let file = "a,b\r\n\"x\r\ny\",2\n\n\n3,\"4\"\"\"\r5,6\r\n\r\n杭州,";
        for piece in [1, 2, 3, 7, 1000] {
            let (rows, end) = split(file.as_bytes(), piece);
            let found: Vec<_> = (0..rows.len())
                .map(|n| {
                    let row = rows.get(n).unwrap();
                    (row.start.line, row.last_line, values(&rows, n).join("|"))
                })
                .collect();
            let expected =
                [(1, 1, "a|b"), (2, 3, "x\r\ny|2"), (6, 6, "3|4\""), (7, 7, "5|6"), (9, 9, "杭州|")];
            assert_eq!(
                found,
                expected.map(|(from, to, text)| (from, to, text.to_owned())),
                "in pieces of {piece}"
            );
            assert_eq!(end.offset, file.len() as u64);
            for n in 0..rows.len() {
                let row = rows.get(n).unwrap();
                let raw =
                    &file.as_bytes()[row.start.offset as usize..(row.start.offset + row.length) as usize];
                let (again, _) = split(raw, 1000);
                assert_eq!(values(&again, 0), values(&rows, n), "a row reads the same from its place");
            }
        }
    }

    #[test]
    fn a_quote_without_end_does_not_fill_the_memory() {
        let mut file = b"1,2\n3,\"oops\n".to_vec();
        file.extend(std::iter::repeat_n(*b"some,row,of,text\n", 400_000).flatten());
        let (rows, _) = split(&file, 1 << 16);
        assert_eq!(rows.len(), 2);
        let row = rows.get(1).unwrap();
        assert!(row.too_long && row.start.line == 2 && row.last_line == 400_003, "{row:?}");
        assert_eq!(Rows::width(row), 0);
        assert!(rows.text.capacity() < 3 * LONGEST, "{}", rows.text.capacity());
        // What closes again is over there.
        file.extend(b"\"\n5,6\n");
        let (rows, _) = split(&file, 1 << 16);
        assert_eq!((rows.len(), values(&rows, 2)), (3, vec!["5".into(), "6".into()]));
        assert_eq!(rows.get(2).unwrap().start.line, 400_004);
    }

    #[test]
    fn long_and_wide_rows_are_whole() {
        let file = format!("{}\n{}\n", "x".repeat(1 << 20), ["y"; 1000].join(","));
        let (rows, _) = split(file.as_bytes(), 1 << 12);
        assert_eq!(values(&rows, 0), ["x".repeat(1 << 20)]);
        assert_eq!(values(&rows, 1), vec!["y"; 1000]);
    }

    #[test]
    fn a_run_can_go_on_from_any_row() {
        let file = "a,b\r\n1,2\r\n\"3\n\",4\r\n5,6".as_bytes();
        let (all, _) = split(file, 1000);
        for n in 0..all.len() {
            let place = all.get(n).unwrap().start;
            let mut splitter = Splitter::new(Dialect { delimiter: b',', bom: false }.reader(), place);
            let mut rows = Rows::default();
            let mut rest = &file[place.offset as usize..];
            while !rest.is_empty() {
                let (taken, _) = splitter.feed(rest, &mut rows);
                rest = &rest[taken..];
            }
            splitter.feed(&[], &mut rows);
            assert_eq!(rows.len(), all.len() - n);
            let lines: Vec<_> = (0..rows.len()).map(|i| rows.get(i).unwrap().start.line).collect();
            let expected: Vec<_> = (n..all.len()).map(|i| all.get(i).unwrap().start.line).collect();
            assert_eq!(lines, expected);
        }
    }
}
