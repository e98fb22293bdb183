//! Numbers of the outbox that were taken and not seen yet.
use std::ops::RangeInclusive;

/// What PostgreSQL said of its transactions when a look was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// Every transaction below this one was over.
    pub xmin: u64,
    /// A transaction that began only now, for a look that was asked for one: whoever had an id before has a lower one.
    pub now: Option<u64>,
}

/// Ranges of ids below the highest one that was seen. Whoever took an id of theirs is still under way, or was rolled back.
///
/// A transaction has an id of its own before it takes numbers of the outbox (`rapport.emit`), and a gap shows only after a
/// later number was taken. So whoever made a gap has a lower id than a transaction that begins after it was noticed. Once
/// everybody below that one is over, a look that still does not see the rows shows that they were rolled back. (The `xmax` of
/// a snapshot will not do for this: transactions that began long ago, and after the last one that ended, lie above it.)
#[derive(Debug, Default)]
pub(super) struct Gaps(Vec<Gap>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Gap {
    low: i64,
    high: i64,
    /// A transaction that began after the gap was noticed, once there is one.
    noticed_before: Option<u64>,
}

impl Gaps {
    /// The ranges, for the next look.
    pub(super) fn ranges(&self) -> impl Iterator<Item = RangeInclusive<i64>> {
        self.0.iter().map(|gap| gap.low..=gap.high)
    }

    /// Whether the next look has to begin a transaction that the newest gaps can be dated by.
    pub(super) fn want_date(&self) -> bool {
        self.0.iter().any(|gap| gap.noticed_before.is_none())
    }

    /// Dates the gaps that were noticed before this look.
    pub(super) fn date(&mut self, snapshot: Snapshot) {
        for gap in &mut self.0 {
            gap.noticed_before = gap.noticed_before.or(snapshot.now);
        }
    }

    /// Notes that these ids are missing.
    pub(super) fn open(&mut self, low: i64, high: i64) {
        if low <= high {
            self.0.push(Gap { low, high, noticed_before: None });
        }
    }

    /// Takes `id` out of its gap; says whether it was in one.
    pub(super) fn fill(&mut self, id: i64) -> bool {
        let Some(at) = self.0.iter().position(|gap| (gap.low..=gap.high).contains(&id)) else { return false };
        let gap = self.0.swap_remove(at);
        let rest = [Gap { high: id - 1, ..gap }, Gap { low: id + 1, ..gap }];
        self.0.extend(rest.into_iter().filter(|gap| gap.low <= gap.high));
        true
    }

    /// Forgets what was rolled back: gaps that this look went through, and whose transactions were all over.
    pub(super) fn close(&mut self, snapshot: Snapshot) {
        self.0.retain(|gap| gap.noticed_before.is_none_or(|xid| xid > snapshot.xmin));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(gaps: &Gaps) -> Vec<(i64, i64)> {
        let mut ranges: Vec<_> = gaps.ranges().map(RangeInclusive::into_inner).collect();
        ranges.sort_unstable();
        ranges
    }

    #[test]
    fn a_gap_is_filled_from_any_side() {
        let mut gaps = Gaps::default();
        gaps.open(3, 7);
        assert!(gaps.fill(5) && gaps.fill(3) && gaps.fill(7));
        assert_eq!(ranges(&gaps), [(4, 4), (6, 6)]);
        assert!(!gaps.fill(5) && !gaps.fill(8));
        assert!(gaps.fill(4) && gaps.fill(6));
        assert_eq!(ranges(&gaps), []);
    }

    #[test]
    fn a_gap_stays_as_long_as_its_transaction_may_commit() {
        let mut gaps = Gaps::default();
        gaps.open(3, 7);
        gaps.close(Snapshot { xmin: 100, now: None });
        assert!(gaps.want_date(), "nothing is known of who made it");
        gaps.date(Snapshot { xmin: 4, now: Some(10) });
        gaps.open(9, 9);
        gaps.close(Snapshot { xmin: 9, now: None });
        assert_eq!(ranges(&gaps), [(3, 7), (9, 9)]);
        gaps.close(Snapshot { xmin: 10, now: None });
        assert_eq!(ranges(&gaps), [(9, 9)]);
    }
}
