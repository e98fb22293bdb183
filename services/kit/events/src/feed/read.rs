//! Reading a tenant's events after a number, by the eyes of a caller.
use std::collections::{BTreeMap, HashSet};

use rapport_kernel::{Ctx, Error, RecordName};
use rapport_proto::events::v1 as pb;
use uuid::Uuid;

use super::{
    Feed,
    encode::{encode, note_read},
    wanted::Wanted,
};
use crate::log::{self, Ends, Line};

/// Lines that are looked through for one page at most, so that a page comes soon also where little is wanted.
const LOOKED_THROUGH: usize = 5_000;
/// Lines that are read at a time.
const PIECE: usize = 500;

impl Feed {
    /// From where to where this tenant's events are kept.
    pub(super) async fn position(&self, ctx: &Ctx) -> Result<pb::EventPosition, Error> {
        let tenant = ctx.tenant.uuid();
        let mut tx = self.db.platform().await?;
        let last_number = log::ends_of_tenant(tx.conn()?, tenant).await?.last;
        let first = log::first_of_tenant(tx.conn()?, tenant).await?;
        tx.commit().await?;
        Ok(pb::EventPosition { first_number: first.unwrap_or(last_number + 1), last_number })
    }

    /// Events after a number.
    pub(super) async fn page(
        &self,
        ctx: &Ctx,
        r: &pb::ReadEventsRequest,
        most: usize,
    ) -> Result<pb::ReadEventsResponse, Error> {
        let wanted = self.wanted(ctx, &r.subjects, &r.filter).await?;
        let mut page = pb::ReadEventsResponse { next_after: r.after, ..Default::default() };
        let mut looked = 0;
        while page.events.len() < most && looked < LOOKED_THROUGH {
            let lines = self.lines(ctx, page.next_after, PIECE).await?;
            if lines.is_empty() {
                break;
            }
            looked += lines.len();
            let seen = self.seen(ctx, &lines).await?;
            for line in &lines {
                page.next_after = line.tenant_number;
                page.events.extend(self.event(ctx, line, &seen, &wanted)?);
                if page.events.len() == most {
                    break;
                }
            }
        }
        let mut tx = self.db.platform().await?;
        page.last_number = log::ends_of_tenant(tx.conn()?, ctx.tenant.uuid()).await?.last;
        tx.commit().await?;
        Ok(page)
    }

    /// Which of these records the caller does not see.
    pub(crate) async fn unseen(&self, ctx: &Ctx, names: &[RecordName]) -> Result<HashSet<RecordName>, Error> {
        let scoped = names.iter().filter_map(|name| Some((self.audience.scoped_by_name(ctx, name)?, name)));
        let mut asked = BTreeMap::<&str, Vec<&RecordName>>::new();
        scoped.for_each(|(resource, name)| asked.entry(resource).or_default().push(name));
        let mut unseen = HashSet::new();
        if asked.is_empty() {
            return Ok(unseen);
        }
        let mut tx = self.db.begin(ctx).await?;
        for (resource, names) in asked {
            let ids: Vec<_> = names.iter().map(|name| name.id()).collect();
            let visible = match self.audience.visible(&mut tx, resource, &ids).await {
                Err(Error::Denied(_)) => Some(HashSet::new()),
                visible => visible?,
            };
            let gone = names
                .into_iter()
                .filter(|name| visible.as_ref().is_some_and(|seen| !seen.contains(&name.id())));
            unseen.extend(gone.cloned());
        }
        tx.finish().await?;
        Ok(unseen)
    }

    /// These lines as the caller hears of them.
    pub(crate) async fn events(&self, ctx: &Ctx, lines: Vec<Line>) -> Result<Vec<pb::Event>, Error> {
        let (seen, all) = (self.seen(ctx, &lines).await?, Wanted::default());
        let events = lines.iter().map(|line| self.event(ctx, line, &seen, &all));
        Ok(events.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
    }

    /// The tenant's lines after a number, the next one first.
    ///
    /// # Errors
    /// A rule when the next one is not kept any more, or `after` was never given, or given in a time that a restore made undone:
    /// then the records must be read anew.
    pub(crate) async fn lines(&self, ctx: &Ctx, after: i64, most: usize) -> Result<Vec<Line>, Error> {
        let tenant = ctx.tenant.uuid();
        let mut tx = self.db.platform().await?;
        // First where it ends, then what it has: it grows in between.
        let Ends { last, restored_after, restored_to } = log::ends_of_tenant(tx.conn()?, tenant).await?;
        let is_lost = restored_after < after && after < restored_to;
        let after = if after == restored_after { restored_to } else { after };
        let lines = match after < last {
            true => log::read_tenant(tx.conn()?, tenant, after, most).await?,
            false => Vec::new(),
        };
        tx.commit().await?;
        let snapshot =
            format!("read the records anew, and then the events after {last}, which was the last so far");
        match lines.first().map(|line| line.tenant_number) {
            _ if is_lost => Err(Error::rule(
                "EVENTS_NOT_YET",
                format!(
                    "number {after} was given before the log was restored from a backup, which did not have it: {snapshot}"
                ),
            )),
            Some(first) if first > after + 1 => Err(Error::rule(
                "EVENTS_DROPPED",
                format!("events are kept from number {first} on, and {after} was read last: {snapshot}"),
            )),
            None if after < last => Err(Error::rule(
                "EVENTS_DROPPED",
                format!(
                    "no events up to number {last} are kept any more, and {after} was read last: {snapshot}"
                ),
            )),
            None if after > last => Err(Error::rule(
                "EVENTS_NOT_YET",
                format!("number {after} was not given yet, as after a restore: {snapshot}"),
            )),
            _ => {
                // What is kept longer than what came before it may stand behind a hole.
                let whole = lines.iter().zip(after + 1..).take_while(|(l, n)| l.tenant_number == *n).count();
                Ok(lines.into_iter().take(whole).collect())
            }
        }
    }

    /// Which of the records of these lines the caller sees, where that is not all of them.
    pub(crate) async fn seen<L: AsRef<Line>>(&self, ctx: &Ctx, lines: &[L]) -> Result<Seen, Error> {
        let mut asked = BTreeMap::<&str, Vec<Uuid>>::new();
        let lines = lines.iter().map(AsRef::as_ref);
        for line in lines.filter(|line| self.audience.is_scoped(ctx, line) && self.audience.hears(ctx, line))
        {
            asked.entry(&line.resource).or_default().push(line.record_id);
        }
        let mut seen = Seen::default();
        if asked.is_empty() {
            return Ok(seen);
        }
        let mut tx = self.db.begin(ctx).await?;
        for (resource, mut ids) in asked {
            ids.sort_unstable();
            ids.dedup();
            if let Some(visible) = self.audience.visible(&mut tx, resource, &ids).await? {
                seen.0.insert(resource.to_owned(), visible);
            }
        }
        tx.finish().await?;
        Ok(seen)
    }

    /// A line as this caller hears of it, if they do.
    pub(crate) fn event(
        &self,
        ctx: &Ctx,
        line: &Line,
        seen: &Seen,
        wanted: &Wanted,
    ) -> Result<Option<pb::Event>, Error> {
        if !self.audience.hears(ctx, line) || !seen.has(line) {
            return Ok(None);
        }
        let event = encode(&self.audience, ctx, line)?.filter(|event| wanted.wants(line, event));
        if event.is_some() {
            note_read(&self.audience, ctx, line);
        }
        Ok(event)
    }
}

/// The records that a caller sees of those resources of which they do not see all.
#[derive(Debug, Default)]
pub(crate) struct Seen(BTreeMap<String, HashSet<Uuid>>);

impl Seen {
    fn has(&self, line: &Line) -> bool {
        self.0.get(&line.resource).is_none_or(|visible| visible.contains(&line.record_id))
    }
}
