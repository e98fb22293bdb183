//! The refused rows as a CSV: what is wrong stands before each row, so that the row itself stays as it was.
//!
//! The added column comes first because rows may have too few or too many values: behind them it would fall into another
//! column, or make a row look whole that is not. It is ignored when the file is sent again.
use std::collections::VecDeque;

use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt as _};
use rapport_blobs::Key;
use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::{google::api::HttpBody, imports::v1 as pb};
use tonic::Status;

use crate::{
    Import, Imports,
    dialect::BOM,
    feed::AREA,
    import::FileInfo,
    issues::Issue,
    rows::{Place, Rows, Splitter},
};

/// The column that says what is wrong.
pub(crate) const PROBLEM_COLUMN: &str = "rapport_problem";

/// Issues read from the database at once.
const PAGE: i64 = 1_000;
/// A piece of the answer has about this many bytes, and so much of the file is read at once.
const PIECE: usize = 256 << 10;

/// A piece of a download.
pub type Pieces = BoxStream<'static, Result<HttpBody, Status>>;

impl Imports {
    /// The refused rows as a CSV with the file's own columns and one before them that says what is wrong.
    ///
    /// # Errors
    /// `NotFound`; `Rule` when there is no file yet. What fails later ends the stream.
    pub async fn download_issues(
        &self,
        ctx: &Ctx,
        request: &pb::DownloadImportIssuesRequest,
    ) -> Result<Pieces, Error> {
        let id = Id::<Import>::parse("id", &request.id)?.uuid();
        let mut tx = self.db().begin(ctx).await?;
        let import = tx.get::<Import>(id).await?;
        tx.finish().await?;
        let file = import.file.ok_or_else(|| Error::rule("IMPORT_WAITING", "the import has no file yet"))?;
        let download = Download {
            imports: self.clone(),
            // A download is a reading, whatever the caller's request was: it must not be answered from memory.
            ctx: Ctx { request_id: None, ..ctx.clone() },
            import: id,
            own: file.columns.iter().position(|column| column.name == PROBLEM_COLUMN),
            file,
            after: Some((0, -1)),
            issues: VecDeque::new(),
            window: (0, Bytes::new()),
            begun: false,
        };
        let pieces = stream::try_unfold(download, |mut download| async move {
            match download.piece().await {
                Ok(Some(data)) => {
                    let content_type = "text/csv; charset=utf-8".to_owned();
                    Ok(Some((HttpBody { content_type, data, extensions: Vec::new() }, download)))
                }
                Ok(None) => Ok(None),
                Err(error) => Err(Status::from(error)),
            }
        });
        Ok(pieces.boxed())
    }
}

/// A download on its way.
struct Download {
    imports: Imports,
    ctx: Ctx,
    import: uuid::Uuid,
    file: FileInfo,
    /// Where the file has the added column itself, being a mended download.
    own: Option<usize>,
    /// The last issue that was read; `None` when there are no more.
    after: Option<(i64, i16)>,
    issues: VecDeque<Issue>,
    /// A part of the file, with where it lies.
    window: (u64, Bytes),
    begun: bool,
}

impl Download {
    /// The next piece; `None` at the end.
    async fn piece(&mut self) -> Result<Option<Bytes>, Error> {
        let mut text = Vec::new();
        if !self.begun {
            self.begun = true;
            if self.file.dialect.bom {
                text.extend_from_slice(BOM);
            }
            let names: Vec<_> = self.file.columns.iter().map(|column| column.name.as_bytes()).collect();
            self.write(&mut text, PROBLEM_COLUMN.as_bytes(), &names)?;
        }
        while text.len() < PIECE {
            let Some(issues) = self.next_row().await? else { break };
            let Some(first) = issues.first() else { break };
            let row = self.row(first).await?;
            let cells = cells(&row, &self.file);
            let cells: Vec<_> = cells.iter().map(Vec::as_slice).collect();
            self.write(&mut text, problem(&issues).as_bytes(), &cells)?;
        }
        Ok((!text.is_empty()).then(|| text.into()))
    }

    /// The issues of the next row.
    async fn next_row(&mut self) -> Result<Option<Vec<Issue>>, Error> {
        let mut row = Vec::<Issue>::new();
        loop {
            while let Some(issue) = self.issues.front() {
                if row.first().is_some_and(|first| first.line != issue.line) {
                    return Ok(Some(row));
                }
                row.extend(self.issues.pop_front());
            }
            let Some(after) = self.after else { return Ok((!row.is_empty()).then_some(row)) };
            let mut tx = self.imports.db().begin(&self.ctx).await?;
            self.issues = Issue::after(&mut tx, self.import, after, PAGE).await?.into();
            tx.finish().await?;
            self.after = self.issues.back().map(|last| (last.line, last.position));
        }
    }

    /// The bytes of a row; none when it is too long to be sent again.
    async fn row(&mut self, issue: &Issue) -> Result<Bytes, Error> {
        let (Ok(start), Ok(length)) = (u64::try_from(issue.start), usize::try_from(issue.length)) else {
            return Ok(Bytes::new());
        };
        if length > crate::rows::LONGEST {
            return Ok(Bytes::new());
        }
        let end = start + length as u64;
        let (from, window) = &self.window;
        if start < *from || end > from + window.len() as u64 {
            let key = Key::new(self.ctx.tenant, AREA, self.file.id);
            let until = end.max(start + PIECE as u64).min(self.file.size);
            self.window = (start, self.imports.blobs().read(key, start..until).await?);
        }
        let (from, window) = &self.window;
        let at = usize::try_from(start - from).unwrap_or(usize::MAX);
        Ok(window.slice(at.min(window.len())..at.saturating_add(length).min(window.len())))
    }

    /// Writes a row: what is wrong, then its values, without those of a column that says what was wrong before.
    fn write(&self, text: &mut Vec<u8>, problem: &[u8], cells: &[&[u8]]) -> Result<(), Error> {
        let mut writer =
            csv::WriterBuilder::new().delimiter(self.file.dialect.delimiter).flexible(true).from_writer(text);
        let cells = cells.iter().enumerate().filter(|(n, _)| Some(*n) != self.own).map(|(_, cell)| *cell);
        writer.write_record(std::iter::once(problem).chain(cells)).map_err(Error::internal)?;
        writer.flush().map_err(Error::internal)
    }
}

/// The values of a row, as they stand in the file.
fn cells(row: &[u8], file: &FileInfo) -> Vec<Vec<u8>> {
    let mut splitter = Splitter::new(file.dialect.reader(), Place { offset: 0, line: 1 });
    let mut rows = Rows::default();
    splitter.feed(row, &mut rows);
    if rows.len() == 0 {
        splitter.feed(&[], &mut rows);
    }
    let Some(row) = rows.get(0) else { return Vec::new() };
    let (bytes, mut from) = (rows.bytes(row), 0);
    let cells = rows.ends(row).iter().map(|end| {
        let cell = bytes.get(from..*end).unwrap_or_default().to_vec();
        from = *end;
        cell
    });
    cells.collect()
}

/// What is wrong with a row, in one text. It never begins with a character that spreadsheets take for a formula.
fn problem(issues: &[Issue]) -> String {
    let texts: Vec<_> = issues
        .iter()
        .map(|issue| match (issue.file_column.as_str(), issue.field.as_str()) {
            ("", "") => issue.problem.clone(),
            ("", name) | (name, _) => format!("{name}: {}", issue.problem),
        })
        .collect();
    let text = texts.join("; ");
    if text.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{text}") } else { text }
}
