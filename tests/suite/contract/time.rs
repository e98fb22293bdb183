//! An id of another tenant takes as long to refuse as one that does not exist: the clock tells nothing either.
use std::time::{Duration, Instant};

use super::{
    isolation::{Asked, Sides, ask, compared, makes},
    none,
};
use tonic::Code;

/// Pairs of calls in each round: a difference counts when every round shows it, in the same direction. A busy machine is slow
/// now and then, a leak is slow always; so each round looks longer than the one before.
const ROUNDS: [usize; 3] = [15, 30, 45];
/// What may differ: a part of the time, or this much, whichever is more.
const PART: f64 = 0.3;
const LEAST: Duration = Duration::from_micros(500);

/// How long calls for theirs and for nothing take, in the middle, called in turns; after each of theirs
/// comes a rest of `slower` times its time.
async fn medians(sides: &Sides, asked: Asked, pairs: usize, slower: u32) -> (Duration, Duration) {
    let (mut theirs, mut nothing) = (Vec::with_capacity(pairs), Vec::with_capacity(pairs));
    for pair in 0..pairs {
        for turn in 0..2 {
            let begun = Instant::now();
            // Neither is always the one that comes first.
            if (pair + turn) % 2 == 0 {
                let _ = ask(&sides.asks_theirs, asked, &sides.theirs).await;
                if slower > 0 {
                    tokio::time::sleep(begun.elapsed() * slower).await;
                }
                theirs.push(begun.elapsed());
            } else {
                let _ = ask(&sides.asks_theirs, asked, &sides.nothing).await;
                nothing.push(begun.elapsed());
            }
        }
    }
    (median(theirs), median(nothing))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Whether two times differ by more than chance.
fn differ(left: Duration, right: Duration) -> bool {
    left.abs_diff(right) > LEAST.max(left.min(right).mul_f64(PART))
}

/// A finding where every round shows a difference, in the same direction.
async fn difference(sides: &Sides, asked: Asked, slower: u32) -> Option<String> {
    let mut direction = None;
    let mut last = (Duration::ZERO, Duration::ZERO);
    for pairs in ROUNDS {
        last = medians(sides, asked, pairs, slower).await;
        let theirs_is_slower = last.0 > last.1;
        if !differ(last.0, last.1) || direction.is_some_and(|before| before != theirs_is_slower) {
            return None;
        }
        direction = Some(theirs_is_slower);
    }
    Some(format!("{}: theirs takes {:?}, nothing {:?}", asked.0.path, last.0, last.1))
}

/// The methods that say of a record that it was not found; none that would make it.
async fn finding(sides: &Sides) -> Vec<Asked> {
    let mut methods = Vec::new();
    for asked in compared().into_iter().filter(|asked| !makes(*asked)) {
        let answer = ask(&sides.asks_theirs, asked, &sides.nothing).await;
        if answer.is_err_and(|status| status.code() == Code::NotFound) {
            methods.push(asked);
        }
    }
    methods
}

#[tokio::test]
async fn ids_of_another_tenant_take_as_long_as_ids_that_do_not_exist() {
    let sides = Sides::new().await;
    let methods = finding(&sides).await;
    assert!(methods.len() > 20, "only {} methods look for a record", methods.len());
    let mut findings = Vec::new();
    for asked in methods {
        findings.extend(difference(&sides, asked, 0).await);
    }
    none(&findings);
}

/// A sabotage: twice as much time on top for what another tenant has is noticed, however busy the machine is.
#[tokio::test]
async fn a_slower_answer_is_noticed() {
    let sides = Sides::new().await;
    let asked = finding(&sides).await[0];
    assert!(difference(&sides, asked, 2).await.is_some());
    assert!(differ(Duration::from_micros(3_000), Duration::from_micros(4_000)));
    assert!(!differ(Duration::from_micros(3_000), Duration::from_micros(3_800)));
    assert!(!differ(Duration::from_micros(300), Duration::from_micros(700)));
}
