//! `rapport why`: why something happened, or did not, to a record: its events, what they followed from, what they started, and
//! what of that is stuck, at every service.
use rapport_kernel::BoxError;
use rapport_proto::events::v1::{Event, Explanation, WhyRequest, ledger_service_client::LedgerServiceClient};
use tonic::Code;

use super::client::{Target, of};

/// What to explain.
#[derive(Debug, clap::Args)]
pub struct Options {
    #[command(flatten)]
    target: Target,
    /// A record, e.g. `customer.customer/0190…`, or an event's id
    what: String,
}

/// Asks every service.
///
/// # Errors
/// When no service knows anything of it.
#[expect(clippy::print_stdout, reason = "this is what the command answers")]
pub async fn run(options: &Options) -> Result<(), BoxError> {
    let channel = options.target.connect().await?;
    let request = match options.what.contains('/') {
        true => WhyRequest { record: options.what.clone(), ..WhyRequest::default() },
        false => WhyRequest { event_id: options.what.clone(), ..WhyRequest::default() },
    };
    let mut known = false;
    for service in rapport_proto::services() {
        let mut client = LedgerServiceClient::new(channel.clone());
        let told = match client.why(of(service, request.clone())).await {
            Ok(why) => why.into_inner().explanations,
            Err(status) if status.code() == Code::NotFound => continue,
            Err(status) => return Err(status.message().to_owned().into()),
        };
        for explanation in &told {
            known = true;
            println!("{}", explained(service, explanation));
        }
    }
    if known { Ok(()) } else { Err(format!("no service knows anything of `{}`", options.what).into()) }
}

/// An explanation, line by line.
fn explained(service: &str, of: &Explanation) -> String {
    let mut lines = vec![match &of.event {
        Some(event) => format!("{service}: {}", told(event)),
        None => format!("{service}: because of event {}", of.event_id),
    }];
    lines.extend(of.causes.iter().map(|cause| format!("  followed from {}", told(cause))));
    for entry in &of.ledger_entries {
        let outcome = entry.outcome().as_str_name().trim_start_matches("LEDGER_OUTCOME_").to_lowercase();
        let times =
            if entry.attempts > 1 { format!(" after {} tries", entry.attempts) } else { String::new() };
        let why = if entry.problem.is_empty() { String::new() } else { format!(": {}", entry.problem) };
        lines.push(format!("  started {}: {outcome}{times}{why}", entry.trigger));
    }
    for item in &of.parked_items {
        let state = item.state().as_str_name().trim_start_matches("PARKED_ITEM_STATE_").to_lowercase();
        lines.push(format!(
            "  {state} {} of {}: {} (item {})",
            item.r#type, item.handler, item.problem, item.id
        ));
    }
    lines.extend(of.followed_by.iter().map(|event| format!("  then {}", told(event))));
    if lines.len() == 1 {
        lines.push("  nothing followed from it here".into());
    }
    lines.join("\n")
}

/// An event in one line.
fn told(event: &Event) -> String {
    let time = event.time.as_ref().map(ToString::to_string).unwrap_or_default();
    let changed = match event.changed_paths.as_slice() {
        [] => String::new(),
        paths => format!(" ({})", paths.join(", ")),
    };
    format!("{time} {} {}{changed} by {} via {}", event.subject, event.record, event.principal, event.via)
}

#[cfg(test)]
mod tests {
    use rapport_proto::events::v1::{LedgerEntry, LedgerOutcome};

    use super::*;

    #[test]
    fn an_explanation_reads_from_top_to_bottom() {
        let event = Event {
            subject: "customer.updated.v1".into(),
            record: "customer.customer/7".into(),
            changed_paths: vec!["status".into()],
            principal: "identity.user/1".into(),
            via: "console".into(),
            ..Event::default()
        };
        let entry = LedgerEntry {
            trigger: "webhook/9".into(),
            outcome: LedgerOutcome::Failed.into(),
            problem: "the receiver answered 503".into(),
            attempts: 3,
            ..LedgerEntry::default()
        };
        let of = Explanation { event: Some(event), ledger_entries: vec![entry], ..Explanation::default() };
        assert_eq!(
            explained("customer", &of),
            "customer:  customer.updated.v1 customer.customer/7 (status) by identity.user/1 via console\n  \
             started webhook/9: failed after 3 tries: the receiver answered 503"
        );
    }
}
