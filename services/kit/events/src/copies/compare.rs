//! Comparing copies with what their owner has, from the first record to the last, while both change.
//!
//! A page of the owner's records is written here unless newer ones are here by then. Afterwards the keys of the same range are
//! asked for once more: whatever is here, and is not there though it was read later, is gone. So what was deleted between the
//! owner's answer and our writing does not stay; what is deleted later, an event says.
use std::collections::{BTreeMap, BTreeSet};

use rapport_kernel::{Ctx, Error, Id};
use rapport_proto::events::v1::{ReadSnapshotRequest, ReadSnapshotResponse, RecordKey, SnapshotRecord};
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

/// One record among those of all tenants: the tenant, and its id.
type Place = (Uuid, Uuid);

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
        let mut before = BTreeMap::new();
        if self.complete {
            self.leave_out_parked(&mut page.records).await?;
            before = self.here(&page).await?;
        }
        let late = page.records.iter().filter_map(|(place, row)| {
            let here = before.get(place).copied();
            here.is_none_or(|version| version < row.version).then_some((*place, here))
        });
        compared.differences += self.unheard(&page, late.collect()).await?;
        let changed = self.write(&page).await?;
        // What changed under the same version had other facts here.
        let altered = |place: &&Place| before.get(place) == page.records.get(place).map(|row| &row.version);
        compared.differences += changed.iter().filter(altered).count() as i64;

        let here = self.here(&page).await?;
        let keys = self.ask(after, told.last.as_ref(), true).await?;
        let end = keys.last.as_ref().or(told.last.as_ref());
        let up_to = snapshot::last(end)?;
        let there = versions(&keys)?;
        let here = here.into_iter().filter(|(place, _)| *place <= up_to);
        let mut gone = BTreeMap::new();
        let mut ahead = BTreeMap::new();
        for (place, version) in here {
            match there.get(&place) {
                None if self.keeper.sabotage == Sabotage::NoSecondLook => {}
                None => drop(gone.insert(place, Some(version))),
                // An owner that was restored from a backup has older records than we heard of.
                Some(there) if *there < version => drop(ahead.insert(place, Some(version))),
                Some(_) => {}
            }
        }
        if self.complete {
            self.leave_out_parked(&mut gone).await?;
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

    /// What is here of a page's range, with its versions.
    async fn here(&self, page: &Page) -> Result<BTreeMap<Place, i64>, Error> {
        let mut here = BTreeMap::new();
        let mut after = page.after;
        let mut reaction = self.keeper.db.begin_reaction().await?;
        loop {
            let keys = snapshot::keys(&mut reaction, self.copy.table.table, after, page.up_to, KEYS).await?;
            here.extend(keys.iter().map(|key| (key.at(), key.version)));
            match keys.last().filter(|_| keys.len() as i64 == i64::from(KEYS)).copied() {
                Some(last) => after = Key::at(last),
                None => return Ok(here),
            }
        }
    }

    /// Leaves out records with an event that is parked: what they are here changes when somebody deals with that.
    async fn leave_out_parked<T>(&self, records: &mut BTreeMap<Place, T>) -> Result<(), Error> {
        if records.is_empty() {
            return Ok(());
        }
        let (keeper, places) = (self.keeper, records.keys().copied().collect::<Vec<_>>());
        let (reaction, blocked): (_, Vec<Blocked>) =
            begin_with_blocked(keeper.db, keeper.producer_name, &places).await?;
        reaction.commit().await?;
        for (handler, tenant, record) in blocked {
            if handler == self.copy.table.name {
                records.remove(&(tenant, record));
            }
        }
        Ok(())
    }

    /// How many of these are still here as they were when everything has been heard: no event has changed them, though one
    /// should have. None where copies are not complete yet, and none when the lanes do not get that far.
    async fn unheard(&self, page: &Page, mut late: BTreeMap<Place, Option<i64>>) -> Result<i64, Error> {
        if !self.complete || late.is_empty() || !self.keeper.caught_up().await? {
            return Ok(0);
        }
        let here = self.here(page).await?;
        late.retain(|place, version| here.get(place).copied() == *version);
        self.leave_out_parked(&mut late).await?;
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

    /// Writes a page; says what changed.
    async fn write(&self, page: &Page) -> Result<BTreeSet<Place>, Error> {
        let table = self.copy.table;
        let rows: Vec<_> = page.records.iter().collect();
        let mut changed = BTreeSet::new();
        let mut reaction = self.keeper.db.begin_reaction().await?;
        for of_tenant in rows.chunk_by(|((a, _), _), ((b, _), _)| a == b) {
            let Some(((tenant, _), _)) = of_tenant.first() else { continue };
            let rows: Vec<Row> = of_tenant.iter().map(|(_, row)| (*row).clone()).collect();
            let mut tx = reaction.enter(Ctx::system(Id::new(*tenant), self.keeper.clock.clone())).await?;
            let ids = table.put(&mut tx, &rows, &table.differs()).await?;
            table.follow(&mut tx, &ids).await?;
            changed.extend(ids.into_iter().map(|id| (*tenant, id)));
            reaction.leave(tx).await?;
        }
        reaction.commit().await?;
        Ok(changed)
    }

    /// Marks what is gone as deleted, or sets back what is ahead of its owner, unless it changed meanwhile.
    async fn strike(&self, places: &BTreeMap<Place, Option<i64>>, ahead: bool) -> Result<(), Error> {
        if places.is_empty() {
            return Ok(());
        }
        let table = self.copy.table;
        let places: Vec<_> =
            places.iter().filter_map(|(place, version)| version.map(|version| (*place, version))).collect();
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
