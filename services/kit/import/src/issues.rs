//! Why rows were refused: as rows of a table, and as pages.
use rapport_kernel::{Ctx, Error, Id, shorten};
use rapport_proto::imports::v1 as pb;
use rapport_store::{Side, TenantTx, database};
use serde::Serialize;
use sqlx::FromRow;
use tonic::Response;
use uuid::Uuid;

use crate::{Import, Imports, importable::Problem, rows::Row};

/// The longest value and the longest text of a problem that an issue shows, in characters.
const MAX_VALUE: usize = 100;
const MAX_PROBLEM: usize = 1_000;

pub(crate) const ISSUES: Side = Side {
    table: "import_issues",
    columns: "import_id, line, position, start, length, file_column, field, value, problem",
    key: "import_id, line, position",
    replaces: false,
};

/// One thing that is wrong with one row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, FromRow)]
pub(crate) struct Issue {
    pub(crate) import_id: Uuid,
    /// The line on which the row begins.
    pub(crate) line: i64,
    /// A row may have several.
    pub(crate) position: i16,
    /// Where the row lies in the file.
    pub(crate) start: i64,
    pub(crate) length: i64,
    pub(crate) file_column: String,
    pub(crate) field: String,
    pub(crate) value: String,
    pub(crate) problem: String,
}

impl Issue {
    /// How many problems of one row are listed.
    pub(crate) const MOST_OF_A_ROW: usize = 50;

    pub(crate) fn new(row: &Row, position: usize, column: &str, value: &str, problem: &Problem) -> Self {
        Self {
            import_id: Uuid::nil(),
            line: row.start.line,
            position: i16::try_from(position).unwrap_or(i16::MAX),
            start: i64::try_from(row.start.offset).unwrap_or(i64::MAX),
            length: i64::try_from(row.length).unwrap_or(i64::MAX),
            file_column: column.to_owned(),
            field: problem.target.clone(),
            value: kept(value, MAX_VALUE),
            problem: kept(&problem.problem, MAX_PROBLEM),
        }
    }

    /// Collects the issues of an import.
    pub(crate) fn collect(tx: &mut TenantTx, import: Uuid, issues: Vec<Self>) -> Result<(), Error> {
        for issue in issues {
            tx.side_insert(ISSUES, &Self { import_id: import, ..issue })?;
        }
        Ok(())
    }

    /// The issues after the one at (`line`, `position`), in the file's order.
    pub(crate) async fn after(
        tx: &mut TenantTx,
        import: Uuid,
        (line, position): (i64, i16),
        most: i64,
    ) -> Result<Vec<Self>, Error> {
        let tenant = tx.tenant();
        sqlx::query_as(
            "SELECT import_id, line, position, start, length, file_column, field, value, problem FROM import_issues
             WHERE tenant_id = $1 AND import_id = $2 AND (line, position) > ($3, $4)
             ORDER BY line, position LIMIT $5",
        )
        .bind(tenant)
        .bind(import)
        .bind(line)
        .bind(position)
        .bind(most)
        .fetch_all(tx.conn().await?)
        .await
        .map_err(database)
    }

    /// Removes all issues of an import: those of the last dry run.
    pub(crate) async fn forget(tx: &mut TenantTx, import: Uuid) -> Result<(), Error> {
        let tenant = tx.tenant();
        sqlx::query("DELETE FROM import_issues WHERE tenant_id = $1 AND import_id = $2")
            .bind(tenant)
            .bind(import)
            .execute(tx.conn().await?)
            .await
            .map_err(database)?;
        Ok(())
    }
}

impl From<Issue> for pb::ImportIssue {
    fn from(issue: Issue) -> Self {
        Self {
            line: issue.line,
            column: issue.file_column,
            field: issue.field,
            value: issue.value,
            problem: issue.problem,
        }
    }
}

impl Imports {
    /// Lists refused rows, in the file's order.
    ///
    /// # Errors
    /// `NotFound` when there is no such import; `Invalid` for a page token of another list.
    pub async fn list_issues(
        &self,
        ctx: &Ctx,
        request: &pb::ListImportIssuesRequest,
    ) -> Result<Response<pb::ListImportIssuesResponse>, Error> {
        let id = Id::<Import>::parse("id", &request.id)?.uuid();
        let size = match request.page_size {
            ..0 => return Err(Error::invalid("page_size", "must not be negative")),
            0 => 100,
            size => size.min(1_000),
        };
        let after = place(id, &request.page_token)?;
        let mut tx = self.db().begin(ctx).await?;
        tx.get::<Import>(id).await?;
        let mut issues = Issue::after(&mut tx, id, after, i64::from(size) + 1).await?;
        tx.finish().await?;
        let size = usize::try_from(size).unwrap_or_default();
        let more = issues.len() > size;
        issues.truncate(size);
        let next_page_token = match issues.last() {
            Some(last) if more => token(id, last),
            _ => String::new(),
        };
        let issues = issues.into_iter().map(Into::into).collect();
        Ok(Response::new(pb::ListImportIssuesResponse { issues, next_page_token }))
    }
}

/// At most `most` characters of a text, as the database takes it; line breaks stay, since they belong to a value.
pub(crate) fn kept(text: &str, most: usize) -> String {
    shorten(&text.replace('\0', "\u{fffd}"), most)
}

/// Where the page after this issue begins.
fn token(import: Uuid, last: &Issue) -> String {
    format!("{}-{}-{}", import.simple(), last.line, last.position)
}

fn place(import: Uuid, token: &str) -> Result<(i64, i16), Error> {
    if token.is_empty() {
        return Ok((0, -1));
    }
    let mut parts = token.split('-');
    let own = parts.next() == Some(import.simple().to_string().as_str());
    let place =
        parts.next().and_then(|line| line.parse().ok()).zip(parts.next().and_then(|n| n.parse().ok()));
    place
        .filter(|_| own && parts.next().is_none())
        .ok_or_else(|| Error::invalid("page_token", "does not belong to this list; begin again without it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_its_import() {
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let last = Issue {
            import_id: one,
            line: 17,
            position: 2,
            start: 0,
            length: 0,
            file_column: String::new(),
            field: String::new(),
            value: String::new(),
            problem: String::new(),
        };
        assert_eq!(place(one, &token(one, &last)).unwrap(), (17, 2));
        assert!(place(other, &token(one, &last)).is_err());
        for wrong in ["x", "--", &format!("{}-1", one.simple()), &format!("{}-1-2-3", one.simple())] {
            assert!(place(one, wrong).is_err(), "{wrong}");
        }
    }
}
