//! Making copies complete, and comparing them with what their owner has.
use std::time::Duration;

use rapport_kernel::{Clock, Error};
use rapport_store::{Db, database};
use tokio::time::{Instant, sleep};

use super::{
    Copy,
    compare::{Compared, Comparison, SOON},
};
use crate::{
    consume::{Producer, Sabotage},
    lead::cause,
};

/// How often it is looked whether copies are to be compared.
const LOOK: Duration = Duration::from_secs(5);
/// Seconds between two comparisons.
const EVERY: i64 = 86_400;

/// Keeps a service's copies of another one's records complete.
#[derive(Clone, Copy)]
pub(crate) struct Keeper<'a> {
    pub(crate) service: &'a str,
    pub(crate) db: &'a Db,
    pub(crate) clock: &'a Clock,
    pub(crate) producer: &'a Producer,
    pub(crate) producer_name: &'a str,
    pub(crate) copies: &'a [Copy],
    /// For tests: a promise to break.
    pub(crate) sabotage: Sabotage,
}

impl Keeper<'_> {
    /// Compares what is new at once, and everything once a day. What differs is made what its owner has.
    pub(crate) async fn keep(self) -> Error {
        loop {
            for copy in self.copies {
                if let Err(error) = self.compare_if_due(copy).await {
                    let (service, name) = (self.service, copy.table.name);
                    tracing::warn!(service, name, error = cause(&error), "copies could not be compared");
                }
            }
            sleep(LOOK).await;
        }
    }

    async fn compare_if_due(&self, copy: &Copy) -> Result<(), Error> {
        let mut tx = self.db.platform().await?;
        let compared: Option<rapport_kernel::Instant> = sqlx::query_scalar(
            "SELECT compare_time FROM platform.copies WHERE producer = $1 AND name = $2 AND shape = $3",
        )
        .bind(self.producer_name)
        .bind(copy.table.name)
        .bind(copy.shape())
        .fetch_optional(tx.conn()?)
        .await
        .map_err(database)?;
        tx.commit().await?;
        // One that was compared in the future, by a clock that was wrong, is due too.
        let now = self.clock.now();
        if compared.is_some_and(|last| (last..last.plus_seconds(EVERY)).contains(&now)) {
            return Ok(());
        }
        let comparison = Comparison { keeper: self, copy, complete: compared.is_some() };
        let compared = comparison.run().await?;
        self.note(copy, compared).await
    }

    async fn note(&self, copy: &Copy, compared: Compared) -> Result<(), Error> {
        let Compared { records, differences } = compared;
        tracing::info!(
            service = self.service,
            name = copy.table.name,
            records,
            differences,
            "copies are complete"
        );
        let mut tx = self.db.platform().await?;
        sqlx::query(
            "INSERT INTO platform.copies AS c (producer, name, shape, records, differences, last_differences, compare_time)
             VALUES ($1, $2, $3, $4, $5, $5, $6)
             ON CONFLICT (producer, name) DO UPDATE SET shape = excluded.shape, records = excluded.records,
               differences = c.differences + excluded.differences, last_differences = excluded.last_differences,
               compare_time = excluded.compare_time",
        )
        .bind(self.producer_name)
        .bind(copy.table.name)
        .bind(copy.shape())
        .bind(records)
        .bind(differences)
        .bind(self.clock.now())
        .execute(tx.conn()?)
        .await
        .map_err(database)?;
        tx.commit().await
    }

    /// Where the producer's log stands once everything is in it that has happened there by now; `None` when that is not so by
    /// `until`.
    pub(super) async fn heads(&self, until: Instant) -> Result<Option<Vec<i64>>, Error> {
        let mut heads = self.producer.heads().await?;
        let last_waiting = heads.last_waiting;
        while heads.first_waiting > 0 && heads.first_waiting <= last_waiting {
            if Instant::now() > until {
                return Ok(None);
            }
            sleep(SOON).await;
            heads = self.producer.heads().await?;
        }
        Ok(Some(heads.part_numbers))
    }
}

impl Copy {
    /// What is copied where: when it changes, all of it is copied anew.
    fn shape(&self) -> String {
        let table = &self.table;
        format!("{} to {} ({})", table.resource, table.table, table.columns)
    }
}
