//! An open transaction on a pooled connection, which never reaches the next borrower open or aborted.
//!
//! sqlx 0.9.0 counts transactions on its own side: a `begin` that is cancelled, or whose statement fails after BEGIN, leaves
//! the server's transaction open behind its back, and the pool hands it on. Here the connection goes back to the pool only
//! after a COMMIT, a ROLLBACK or a statement of its own that was answered; otherwise it is closed.
use rapport_kernel::Error;
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, postgres::PgRow};

use crate::{
    error::database,
    pool::{self, Pool, Session},
};

/// An open transaction.
#[derive(Debug)]
pub struct OpenTx(Option<Session>);

impl OpenTx {
    /// Runs `begin` (BEGIN and what follows it, in one simple query) on a connection of the pool; gives their rows too.
    ///
    /// A connection that died in the pool, because the server was restarted say, shows it only now. Nothing has happened
    /// yet, so another one is taken, as often as the pool may hold such ones.
    pub(crate) async fn begin(pool: &Pool, begin: String) -> Result<(Self, Vec<PgRow>), sqlx::Error> {
        for _ in 0..pool.status().size {
            match Self::begin_once(pool, begin.clone()).await {
                Err(error) if is_dead(&error) => {}
                begun => return begun,
            }
        }
        Self::begin_once(pool, begin).await
    }

    async fn begin_once(pool: &Pool, begin: String) -> Result<(Self, Vec<PgRow>), sqlx::Error> {
        let mut tx = Self::unbegun(pool).await?;
        let rows = tx.try_conn()?.fetch_all(AssertSqlSafe(begin)).await?;
        Ok((tx, rows))
    }

    /// A connection for one statement that is a transaction of its own: `release` it when the answer is there.
    pub(crate) async fn unbegun(pool: &Pool) -> Result<Self, sqlx::Error> {
        Ok(Self(Some(pool::borrow(pool).await?)))
    }

    /// Hands back a connection on which no transaction is open.
    pub(crate) fn release(mut self) {
        drop(self.0.take());
    }

    fn try_conn(&mut self) -> Result<&mut PgConnection, sqlx::Error> {
        self.0.as_deref_mut().ok_or(sqlx::Error::PoolClosed)
    }

    /// The connection, for statements of this transaction.
    pub fn conn(&mut self) -> Result<&mut PgConnection, Error> {
        self.try_conn().map_err(database)
    }

    /// Commits.
    ///
    /// # Errors
    /// `Internal` when a statement of this transaction failed before: PostgreSQL would answer such a COMMIT with a
    /// ROLLBACK and no error, so a statement that fails then goes ahead of it.
    pub async fn commit(self) -> Result<(), Error> {
        self.end_with("SELECT; COMMIT".to_owned()).await
    }

    /// Commits after a last statement, in one round trip, and does not wait until it is on disk (PostgreSQL's asynchronous
    /// commit): when PostgreSQL dies within the next 0.6 s, all of it may be gone, but nothing that was committed before it.
    ///
    /// # Errors
    /// As `commit`.
    pub(crate) async fn commit_asynchronously(self, last: &str) -> Result<(), Error> {
        self.end_with(format!("{last}; SET LOCAL synchronous_commit = off; COMMIT")).await
    }

    async fn end_with(mut self, end: String) -> Result<(), Error> {
        // The connection stays in `self` until the answer is there: a caller who is cancelled now leaves it to `drop`.
        self.try_conn().map_err(database)?.execute(AssertSqlSafe(end)).await.map_err(database)?;
        self.release();
        Ok(())
    }
}

/// Whether the error says that the server has closed the connection.
fn is_dead(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("08") || matches!(&*code, "57P01" | "57P02" | "57P05")),
        _ => false,
    }
}

impl Drop for OpenTx {
    fn drop(&mut self) {
        let Some(mut conn) = self.0.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // No runtime, no time to ask for a ROLLBACK: the connection goes, and the transaction with it.
            drop(Session::take(conn));
            return;
        };
        runtime.spawn(async move {
            if conn.execute("ROLLBACK").await.is_err() {
                drop(Session::take(conn));
            }
        });
    }
}
