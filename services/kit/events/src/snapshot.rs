//! Records as they are now, for peers who keep copies of them: what a copy begins with, and is compared with.
use std::{collections::BTreeMap, fmt, sync::Arc};

use futures::future::BoxFuture;
use prost::Message;
use rapport_kernel::{Clock, Ctx, Error, Id};
use rapport_proto::events::v1 as pb;
use rapport_store::{Db, Reaction, Resource, TenantTx, database};
use sqlx::FromRow;
use uuid::Uuid;

/// Records of a page when the caller does not say.
const PAGE: i32 = 500;
/// Records that are read at once.
const AT_ONCE: usize = 100;
/// A page that has come to so many bytes ends.
const BYTES: usize = 1 << 20;

type States<'a> = BoxFuture<'a, Result<Vec<pb::SnapshotRecord>, Error>>;
type Read = dyn for<'a> Fn(&'a mut TenantTx, &'a [Uuid]) -> States<'a> + Send + Sync;

/// What a service shows its peers.
#[derive(Clone, Default)]
pub struct Snapshots {
    by_resource: BTreeMap<&'static str, Shown>,
}

#[derive(Clone)]
struct Shown {
    table: &'static str,
    read: Arc<Read>,
}

/// Where a record stands among those of all tenants, its version, and whether that is a deletion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromRow)]
pub(crate) struct Key {
    pub(crate) tenant_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) version: i64,
    pub(crate) gone: bool,
}

impl Snapshots {
    /// Shows these records too, as `tell` makes the message of them that their events hold.
    #[must_use]
    pub fn of<R: Resource, M: Message + 'static>(mut self, tell: fn(&TenantTx, R) -> M) -> Self {
        let read: Arc<Read> = Arc::new(move |tx, ids| {
            Box::pin(async move {
                let records = tx.get_many::<R>(ids).await?;
                let told = records.into_iter().map(|record| pb::SnapshotRecord {
                    tenant_id: tx.tenant().to_string(),
                    record_id: record.id().to_string(),
                    version: record.version(),
                    state: tell(tx, record).encode_to_vec(),
                });
                Ok(told.collect())
            })
        });
        self.by_resource.insert(R::NAME, Shown { table: R::TABLE, read });
        self
    }

    /// A page of them.
    ///
    /// # Errors
    /// `NotFound` when such records are not shown.
    pub(crate) async fn read(
        &self,
        db: &Db,
        clock: &Clock,
        request: pb::ReadSnapshotRequest,
    ) -> Result<pb::ReadSnapshotResponse, Error> {
        let shown = self.by_resource.get(request.resource.as_str());
        let shown = shown.ok_or_else(|| Error::not_found("snapshot", &request.resource))?;
        let most = Some(request.page_size).filter(|size| *size > 0).unwrap_or(PAGE);
        let (after, up_to) = (first(request.after.as_ref())?, last(request.up_to.as_ref())?);
        let mut reaction = db.begin_reaction().await?;
        let keys = keys(&mut reaction, shown.table, after, up_to, most, false).await?;
        let full = usize::try_from(most).is_ok_and(|most| keys.len() == most);
        let mut end = keys.last().filter(|_| full).copied();
        let records = if request.keys_only {
            keys.iter().map(|key| key.record(Vec::new())).collect()
        } else {
            let (records, cut) = shown.records(&mut reaction, clock, &keys).await?;
            end = cut.or(end);
            records
        };
        Ok(pb::ReadSnapshotResponse { records, last: end.map(Key::place) })
    }
}

impl Shown {
    /// The records of these keys, and the last key of those that were read when that is not all.
    async fn records(
        &self,
        reaction: &mut Reaction,
        clock: &Clock,
        keys: &[Key],
    ) -> Result<(Vec<pb::SnapshotRecord>, Option<Key>), Error> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        for of_tenant in keys.chunk_by(|a, b| a.tenant_id == b.tenant_id) {
            let Some(first) = of_tenant.first() else { continue };
            let mut tx = reaction.enter(Ctx::system(Id::new(first.tenant_id), clock.clone())).await?;
            for some in of_tenant.chunks(AT_ONCE) {
                let ids: Vec<Uuid> = some.iter().map(|key| key.id).collect();
                let mut read = (self.read)(&mut tx, &ids).await?;
                bytes += read.iter().map(|record| record.state.len()).sum::<usize>();
                read.sort_by(|a, b| a.record_id.cmp(&b.record_id));
                records.append(&mut read);
                if bytes >= BYTES {
                    return Ok((records, some.last().copied()));
                }
            }
            reaction.leave(tx).await?;
        }
        Ok((records, None))
    }
}

impl Key {
    fn record(&self, state: Vec<u8>) -> pb::SnapshotRecord {
        let (tenant_id, record_id) = (self.tenant_id.to_string(), self.id.to_string());
        pb::SnapshotRecord { tenant_id, record_id, version: self.version, state }
    }

    fn place(self) -> pb::RecordKey {
        pb::RecordKey { tenant_id: self.tenant_id.to_string(), record_id: self.id.to_string() }
    }

    /// Its tenant and id, by which records are in order.
    pub(crate) const fn at(self) -> (Uuid, Uuid) {
        (self.tenant_id, self.id)
    }
}

/// The key that `place` names; before all of them when it is absent.
pub(crate) fn first(place: Option<&pb::RecordKey>) -> Result<(Uuid, Uuid), Error> {
    place.map_or(Ok((Uuid::nil(), Uuid::nil())), read_place)
}

/// The same, but behind all of them.
pub(crate) fn last(place: Option<&pb::RecordKey>) -> Result<(Uuid, Uuid), Error> {
    place.map_or(Ok((Uuid::max(), Uuid::max())), read_place)
}

fn read_place(place: &pb::RecordKey) -> Result<(Uuid, Uuid), Error> {
    Ok((uuid(&place.tenant_id)?, uuid(&place.record_id)?))
}

pub(crate) fn uuid(text: &str) -> Result<Uuid, Error> {
    text.parse().map_err(Error::internal)
}

/// Keys of a table's records after one and up to another one, at most so many; also of those that are `gone`, or not.
pub(crate) async fn keys(
    reaction: &mut Reaction,
    table: &str,
    after: (Uuid, Uuid),
    up_to: (Uuid, Uuid),
    most: i32,
    gone: bool,
) -> Result<Vec<Key>, Error> {
    sqlx::query_as("SELECT * FROM rapport.record_keys($1::text::regclass, $2, $3, $4, $5, $6, $7)")
        .bind(table)
        .bind(after.0)
        .bind(after.1)
        .bind(up_to.0)
        .bind(up_to.1)
        .bind(most)
        .bind(gone)
        .fetch_all(reaction.conn()?)
        .await
        .map_err(database)
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.by_resource.keys()).finish()
    }
}
