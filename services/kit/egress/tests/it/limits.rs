//! What one tenant cannot take from the others.
use std::{io, net::IpAddr, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use rapport_egress::{Busy, Door, Failure, Lookup, Sabotage, Settings};
use rapport_kernel::Error;
use tokio::{sync::Semaphore, time::sleep};
use uuid::Uuid;

use crate::world::{OK, OTHER, Server, TENANT, door_to, hurried, post};

/// Until `count` have come.
async fn wait_for(server: &Server, count: usize) {
    while server.accepted() < count {
        sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn a_tenant_with_slow_endpoints_is_busy_while_others_go_on() {
    let (slow, quick) = (Server::silent().await, Server::answering(OK).await);
    let door = door_to(&[&slow, &quick]);
    let call = |tenant, server: &Server| {
        let (door, url) = (door.clone(), server.url());
        async move { door.send(tenant, post(url)).await }
    };
    let held = [tokio::spawn(call(TENANT, &slow)), tokio::spawn(call(TENANT, &slow))];
    wait_for(&slow, 2).await;
    for _ in 0..20 {
        assert_eq!(call(TENANT, &quick).await.unwrap_err(), Failure::Busy(Busy::Tenant(2)));
        call(OTHER, &quick).await.unwrap();
    }
    for held in held {
        // A caller that goes away gives its slot back.
        held.abort();
        assert!(held.await.unwrap_err().is_cancelled());
    }
    call(TENANT, &quick).await.unwrap();
}

#[tokio::test]
async fn all_together_have_a_limit_too() {
    let (slow, quick) = (Server::silent().await, Server::answering(OK).await);
    let door = door_to(&[&slow, &quick]);
    let mut held = Vec::new();
    for tenant in 1..=3 {
        let (door, url) = (door.clone(), slow.url());
        held.push(tokio::spawn(async move { door.send(Uuid::from_u128(tenant), post(url)).await }));
    }
    wait_for(&slow, 3).await;
    let busy = door.send(Uuid::from_u128(4), post(quick.url())).await.unwrap_err();
    assert_eq!(busy, Failure::Busy(Busy::All(3)));
    assert_eq!(Error::from(busy).reason(), "EXHAUSTED");
    let first = held.pop().unwrap();
    first.abort();
    first.await.unwrap_err();
    door.send(Uuid::from_u128(4), post(quick.url())).await.unwrap();
}

/// A resolver that takes until it is told to answer.
struct Slow(Arc<Semaphore>);

impl Lookup for Slow {
    fn addresses(&self, _host: String) -> BoxFuture<'static, io::Result<Vec<IpAddr>>> {
        let told = Arc::clone(&self.0);
        Box::pin(async move {
            let _told = told.acquire_owned().await;
            Ok(vec![[127, 0, 0, 1].into()])
        })
    }
}

#[tokio::test]
async fn names_that_take_long_count_until_they_are_resolved() {
    let server = Server::answering(OK).await;
    let told = Arc::new(Semaphore::new(0));
    let url = format!("http://slow.corp.example:{}/", server.address.port());
    let allow = vec![format!("slow.corp.example:{}", server.address.port())];
    let settings = Settings { allow, ..hurried() };
    let door = Door::with(settings, Arc::new(Slow(Arc::clone(&told))), Sabotage::None).unwrap();
    let (one, two) =
        tokio::join!(door.send(TENANT, post(url.as_str())), door.send(TENANT, post(url.as_str())));
    for failure in [one.unwrap_err(), two.unwrap_err()] {
        assert_eq!(failure, Failure::Connect("nobody answered in time"));
    }
    // Both have ended for their callers, but the machine still looks for the names.
    assert_eq!(door.send(TENANT, post(url.as_str())).await.unwrap_err(), Failure::Busy(Busy::Tenant(2)));
    assert_eq!(
        door.send(OTHER, post(url.as_str())).await.unwrap_err().kind(),
        "connect",
        "others have their own share"
    );
    told.add_permits(Semaphore::MAX_PERMITS);
    let answer = loop {
        match door.send(TENANT, post(url.as_str())).await {
            Err(Failure::Busy(_)) => sleep(Duration::from_millis(5)).await,
            other => break other,
        }
    };
    assert_eq!(answer.unwrap().status.as_u16(), 200);
}
