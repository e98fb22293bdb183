//! Requests by tenant, for an installation with many thousands of them: the busiest are counted under their ids, all others
//! together as `other`, so that `/metrics` stays small however many there are.
//!
//! At most [`NAMED`] tenants have a name at a time. Who that is follows from a weight: requests, of which each past minute
//! counts half as much as the one after it. Once a minute the heaviest take the names; one that has a name keeps it until
//! another is twice as heavy, so that names do not flicker. A tenant that loses its name loses its series, and begins at 0
//! when it gets another one, which Prometheus takes for a restart; `other` only ever grows. At most `WATCHED` tenants are
//! weighed at a time, so that memory is bounded too.
use std::{
    collections::HashMap,
    fmt::Write as _,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// How many tenants have a name in metrics at a time.
pub const NAMED: usize = 50;
/// How many tenants are weighed at a time; requests of more are counted, but get no name.
const WATCHED: usize = 10_000;
/// How often names are given anew.
const TURN: Duration = Duration::from_secs(60);
/// The name of all others.
const OTHER: &str = "other";
/// The metric.
const METRIC: &str = "rapport_tenant_requests_total";

/// How a request ended, as far as it matters who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was refused: the caller's matter.
    Refused,
    /// It failed: ours.
    Failed,
}

impl Outcome {
    const ALL: [Self; 3] = [Self::Done, Self::Refused, Self::Failed];

    const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// Requests by outcome.
type Counts = [u64; Outcome::ALL.len()];

/// The counters of one process.
#[derive(Debug)]
struct Tenants {
    most: usize,
    named: HashMap<Arc<str>, Counts>,
    other: Counts,
    weights: HashMap<Arc<str>, u64>,
    turned: Instant,
}

static TENANTS: LazyLock<Mutex<Tenants>> = LazyLock::new(|| Mutex::new(Tenants::new(NAMED)));

/// Counts a request of a tenant.
pub fn count(tenant: &Arc<str>, outcome: Outcome) {
    TENANTS.lock().unwrap_or_else(PoisonError::into_inner).count(tenant, outcome);
}

/// The counters, as Prometheus reads them; nothing before the first request.
pub(super) fn render() -> String {
    TENANTS.lock().unwrap_or_else(PoisonError::into_inner).render()
}

impl Tenants {
    fn new(most: usize) -> Self {
        Self {
            most,
            named: HashMap::new(),
            other: Counts::default(),
            weights: HashMap::new(),
            turned: Instant::now(),
        }
    }

    fn count(&mut self, tenant: &Arc<str>, outcome: Outcome) {
        let now = Instant::now();
        if now.duration_since(self.turned) >= TURN {
            self.turn(now);
        }
        if let Some(weight) = self.weights.get_mut(tenant) {
            *weight += 1;
        } else if self.weights.len() < WATCHED {
            self.weights.insert(tenant.clone(), 1);
        }
        // As long as there are names left, nobody waits for one.
        if self.named.len() < self.most && self.weights.contains_key(tenant) {
            self.named.entry(tenant.clone()).or_default();
        }
        let counts = self.named.get_mut(tenant).unwrap_or(&mut self.other);
        if let Some(count) = counts.get_mut(outcome as usize) {
            *count += 1;
        }
    }

    /// Gives the names to the heaviest, and lets all weights fade.
    fn turn(&mut self, now: Instant) {
        let mut heaviest: Vec<(u64, &Arc<str>)> = self
            .weights
            .iter()
            .map(|(tenant, weight)| {
                (if self.named.contains_key(tenant) { weight * 2 } else { *weight }, tenant)
            })
            .collect();
        heaviest.sort_unstable_by(|a, b| b.cmp(a));
        let named = heaviest.iter().take(self.most);
        let named = named
            .map(|(_, tenant)| ((*tenant).clone(), self.named.get(*tenant).copied().unwrap_or_default()));
        self.named = named.collect();
        let minutes = now.duration_since(self.turned).as_secs() / TURN.as_secs();
        self.weights.retain(|_, weight| {
            *weight = weight.checked_shr(u32::try_from(minutes).unwrap_or(u32::MAX)).unwrap_or(0);
            *weight > 0
        });
        self.turned = now;
    }

    fn render(&self) -> String {
        let mut named: Vec<(&str, &Counts)> =
            self.named.iter().map(|(tenant, counts)| (&**tenant, counts)).collect();
        named.sort_unstable();
        let mut text = String::new();
        if named.is_empty() {
            return text;
        }
        let _ = writeln!(
            text,
            "# HELP {METRIC} Requests by tenant: the {} busiest by id, the rest as `{OTHER}`",
            self.most
        );
        let _ = writeln!(text, "# TYPE {METRIC} counter");
        for (tenant, counts) in named.into_iter().chain([(OTHER, &self.other)]) {
            for (outcome, count) in Outcome::ALL.iter().zip(counts).filter(|(_, count)| **count > 0) {
                let outcome = outcome.name();
                let _ = writeln!(text, "{METRIC}{{tenant=\"{tenant}\",outcome=\"{outcome}\"}} {count}");
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tenant(number: usize) -> Arc<str> {
        format!("t{number:05}").into()
    }

    fn many(tenants: &mut Tenants, number: usize, times: usize) {
        (0..times).for_each(|_| tenants.count(&tenant(number), Outcome::Done));
    }

    fn names(tenants: &Tenants) -> Vec<String> {
        let line = |line: &str| Some(line.split_once("tenant=\"")?.1.split_once('"')?.0.to_owned());
        tenants.render().lines().filter_map(line).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn the_busiest_have_names_and_the_rest_is_counted_together() {
        let mut tenants = Tenants::new(2);
        (0..100).for_each(|number| many(&mut tenants, number, 1));
        assert_eq!(names(&tenants), ["t00000", "t00001", OTHER]);
        assert!(tenants.render().contains("{tenant=\"other\",outcome=\"done\"} 98"));
        many(&mut tenants, 70, 10);
        many(&mut tenants, 80, 20);
        tokio::time::advance(TURN).await;
        many(&mut tenants, 80, 5);
        assert_eq!(names(&tenants), ["t00080", OTHER], "a new name begins at 0");
        many(&mut tenants, 70, 1);
        assert_eq!(names(&tenants), ["t00070", "t00080", OTHER]);
        assert!(tenants.render().contains("{tenant=\"t00080\",outcome=\"done\"} 5"));
        assert!(tenants.render().contains("{tenant=\"other\",outcome=\"done\"} 128"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_is_kept_until_another_is_twice_as_heavy() {
        let mut tenants = Tenants::new(1);
        many(&mut tenants, 1, 10);
        many(&mut tenants, 2, 19);
        tokio::time::advance(TURN).await;
        many(&mut tenants, 1, 1);
        assert_eq!(names(&tenants), ["t00001", OTHER]);
        many(&mut tenants, 2, 40);
        tokio::time::advance(TURN).await;
        many(&mut tenants, 2, 1);
        assert_eq!(names(&tenants), ["t00002", OTHER]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_and_told_is_bounded_however_many_there_are() {
        let mut tenants = Tenants::new(NAMED);
        for turn in 0..3 {
            (0..2 * WATCHED).for_each(|number| many(&mut tenants, turn * 50_000 + number, 1));
            assert!(tenants.weights.len() <= WATCHED && tenants.named.len() <= NAMED);
            assert!(names(&tenants).len() <= NAMED + 1);
            tokio::time::advance(TURN).await;
        }
        tokio::time::advance(10 * TURN).await;
        many(&mut tenants, 1, 1);
        assert_eq!(tenants.weights.len(), 1, "who is quiet is forgotten");
    }

    #[test]
    fn outcomes_are_told_apart() {
        let mut tenants = Tenants::new(1);
        assert_eq!(tenants.render(), "");
        tenants.count(&tenant(1), Outcome::Refused);
        tenants.count(&tenant(1), Outcome::Failed);
        let text = tenants.render();
        assert!(text.contains("outcome=\"refused\"} 1") && text.contains("outcome=\"failed\"} 1"), "{text}");
        assert!(!text.contains("done"));
    }
}
