//! Along the log, line by line: numbers without gaps, digests, links.
use std::collections::{BTreeMap, BTreeSet};

use futures::TryStreamExt as _;
use rapport_kernel::{Date, Error};
use rapport_store::{PARTS, database};
use sha2::{Digest as _, Sha256};
use sqlx::{AssertSqlSafe, FromRow, PgConnection};

use super::Verified;
use crate::{
    digest::{self, Digest},
    log::{self, Line},
};

/// The last link of each chain.
pub(super) type Chains = BTreeMap<(String, i16), Digest>;

/// A line with what proves it.
#[derive(FromRow)]
struct Proven {
    #[sqlx(flatten)]
    line: Line,
    retention: String,
    payload_digest: Vec<u8>,
    link: Vec<u8>,
}

/// How far it was gone, and what must come next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Walk {
    chains: Chains,
    number: i64,
    parts: BTreeMap<i16, i64>,
    /// Whether the next line must have the next numbers.
    without_gap: bool,
    /// Of days up to this one only the chains are whole, since some class of them was dropped.
    complete_after: Option<Date>,
}

impl Walk {
    pub(super) fn from(chains: Chains, number: i64, parts: BTreeMap<i16, i64>) -> Self {
        Self { chains, number, parts, without_gap: true, complete_after: None }
    }

    /// From the first line that is kept.
    pub(crate) async fn from_the_beginning(session: &mut PgConnection) -> Result<Self, Error> {
        let dropped: Vec<(String, Date, Vec<Vec<u8>>)> =
            sqlx::query_as("SELECT retention, day, links FROM platform.log_dropped")
                .fetch_all(session)
                .await
                .map_err(database)?;
        let complete_after = dropped.iter().map(|(_, day, _)| *day).max();
        let chains = chains(dropped.into_iter().map(|(retention, _, links)| (retention, links)));
        Ok(Self { chains, complete_after, ..Self::default() })
    }

    /// From a number on, whose lines before are taken as they are.
    pub(crate) async fn from_number(session: &mut PgConnection, number: i64) -> Result<Self, Error> {
        let mut walk = Self::from_the_beginning(session).await?;
        let last: Vec<(String, i16, i64, Vec<u8>)> = sqlx::query_as(
            "SELECT c.retention, p::smallint, last.part_number, last.link
             FROM platform.log_chains c, generate_series(0, 31) AS p, LATERAL (
               SELECT part_number, link FROM platform.event_log e
               WHERE e.retention = c.retention AND e.part = p AND e.number <= $1 ORDER BY e.part_number DESC LIMIT 1) AS last",
        )
        .bind(number)
        .fetch_all(session)
        .await
        .map_err(database)?;
        for (retention, part, part_number, link) in last {
            let highest = walk.parts.entry(part).or_default();
            *highest = (*highest).max(part_number);
            walk.chains.insert((retention, part), link.try_into().unwrap_or_default());
        }
        (walk.number, walk.without_gap) = (number, true);
        Ok(walk)
    }

    /// The last link of a chain.
    pub(super) fn link(&self, retention: &str, part: i16) -> Digest {
        self.chains.get(&(retention.to_owned(), part)).copied().unwrap_or_default()
    }

    /// What stands for all chains of a retention class: SHA-256 of their last links, partition by partition.
    pub(crate) fn root(&self, retention: &str) -> Digest {
        let mut hash = Sha256::new();
        for part in 0..i16::from(PARTS) {
            hash.update(self.link(retention, part));
        }
        hash.finalize().into()
    }

    /// What stands for all chains, by retention class.
    pub(crate) fn roots(&self) -> BTreeMap<String, Digest> {
        let classes: BTreeSet<_> = self.chains.keys().map(|(retention, _)| retention).collect();
        classes.into_iter().map(|retention| (retention.clone(), self.root(retention))).collect()
    }

    /// Goes on, for as many lines at most. Before each line `look` gets its number.
    pub(crate) async fn go_on(
        &mut self,
        session: &mut PgConnection,
        most: i64,
        verified: &mut Verified,
        mut look: impl FnMut(&Self, i64, &mut Verified),
    ) -> Result<(), Error> {
        let (after, mut left) = (self.number, most);
        let days: Vec<Date> = sqlx::query_scalar(
            "SELECT day FROM platform.log_days
             WHERE day >= (SELECT coalesce(max(day), '-infinity') FROM platform.log_days WHERE number_before <= $1) ORDER BY day",
        )
        .bind(after)
        .fetch_all(&mut *session)
        .await
        .map_err(database)?;
        for day in days {
            if left == 0 {
                break;
            }
            let sql = AssertSqlSafe(format!(
                "SELECT {}, retention, payload_digest, link FROM platform.event_log
                 WHERE day = $1 AND number > $2 ORDER BY number LIMIT $3",
                log::COLUMNS
            ));
            let lines = sqlx::query_as::<_, Proven>(sql).persistent(false).bind(day).bind(after).bind(left);
            let mut lines = lines.fetch(&mut *session);
            while let Some(proven) = lines.try_next().await.map_err(database)? {
                look(self, proven.line.number, verified);
                self.pass(proven, day, verified);
                left -= 1;
            }
        }
        Ok(())
    }

    fn pass(&mut self, proven: Proven, day: Date, verified: &mut Verified) {
        let Proven { line, retention, payload_digest, link } = proven;
        verified.lines += 1;
        if !self.without_gap {
            self.parts.clear();
        } else if line.number != self.number + 1 {
            verified.fault(format!("number {} is missing before {}", self.number + 1, line.number));
        }
        let last = self.parts.insert(line.part, line.part_number).unwrap_or(line.part_number - 1);
        if line.part_number != last + 1 {
            verified.fault(format!(
                "in partition {} number {} is missing before {}",
                line.part,
                last + 1,
                line.number
            ));
        }
        self.number = line.number;
        self.without_gap = self.complete_after.is_none_or(|dropped| day > dropped);
        match &line.payload {
            None => verified.erased += 1,
            Some(payload) if Sha256::digest(payload).as_slice() != payload_digest => {
                verified.fault(format!("the payload of number {} is not what it was", line.number));
            }
            Some(_) => {}
        }
        let expected = digest::link(
            self.link(&retention, line.part),
            line.number,
            line.part_number,
            line.tenant_number,
            digest::line(&line, &payload_digest),
        );
        if expected.as_slice() != link {
            verified.fault(format!(
                "number {} is not what it was, or what was before it in its chain",
                line.number
            ));
        }
        // On from what is there, so that one change is told once.
        self.chains.insert((retention, line.part), link.try_into().unwrap_or(expected));
    }
}

/// Chains by class and partition.
pub(super) fn chains(links: impl IntoIterator<Item = (String, Vec<Vec<u8>>)>) -> Chains {
    let links = links.into_iter().flat_map(|(retention, links)| {
        let link = move |(part, link): (i16, Vec<u8>)| {
            ((retention.clone(), part), link.try_into().unwrap_or_default())
        };
        (0..).zip(links).map(link)
    });
    links.collect()
}
