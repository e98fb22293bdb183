//! Whose turn it is.
use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

use super::{Taken, Waiting};

/// Bytes that a tenant may send in one turn: some ten events.
const QUANTUM: i64 = 8 << 10;

/// Rows that wait, by tenant, served by deficit round robin (Shreedhar and Varghese, 1995): in each turn a tenant may send a
/// quantum of bytes and what it did not use of earlier ones. A million rows of one tenant wait behind themselves.
#[derive(Debug, Default)]
pub(super) struct Fair {
    ring: VecDeque<Uuid>,
    tenants: HashMap<Uuid, Queue>,
    rows: usize,
    /// For tests: no turns, but the lowest id first.
    first_in_first_out: bool,
}

#[derive(Debug)]
struct Queue {
    /// In the order of their ids, which is that of each record's changes.
    rows: VecDeque<Waiting>,
    /// Bytes that may be sent when the next turn has added its quantum.
    deficit: i64,
    /// The last number that the tenant has.
    number: i64,
}

impl Fair {
    pub(super) fn new(first_in_first_out: bool) -> Self {
        Self { first_in_first_out, ..Self::default() }
    }

    /// How many rows wait.
    pub(super) const fn len(&self) -> usize {
        self.rows
    }

    /// Whether rows of this tenant wait.
    pub(super) fn has(&self, tenant: Uuid) -> bool {
        self.tenants.contains_key(&tenant)
    }

    /// A row that was just seen. `number` is the tenant's last one, as the database had it in the same look.
    pub(super) fn push(&mut self, row: Waiting, number: i64) {
        let tenant = row.tenant;
        let queue = self.tenants.entry(tenant).or_insert_with(|| {
            self.ring.push_back(tenant);
            Queue { rows: VecDeque::new(), deficit: 0, number }
        });
        // Nearly always the last; what was in a gap goes before those that were seen earlier.
        let at = queue.rows.partition_point(|other| other.id < row.id);
        queue.rows.insert(at, row);
        self.rows += 1;
    }

    /// Takes up to `most` rows, fairly.
    pub(super) fn take(&mut self, most: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < most {
            if self.first_in_first_out {
                let front = |tenant: &Uuid| self.tenants.get(tenant)?.rows.front().map(|row| row.id);
                if let Some(at) = (0..self.ring.len()).min_by_key(|at| self.ring.get(*at).and_then(front)) {
                    self.ring.swap(0, at);
                }
            }
            let Some(tenant) = self.ring.pop_front() else { break };
            let Some(queue) = self.tenants.get_mut(&tenant) else { continue };
            queue.deficit += QUANTUM;
            let room = if self.first_in_first_out { taken.len() + 1 } else { most };
            while taken.len() < room
                && let Some(row) = queue.rows.pop_front_if(|row| row.size <= queue.deficit)
            {
                queue.deficit -= row.size;
                queue.number += 1;
                taken.push(Taken { row, tenant_number: queue.number });
            }
            if queue.rows.is_empty() {
                self.tenants.remove(&tenant);
            } else if taken.len() < most {
                self.ring.push_back(tenant);
            } else {
                // Its turn was cut short by the end of the batch, and goes on with the next one.
                queue.deficit -= QUANTUM;
                self.ring.push_front(tenant);
            }
        }
        self.rows -= taken.len();
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(tenant: u128, id: i64, size: i64) -> Waiting {
        Waiting { id, tenant: Uuid::from_u128(tenant), size, ..Waiting::default() }
    }

    fn tenants(taken: &[Taken]) -> Vec<u128> {
        taken.iter().map(|taken| taken.row.tenant.as_u128()).collect()
    }

    #[test]
    fn a_late_tenant_waits_for_a_turn_and_not_for_a_queue() {
        let mut fair = Fair::default();
        for id in 1..=10_000 {
            fair.push(row(1, id, 1000), 0);
        }
        fair.push(row(2, 10_001, 1000), 7);
        let taken = fair.take(20);
        let place = tenants(&taken).iter().position(|tenant| *tenant == 2).unwrap();
        assert_eq!((place, taken[place].tenant_number), (8, 8), "a turn of 8 KiB goes before it");
        assert_eq!(fair.len(), 10_001 - 20);
    }

    #[test]
    fn without_turns_a_late_tenant_waits_for_all_that_came_before() {
        let mut fair = Fair::new(true);
        for id in 1..=1_000 {
            fair.push(row(1, id, 1000), 0);
        }
        fair.push(row(2, 1_001, 1000), 0);
        let taken = fair.take(2_000);
        assert_eq!(tenants(&taken).iter().position(|tenant| *tenant == 2), Some(1_000));
    }

    #[test]
    fn bytes_count_and_not_rows() {
        let mut fair = Fair::default();
        for n in 0..2_000 {
            fair.push(row(1, 2 * n, 4000), 0);
            fair.push(row(2, 2 * n + 1, 500), 0);
        }
        let taken = fair.take(900);
        let bytes = |tenant| {
            taken
                .iter()
                .filter(|taken| taken.row.tenant.as_u128() == tenant)
                .map(|taken| taken.row.size)
                .sum::<i64>()
        };
        let ratio = bytes(1) as f64 / bytes(2) as f64;
        assert!((0.9..1.1).contains(&ratio), "{ratio}");
    }

    #[test]
    fn what_is_larger_than_a_turn_waits_for_several() {
        let mut fair = Fair::default();
        fair.push(row(1, 1, 10 * QUANTUM), 0);
        for id in 2..100 {
            fair.push(row(2, id, QUANTUM), 0);
        }
        let taken = tenants(&fair.take(50));
        assert_eq!(taken.iter().position(|tenant| *tenant == 1), Some(9));
    }

    #[test]
    fn batches_cut_turns_short_and_nobody_gains() {
        let mut fair = Fair::default();
        for id in 0..1_000 {
            fair.push(row(1 + (id % 2) as u128, id, 1000), 0);
        }
        let mut counts = [0; 2];
        for _ in 0..200 {
            for tenant in tenants(&fair.take(3)) {
                counts[tenant as usize - 1] += 1;
            }
        }
        assert!(counts.iter().all(|&count| (292..=308).contains(&count)), "{counts:?}");
    }

    #[test]
    fn a_tenant_s_rows_keep_their_order_and_are_numbered() {
        let mut fair = Fair::default();
        for id in [5, 9, 2, 7] {
            fair.push(row(1, id, 10), 41);
        }
        let taken: Vec<_> =
            fair.take(10).into_iter().map(|taken| (taken.row.id, taken.tenant_number)).collect();
        assert_eq!(taken, [(2, 42), (5, 43), (7, 44), (9, 45)]);
        assert_eq!(fair.len(), 0);
        // Emptied: the next look brings the number that the database has by now.
        fair.push(row(1, 11, 10), 45);
        assert_eq!(fair.take(1)[0].tenant_number, 46);
    }
}
