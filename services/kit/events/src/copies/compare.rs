//! Comparing copies with what their owner has, from the first record to the last, while both change.
//!
//! A page of the owner's records is written here unless newer ones are here by then. Afterwards the keys of the same range are
//! asked for once more: whatever is here, and is not there though it was read later, is gone. So what was deleted between the
//! owner's answer and our writing does not stay; what is deleted later, an event says.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::events::v1::{ReadSnapshotRequest, ReadSnapshotResponse, RecordKey, SnapshotRecord};
use rapport_store::{Reaction, database};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Copy, keep::Keeper, write::Row};
use crate::{
    consume::Sabotage,
    parked::{Blocked, begin_with_blocked},
    snapshot::{self, Key},
};

/// Records of a page.
const PAGE: i32 = 1_000;
/// Keys of a page's range, there and here: there may be more than records, since both go on.
const KEYS: i32 = 5_000;
/// How often it is looked whether something was moved or heard.
pub(super) const SOON: Duration = Duration::from_millis(50);
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// One record among those of all tenants: the tenant, and its id.
type Place = (Uuid, Uuid);

/// What is known here of a record: the last version that was heard, and whether that is a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Known {
    version: i64,
    gone: bool,
}

/// A comparison.
pub(super) struct Comparison<'a> {
    pub(super) keeper: &'a Keeper<'a>,
    pub(super) copy: &'a Copy,
    /// Whether all should be here already, so that what is not is a fault.
    pub(super) complete: bool,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Compared {
    /// Records that the owner has.
    pub(super) records: i64,
    /// Of these and of those here, how many were not the same, though everything had been heard.
    pub(super) differences: i64,
}

/// A page of the owner's records, and the range that it covers.
struct Page {
    records: BTreeMap<Place, Row>,
    after: Place,
    up_to: Place,
}

impl Comparison<'_> {
    /// Compares all of them.
    pub(super) async fn run(&self) -> Result<Compared, Error> {
        let (mut compared, mut after) = (Compared::default(), None);
        loop {
            let mut next = self.page(after.as_ref(), &mut compared).await?;
            while let Next::Again = next {
                // What differs was counted the first time.
                let once_more = Self { complete: false, ..*self };
                next = once_more.page(after.as_ref(), &mut compared).await?;
            }
            match next {
                Next::After(key) => after = Some(key),
                Next::Again | Next::End => return Ok(compared),
            }
        }
    }

    /// Compares what comes after a record.
    async fn page(&self, after: Option<&RecordKey>, compared: &mut Compared) -> Result<Next, Error> {
        let told = self.ask(after, None, false).await?;
        let mut page = self.read(after, &told)?;
        if self.complete {
            let (mut reaction, parked) = self.begin(page.records.keys()).await?;
            page.records.retain(|place, _| !parked.contains(place));
            let here = self.here(&mut reaction, &page).await?;
            drop(reaction);
            let late = page.records.iter().filter_map(|(place, row)| {
                let known = here.get(place).copied();
                known.is_none_or(|known| known.version < row.version).then_some((*place, known))
            });
            compared.differences += self.unheard(&page, late.collect()).await?;
        }
        compared.differences += self.write(&page).await?;

        let mut reaction = self.keeper.db.begin_reaction().await?;
        let here = self.here(&mut reaction, &page).await?;
        drop(reaction);
        let keys = self.ask(after, told.last.as_ref(), true).await?;
        let end = keys.last.as_ref().or(told.last.as_ref());
        let up_to = snapshot::last(end)?;
        let there = versions(&keys)?;
        let mut gone = BTreeMap::new();
        let mut ahead = BTreeMap::new();
        for (place, known) in here.into_iter().filter(|(place, known)| *place <= up_to && !known.gone) {
            match there.get(&place) {
                None if self.keeper.sabotage == Sabotage::NoSecondLook => {}
                None => drop(gone.insert(place, Some(known))),
                // An owner that was restored from a backup has older records than we heard of.
                Some(there) if *there < known.version => drop(ahead.insert(place, Some(known))),
                Some(_) => {}
            }
        }
        if self.complete {
            let (reaction, parked) = self.begin(gone.keys()).await?;
            drop(reaction);
            gone.retain(|place, _| !parked.contains(place));
        }
        compared.differences += self.unheard(&page, gone.clone()).await? + ahead.len() as i64;
        self.strike(&gone, false).await?;
        self.strike(&ahead, true).await?;
        if !ahead.is_empty() {
            return Ok(Next::Again);
        }
        compared.records += there.len() as i64;
        Ok(end.cloned().map_or(Next::End, Next::After))
    }

    async fn ask(
        &self,
        after: Option<&RecordKey>,
        up_to: Option<&RecordKey>,
        keys_only: bool,
    ) -> Result<ReadSnapshotResponse, Error> {
        let request = ReadSnapshotRequest {
            resource: self.copy.table.resource.to_owned(),
            after: after.cloned(),
            up_to: up_to.cloned(),
            page_size: if keys_only { KEYS } else { PAGE },
            keys_only,
        };
        self.keeper.producer.snapshot(request).await
    }

    fn read(&self, after: Option<&RecordKey>, told: &ReadSnapshotResponse) -> Result<Page, Error> {
        let mut records = BTreeMap::new();
        for record in &told.records {
            let place = place(record)?;
            let facts = (self.copy.facts)(&record.state)?;
            records.insert(place, Row { id: place.1, version: record.version, facts });
        }
        Ok(Page { records, after: snapshot::first(after)?, up_to: snapshot::last(told.last.as_ref())? })
    }

    /// Begins a transaction; says which of these records have an event that is parked: what they are here changes when somebody
    /// deals with that.
    async fn begin<'p>(
        &self,
        places: impl Iterator<Item = &'p Place>,
    ) -> Result<(Reaction, BTreeSet<Place>), Error> {
        let (keeper, places) = (self.keeper, places.copied().collect::<Vec<_>>());
        let (reaction, blocked): (_, Vec<Blocked>) =
            begin_with_blocked(keeper.db, keeper.producer_name, &places, None).await?;
        let ours = blocked.into_iter().filter(|(handler, ..)| handler == self.copy.table.name);
        Ok((reaction, ours.map(|(_, tenant, record)| (tenant, record)).collect()))
    }

    /// What is known here of a page's range.
    async fn here(&self, reaction: &mut Reaction, page: &Page) -> Result<BTreeMap<Place, Known>, Error> {
        let mut here = BTreeMap::new();
        let mut after = page.after;
        loop {
            let keys = snapshot::keys(reaction, self.copy.table.table, after, page.up_to, KEYS, true).await?;
            here.extend(keys.iter().map(|key| (key.at(), Known { version: key.version, gone: key.gone })));
            match keys.last().filter(|_| keys.len() as i64 == i64::from(KEYS)).copied() {
                Some(last) => after = Key::at(last),
                None => return Ok(here),
            }
        }
    }

    /// How many of these are still known here as they were when everything has been heard: no event has changed them, though
    /// one should have. None where copies are not complete yet, and none when the lanes do not get that far.
    async fn unheard(&self, page: &Page, mut late: BTreeMap<Place, Option<Known>>) -> Result<i64, Error> {
        if !self.complete || late.is_empty() {
            return Ok(0);
        }
        let begun = Instant::now();
        let Some(heads) = self.keeper.heads(begun + PATIENCE).await? else { return Ok(0) };
        let (parked, here) = loop {
            // In one transaction: what the database loses when it dies, it loses of all of them.
            let (mut reaction, parked) = self.begin(late.keys()).await?;
            if self.heard(&mut reaction, &heads).await? {
                break (parked, self.here(&mut reaction, page).await?);
            }
            drop(reaction);
            if begun.elapsed() > PATIENCE {
                return Ok(0);
            }
            sleep(SOON).await;
        };
        late.retain(|place, known| !parked.contains(place) && here.get(place) == known.as_ref());
        if !late.is_empty() {
            let some: Vec<_> = late.keys().take(10).collect();
            let (service, name) = (self.keeper.service, self.copy.table.name);
            tracing::warn!(
                service,
                name,
                differences = late.len(),
                ?some,
                "copies are not what their owner has"
            );
        }
        Ok(late.len() as i64)
    }

    /// Whether each partition was heard that far.
    async fn heard(&self, reaction: &mut Reaction, heads: &[i64]) -> Result<bool, Error> {
        let heard: Vec<i64> = sqlx::query_scalar("SELECT rapport.heard($1)")
            .bind(self.keeper.producer_name)
            .fetch_one(reaction.conn()?)
            .await
            .map_err(database)?;
        Ok(heard.iter().zip(heads).all(|(heard, head)| heard >= head))
    }

    /// Writes a page; says how many records had other facts here under the same version, where copies are complete.
    async fn write(&self, page: &Page) -> Result<i64, Error> {
        let table = self.copy.table;
        let rows: Vec<_> = page.records.iter().collect();
        let mut reaction = self.keeper.db.begin_reaction().await?;
        let here = if self.complete { self.here(&mut reaction, page).await? } else { BTreeMap::new() };
        let mut altered = 0;
        for of_tenant in rows.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
            let Some(((tenant, _), _)) = of_tenant.first() else { continue };
            let rows: Vec<Row> = of_tenant.iter().map(|(_, row)| (*row).clone()).collect();
            let mut tx = reaction.enter(Ctx::system(Id::new(*tenant), self.keeper.clock.clone())).await?;
            let ids = table.put(&mut tx, &rows, &table.differs()).await?;
            table.follow(&mut tx, &ids).await?;
            reaction.leave(tx).await?;
            altered += ids
                .into_iter()
                .filter(|id| {
                    let known = here.get(&(*tenant, *id)).map(|known| known.version);
                    known.is_some() && known == page.records.get(&(*tenant, *id)).map(|row| row.version)
                })
                .count() as i64;
        }
        reaction.commit().await?;
        Ok(altered)
    }

    /// Marks what is gone as deleted, or sets back what is ahead of its owner, unless it changed meanwhile.
    async fn strike(&self, places: &BTreeMap<Place, Option<Known>>, ahead: bool) -> Result<(), Error> {
        if places.is_empty() {
            return Ok(());
        }
        let table = self.copy.table;
        let places: Vec<_> =
            places.iter().filter_map(|(place, known)| known.map(|known| (*place, known.version))).collect();
        let mut reaction = self.keeper.db.begin_reaction().await?;
        for of_tenant in places.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
            let Some(((tenant, _), _)) = of_tenant.first() else { continue };
            let rows: Vec<_> = of_tenant.iter().map(|((_, id), version)| (*id, *version)).collect();
            let mut tx = reaction.enter(Ctx::system(Id::new(*tenant), self.keeper.clock.clone())).await?;
            if ahead {
                table.set_back(&mut tx, &rows).await?;
            } else {
                let gone = table.mark_gone(&mut tx, &rows, "t.version = g.version").await?;
                table.follow(&mut tx, &gone).await?;
            }
            reaction.leave(tx).await?;
        }
        reaction.commit().await
    }
}

/// Where to go on.
enum Next {
    /// With the same page.
    Again,
    /// After this record.
    After(RecordKey),
    /// Nowhere.
    End,
}

fn versions(told: &ReadSnapshotResponse) -> Result<BTreeMap<Place, i64>, Error> {
    told.records.iter().map(|record| Ok((place(record)?, record.version))).collect()
}

fn place(record: &SnapshotRecord) -> Result<Place, Error> {
    Ok((snapshot::uuid(&record.tenant_id)?, snapshot::uuid(&record.record_id)?))
}
