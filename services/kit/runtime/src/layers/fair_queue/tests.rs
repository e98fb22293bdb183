use std::time::Duration;

use futures::FutureExt as _;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use super::*;

const WORK: Duration = Duration::from_millis(10);

fn tenant(number: u128) -> Lane {
    Lane::Tenant(Uuid::from_u128(number))
}

/// How long the last call in line waits, when 100 calls of `first` lined up before the one of `last`, 2 run at a time and
/// each takes 10 ms.
async fn wait_behind_a_flood(first: Lane, last: Lane) -> Duration {
    let queue = FairQueue::new(2, 1000);
    let mut calls = JoinSet::new();
    let work = async |turn: std::pin::Pin<Box<dyn Future<Output = Place> + Send>>| {
        let _place = turn.await;
        sleep(WORK).await;
    };
    for _ in 0..100 {
        let turn = queue.enter(first, 1).unwrap().boxed();
        calls.spawn(work(turn));
    }
    let (turn, began) = (queue.enter(last, 1).unwrap(), Instant::now());
    let _place = turn.await;
    let waited = began.elapsed();
    calls.shutdown().await;
    waited
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_tenant_does_not_make_another_wait() {
    assert!(wait_behind_a_flood(tenant(1), tenant(2)).await <= 2 * WORK);
    // The same flood in one line, first come first served, is what the test would see if turns were not taken.
    assert!(wait_behind_a_flood(tenant(1), tenant(1)).await >= 49 * WORK);
}

/// The lanes in the order in which their calls get the one place.
async fn order(queue: &FairQueue, calls: &[(Lane, u64)]) -> Vec<Lane> {
    let occupied = queue.enter(Lane::Operators, 1).unwrap().await;
    let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
    for (lane, cost) in calls {
        let (turn, sender, lane) = (queue.enter(*lane, *cost).unwrap(), sender.clone(), *lane);
        tokio::spawn(async move {
            let _place = turn.await;
            sender.send(lane).unwrap();
        });
    }
    drop((occupied, sender));
    let mut order = Vec::new();
    while let Some(lane) = served.recv().await {
        order.push(lane);
    }
    order
}

#[tokio::test]
async fn lanes_get_equal_shares_of_the_work_not_of_the_calls() {
    let (small, large) = (tenant(1), tenant(2));
    let calls: Vec<_> = [(small, 1); 40].into_iter().chain([(large, 10); 40]).collect();
    let order = order(&FairQueue::new(1, 1000), &calls).await;
    let last_small = order.iter().rposition(|lane| *lane == small).unwrap();
    let large_meanwhile = order.iter().take(last_small).filter(|lane| **lane == large).count();
    assert!(
        (3..=5).contains(&large_meanwhile),
        "40 units of small calls beside {large_meanwhile}0 of large ones"
    );
    assert_eq!(order.len(), 80);
}

#[tokio::test]
async fn services_come_before_the_crowd_and_do_not_starve_it() {
    let crowd = (1..=20).flat_map(|number| [(tenant(number), 1); 10]);
    let calls: Vec<_> = crowd.chain([(Lane::Services, 1); 100]).collect();
    let order = order(&FairQueue::new(1, 1000), &calls).await;
    let services_early = order.iter().take(100).filter(|lane| **lane == Lane::Services).count();
    assert!((30..=70).contains(&services_early), "{services_early}");
}

#[tokio::test]
async fn each_lane_may_have_only_so_many_waiting() {
    let queue = FairQueue::new(1, 2);
    let place = queue.enter(tenant(1), 1).unwrap().await;
    let (first, _second) = (queue.enter(tenant(1), 1).unwrap(), queue.enter(tenant(1), 1).unwrap());
    assert!(matches!(queue.enter(tenant(1), 1), Err(Error::Exhausted { .. })));
    let _other = queue.enter(tenant(2), 1).unwrap();
    drop(first);
    let _third = queue.enter(tenant(1), 1).unwrap();
    drop(place);
}

#[tokio::test]
async fn a_place_is_given_back_once_whatever_becomes_of_its_call() {
    let queue = FairQueue::new(3, 1000);
    let (mut waiting, mut places, mut random) = (Vec::new(), Vec::new(), 1_u64);
    for _ in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let dice = (random >> 33) as usize;
        match dice % 5 {
            0 | 1 => {
                waiting.push(queue.enter(tenant((dice % 7) as u128), 1 + (dice % 3) as u64).unwrap().boxed())
            }
            2 if !waiting.is_empty() => drop(waiting.swap_remove(dice % waiting.len())),
            3 if !waiting.is_empty() => {
                let mut turn = waiting.swap_remove(dice % waiting.len());
                match turn.as_mut().now_or_never() {
                    Some(place) => places.push(place),
                    None => waiting.push(turn),
                }
            }
            4 if !places.is_empty() => drop(places.swap_remove(dice % places.len())),
            _ => {}
        }
        assert!(places.len() <= 3);
    }
    drop((waiting, places));
    let _last = queue.enter(tenant(1), 1).unwrap().await;
    let state = lock(&queue.state);
    assert_eq!(state.free, 2);
    assert!(state.lanes.values().all(|waiting| waiting.calls.is_empty()));
}
