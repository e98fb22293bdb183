//! `rapport status`: how events fare at every service, in the terminal; what is stuck stands out, with what to do.
use rapport_kernel::BoxError;
use rapport_proto::events::v1::{
    GetStatusRequest, SetAsideMessage, Status, status_service_client::StatusServiceClient,
};
use tonic::Code;

use super::client::{Target, of};

/// What to ask.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
}

/// Events that wait for a moment are no trouble; so old they are, in seconds.
const OLD: i64 = 10;

/// Asks every service, and says what it says. What is stuck makes the command fail.
///
/// # Errors
/// In words: what is stuck.
#[expect(clippy::print_stdout, reason = "this is what the command answers")]
pub async fn run(options: &Options) -> Result<(), BoxError> {
    let channel = options.target.connect_as_operator().await?;
    let mut all = Vec::new();
    for service in rapport_proto::services() {
        let mut client = StatusServiceClient::new(channel.clone());
        match client.get_status(of(service, GetStatusRequest::default())).await {
            Ok(status) => all.push(status.into_inner()),
            // One that does not run here.
            Err(status) if status.code() == Code::InvalidArgument => {}
            Err(status) => println!("{service:<12} {}", status.message()),
        }
    }
    let mut stuck = Vec::new();
    for status in &all {
        println!("{}", line(status, &all));
        for queue in &status.queues {
            println!(
                "  queue {:<20} {} ready{}, {} later",
                queue.queue,
                queue.ready,
                since(&queue.since),
                queue.later
            );
        }
        for copy in &status.copies {
            println!(
                "  copy {:<21} {} records of {} when last compared",
                copy.name, copy.records, copy.producer
            );
        }
        for message in &status.set_aside_messages {
            println!("  set aside {}", doubted(message));
        }
        for tenant in status.tenants.iter().filter(|tenant| tenant.parked_items > 0) {
            println!("  tenant {}  {} parked", tenant.tenant, tenant.parked_items);
        }
        stuck.extend(troubles(status, &all));
    }
    match stuck.is_empty() {
        true => Ok(()),
        false => Err(stuck.join("\n").into()),
    }
}

/// A service in one line.
fn line(status: &Status, all: &[Status]) -> String {
    let mut text = format!(
        "{:<12} {} events, {} on the bus, {} wait{}",
        status.service,
        status.log_number,
        status.published_number,
        status.outbox_events,
        since(&status.outbox_since),
    );
    for (producer, lag) in lags(status, all) {
        text.push_str(&format!("; hears {producer}, {lag} behind"));
    }
    for (count, what) in [
        (status.parked_items, "parked"),
        (status.set_aside, "messages set aside"),
        (status.webhooks_failing, "webhooks failing"),
    ] {
        if count > 0 {
            text.push_str(&format!("; {count} {what}"));
        }
    }
    text
}

/// A message that was not believed, in one line.
fn doubted(message: &SetAsideMessage) -> String {
    let SetAsideMessage { create_time, producer, subject, reason } = message;
    let came = create_time.as_ref().map(ToString::to_string).unwrap_or_default();
    format!("{came} {subject} of {producer}: {reason}")
}

/// How many events of others it has not heard yet.
fn lags<'s>(status: &'s Status, all: &[Status]) -> Vec<(&'s str, i64)> {
    let lag = |producer: &str, events: i64| {
        let head = all.iter().find(|other| other.service == producer).map(|other| other.log_number);
        head.map_or(0, |head| (head - events).max(0))
    };
    status.heard.iter().map(|heard| (heard.producer.as_str(), lag(&heard.producer, heard.events))).collect()
}

/// What is stuck, each with what to do.
fn troubles(status: &Status, all: &[Status]) -> Vec<String> {
    let service = &status.service;
    let mut troubles = Vec::new();
    if age(&status.outbox_since) > OLD {
        troubles.push(format!(
            "{service}: events wait for {} s to be numbered: is a process of the service running?",
            age(&status.outbox_since)
        ));
    }
    if status.published_number > 0 && status.log_number - status.published_number > 10_000 {
        troubles.push(format!("{service}: the bus is far behind: look at nats-server and its disk"));
    }
    for (producer, lag) in lags(status, all).into_iter().filter(|(_, lag)| *lag > 10_000) {
        troubles.push(format!("{service}: {lag} events of {producer} are not heard yet"));
    }
    for heard in status.heard.iter().filter(|heard| heard.left_out > 0) {
        let (left_out, producer) = (heard.left_out, &heard.producer);
        troubles.push(format!(
            "{service}: {left_out} events of {producer} were dropped before they were heard: keep its log longer"
        ));
    }
    for copy in status.copies.iter().filter(|copy| copy.differences > 0) {
        let (differences, name) = (copy.differences, &copy.name);
        troubles.push(format!(
            "{service}: {differences} records of {name} were not what their owner has, and are now: please report it"
        ));
    }
    if status.parked_items > 0 {
        let path = format!("/v1/services/{service}/parkedItems");
        troubles.push(format!(
            "{service}: {} items are parked: see {path} of the tenants above",
            status.parked_items
        ));
    }
    troubles
}

fn age(since: &Option<prost_types::Timestamp>) -> i64 {
    let now = rapport_kernel::Clock::system().now().as_seconds();
    since.as_ref().map_or(0, |since| (now - since.seconds).max(0))
}

fn since(since: &Option<prost_types::Timestamp>) -> String {
    match age(since) {
        0 => String::new(),
        seconds => format!(" for {seconds} s"),
    }
}

#[cfg(test)]
mod tests {
    use rapport_proto::events::v1::{CopyStatus, Heard};

    use super::*;

    #[test]
    fn what_is_stuck_is_told_and_what_is_fine_is_not() {
        let identity = Status {
            service: "identity".into(),
            log_number: 20_000,
            published_number: 20_000,
            ..Status::default()
        };
        let heard = vec![Heard { producer: "identity".into(), events: 20_000, left_out: 0 }];
        let customer = Status { service: "customer".into(), heard, ..Status::default() };
        let all = [identity.clone(), customer.clone()];
        assert_eq!(
            line(&customer, &all),
            "customer     0 events, 0 on the bus, 0 wait; hears identity, 0 behind"
        );
        assert!(troubles(&customer, &all).is_empty() && troubles(&identity, &all).is_empty());
        let deaf = Status {
            heard: vec![Heard { producer: "identity".into(), events: 7, left_out: 3 }],
            parked_items: 2,
            copies: vec![CopyStatus { differences: 1, ..CopyStatus::default() }],
            ..customer
        };
        assert_eq!(troubles(&deaf, &all).len(), 4);
        let message = SetAsideMessage {
            create_time: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }),
            producer: "identity".into(),
            subject: "identity.07.hello.v1".into(),
            reason: "it has no headers".into(),
        };
        assert_eq!(
            doubted(&message),
            "1970-01-01T00:00:01Z identity.07.hello.v1 of identity: it has no headers"
        );
        let old = Status { outbox_since: Some(prost_types::Timestamp { seconds: 1, nanos: 0 }), ..identity };
        assert_eq!(troubles(&old, &all).len(), 1);
    }
}
