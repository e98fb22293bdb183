//! Events on their way to the outbox. The sequencer numbers them later; here they get an id, a partition and their cause.
use rapport_kernel::{Ctx, Error};
use rapport_proto::Event;
use uuid::Uuid;

/// How many partitions the log has.
pub const PARTS: u8 = 32;

/// Events collected by a transaction, column by column, as the statement binds them.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) event_ids: Vec<Uuid>,
    pub(crate) parts: Vec<i16>,
    pub(crate) resources: Vec<String>,
    pub(crate) records: Vec<Uuid>,
    pub(crate) versions: Vec<i64>,
    pub(crate) subjects: Vec<String>,
    pub(crate) types: Vec<String>,
    pub(crate) paths: Vec<Vec<String>>,
    pub(crate) payloads: Vec<Vec<u8>>,
}

impl Outbox {
    pub(crate) const fn is_empty(&self) -> bool {
        self.event_ids.is_empty()
    }

    pub(crate) fn push<E: Event>(
        &mut self,
        ctx: &Ctx,
        resource: &str,
        record: Uuid,
        version: i64,
        event: &E,
        paths: &[String],
    ) -> Result<(), Error> {
        self.event_ids.push(ctx.clock.new_uuid());
        self.parts.push(part(ctx.tenant.uuid(), record).into());
        self.resources.push(resource.to_owned());
        self.records.push(record);
        self.versions.push(version);
        self.subjects.push(E::SUBJECT.to_owned());
        self.types.push(E::full_name());
        self.paths.push(paths.to_vec());
        self.payloads.push(event.encode_to_vec());
        Ok(())
    }
}

/// The partition of a record's events, 0 to 31: all events of one record are in one, so that their order is kept.
///
/// Fibonacci hashing (Knuth, The Art of Computer Programming 3, 6.4) of both ids folded together.
pub fn part(tenant: Uuid, record: Uuid) -> u8 {
    let folded = tenant.as_u128() ^ record.as_u128().rotate_left(64);
    let mixed = ((folded >> 64) as u64 ^ folded as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 59) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_spread_evenly_over_the_partitions() {
        let clock = rapport_kernel::Clock::system();
        let tenant = clock.new_uuid();
        let mut counts = [0_u32; PARTS as usize];
        for _ in 0..32_000 {
            counts[usize::from(part(tenant, clock.new_uuid()))] += 1;
        }
        assert!(counts.iter().all(|&count| (800..1200).contains(&count)), "{counts:?}");
    }
}
