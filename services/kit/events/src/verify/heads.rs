//! Where the log stands, and where its chains end.
use std::collections::BTreeMap;

use rapport_kernel::{Date, Error};
use rapport_store::database;
use sqlx::PgConnection;

use super::{
    Verified, Walk,
    walk::{Chains, chains},
};

/// Where the log stands.
#[derive(Clone, Debug)]
pub(crate) struct Heads {
    /// The last number.
    pub(crate) number: i64,
    /// The day under which it is filed.
    pub(crate) day: Date,
    parts: Vec<i64>,
    chains: Chains,
}

impl Heads {
    /// As a session sees it.
    pub(crate) async fn read(session: &mut PgConnection) -> Result<Self, Error> {
        let (number, day, parts) = sqlx::query_as(
            "SELECT number, coalesce(nullif(day, '-infinity'), 'epoch'), part_numbers FROM platform.log_head",
        )
        .fetch_one(&mut *session)
        .await
        .map_err(database)?;
        let ends: Vec<(String, Vec<Vec<u8>>)> =
            sqlx::query_as("SELECT retention, links FROM platform.log_chains")
                .fetch_all(session)
                .await
                .map_err(database)?;
        Ok(Self { number, day, parts, chains: chains(ends) })
    }

    /// Whether the chains end where they should: else their last lines are gone, or all of them was written anew.
    pub(crate) fn compare(&self, walk: &Walk, verified: &mut Verified) {
        for ((retention, part), link) in &self.chains {
            if *link != walk.link(retention, *part) {
                verified.fault(format!(
                    "the last lines of partition {part}, kept `{retention}`, are missing or others"
                ));
            }
        }
    }

    /// A walk that goes on from here.
    pub(crate) fn walk(self) -> Walk {
        let parts: BTreeMap<i16, i64> = (0..).zip(self.parts).collect();
        Walk::from(self.chains, self.number, parts)
    }
}
