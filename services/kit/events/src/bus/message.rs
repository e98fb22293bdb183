//! Lines of the log as messages of the bus, and back.
use std::str::FromStr;

use async_nats::{HeaderMap, jetstream::message::PublishMessage};
use bytes::Bytes;
use rapport_kernel::Instant;
use uuid::Uuid;

use super::names::{Header, subject};
use crate::log::Line;

/// A message of the bus.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The time of the leader that published it.
    pub epoch: i64,
    /// What it says. Without a payload, that is in the log alone.
    pub line: Line,
    /// Why the payload is not here.
    pub tombstone: Option<String>,
}

impl Message {
    /// As it is published by `service`: subject, and what is sent there. The leader and its `attempt` tell publications of the
    /// same event apart, where the bus may have lost one and must not take the next for its repetition.
    pub(crate) fn publication(&self, root: &str, service: &str, attempt: i64) -> (String, PublishMessage) {
        let Line { part, subject: event, event_id, payload, .. } = &self.line;
        let id = format!("{event_id}.{}.{attempt}", self.epoch);
        let payload = payload.clone().filter(|_| self.tombstone.is_none()).unwrap_or_default();
        let message = PublishMessage::build().headers(self.headers(service)).payload(Bytes::from(payload));
        (subject(root, service, *part, event), message.message_id(id))
    }

    fn headers(&self, service: &str) -> HeaderMap {
        let line = &self.line;
        let mut headers = HeaderMap::new();
        let mut set = |header: Header, value: String| headers.insert(header.as_str(), value.as_str());
        set(Header::SpecVersion, "1.0".into());
        set(Header::Id, line.event_id.to_string());
        set(Header::Source, format!("/rapport/{service}"));
        set(Header::Type, line.r#type.clone());
        set(Header::Subject, format!("{service}.{}/{}", line.resource, line.record_id));
        set(Header::Time, line.time.to_string());
        set(Header::ContentType, "application/protobuf".into());
        set(Header::Tenant, line.tenant_id.to_string());
        set(Header::Number, line.number.to_string());
        set(Header::PartNumber, line.part_number.to_string());
        set(Header::TenantNumber, line.tenant_number.to_string());
        set(Header::RecordVersion, line.version.to_string());
        set(Header::Principal, line.principal.clone());
        set(Header::Via, line.via.clone());
        set(Header::Epoch, self.epoch.to_string());
        let optional = [
            (Header::ChangedPaths, Some(line.changed_paths.join(",")).filter(|paths| !paths.is_empty())),
            (Header::OnBehalfOf, line.on_behalf_of.map(|id| id.to_string())),
            (Header::Cause, line.cause.map(|id| id.to_string())),
            (Header::TraceParent, line.trace.clone()),
            (Header::Tombstone, self.tombstone.clone()),
        ];
        for (header, value) in optional {
            if let Some(value) = value {
                set(header, value);
            }
        }
        headers
    }

    /// Reads a message of `service`, below the first word of its subject.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn read(
        service: &str,
        subject: &str,
        headers: Option<&HeaderMap>,
        payload: &[u8],
    ) -> Result<Self, String> {
        let headers = Headers(headers.ok_or("it has no headers")?);
        let source = headers.text(Header::Source)?;
        if headers.text(Header::SpecVersion)? != "1.0" || source != format!("/rapport/{service}") {
            return Err(format!("it is not a CloudEvents 1.0 of /rapport/{service}"));
        }
        let rest = subject.split_once('.').and_then(|(_, rest)| rest.strip_prefix(service));
        let (part, event) = rest
            .and_then(|rest| rest.strip_prefix('.')?.split_once('.'))
            .ok_or("its subject is none of ours")?;
        let part: i16 = part.parse().map_err(|_| format!("`{part}` is no partition"))?;
        let record = headers.text(Header::Subject)?;
        let (kind, record_id) =
            record.split_once('/').ok_or_else(|| format!("`{record}` names no record"))?;
        let resource = kind.strip_prefix(service).and_then(|rest| rest.strip_prefix('.'));
        let tombstone = headers.optional(Header::Tombstone);
        let line = Line {
            number: headers.parse(Header::Number)?,
            part,
            part_number: headers.parse(Header::PartNumber)?,
            tenant_number: headers.parse(Header::TenantNumber)?,
            event_id: headers.parse(Header::Id)?,
            tenant_id: headers.parse(Header::Tenant)?,
            resource: resource.ok_or_else(|| format!("`{record}` is no record of {service}"))?.to_owned(),
            record_id: record_id.parse().map_err(|_| format!("`{record}` names no record"))?,
            version: headers.parse(Header::RecordVersion)?,
            subject: event.to_owned(),
            r#type: headers.text(Header::Type)?.to_owned(),
            changed_paths: headers
                .optional(Header::ChangedPaths)
                .map(|paths| paths.split(',').map(str::to_owned).collect())
                .unwrap_or_default(),
            payload: tombstone.is_none().then(|| payload.to_vec()),
            principal: headers.text(Header::Principal)?.to_owned(),
            on_behalf_of: headers.parse_optional(Header::OnBehalfOf)?,
            via: headers.text(Header::Via)?.to_owned(),
            cause: headers.parse_optional(Header::Cause)?,
            trace: headers.optional(Header::TraceParent).map(str::to_owned),
            time: headers.parse::<Instant>(Header::Time)?,
        };
        let expected = rapport_store::part(line.tenant_id, line.record_id);
        if line.part != i16::from(expected) {
            return Err(format!("a record of partition {expected} came on the subject of partition {part}"));
        }
        Ok(Self { epoch: headers.parse(Header::Epoch)?, line, tombstone: tombstone.map(str::to_owned) })
    }
}

/// Headers, read with words for what is wrong.
struct Headers<'h>(&'h HeaderMap);

impl<'h> Headers<'h> {
    fn optional(&self, header: Header) -> Option<&'h str> {
        self.0.get(header.as_str()).map(async_nats::HeaderValue::as_str)
    }

    fn text(&self, header: Header) -> Result<&'h str, String> {
        self.optional(header).ok_or_else(|| format!("it has no header {}", header.as_str()))
    }

    fn parse<T: FromStr>(&self, header: Header) -> Result<T, String> {
        let text = self.text(header)?;
        text.parse().map_err(|_| format!("its header {} is `{text}`", header.as_str()))
    }

    fn parse_optional(&self, header: Header) -> Result<Option<Uuid>, String> {
        self.optional(header).map(|_| self.parse(header)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use rapport_kernel::Clock;

    use super::*;

    fn message() -> Message {
        let clock = Clock::system();
        // Always the same ones: every thirty-second other tenant has this record in the same partition.
        let (tenant_id, record_id) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let line = Line {
            number: 41,
            part: rapport_store::part(tenant_id, record_id).into(),
            part_number: 7,
            tenant_number: 9,
            event_id: clock.new_uuid(),
            tenant_id,
            resource: "customer".into(),
            record_id,
            version: 3,
            subject: "customer.updated.v1".into(),
            r#type: "rapport.customer.v1.CustomerUpdated".into(),
            changed_paths: vec!["display_name".into(), "attributes.city".into()],
            payload: Some(vec![1, 2, 3]),
            principal: "identity.user/0190".into(),
            on_behalf_of: Some(clock.new_uuid()),
            via: "console".into(),
            cause: None,
            trace: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            time: clock.now(),
        };
        Message { epoch: 5, line, tombstone: None }
    }

    fn read(message: &Message, change: impl FnOnce(&mut HeaderMap)) -> Result<Message, String> {
        let mut headers = message.headers("customer");
        change(&mut headers);
        let subject = subject("rapport", "customer", message.line.part, &message.line.subject);
        Message::read(
            "customer",
            &subject,
            Some(&headers),
            message.line.payload.as_deref().unwrap_or_default(),
        )
    }

    #[test]
    fn a_message_says_all_that_its_line_says() {
        let message = message();
        assert_eq!(read(&message, |_| {}), Ok(message));
    }

    #[test]
    fn a_tombstone_has_no_payload() {
        let mut message = message();
        message.tombstone = Some("2 MB are more than a message may have".into());
        message.line.payload = None;
        assert_eq!(read(&message, |_| {}), Ok(message));
    }

    #[test]
    fn what_is_not_ours_is_told_apart_in_words() {
        let message = message();
        let with = |header: Header, value: &'static str| read(&message, |h| h.insert(header.as_str(), value));
        for (header, value, problem) in [
            (Header::Source, "/rapport/sales", "it is not a CloudEvents 1.0 of /rapport/customer"),
            (Header::Number, "many", "its header ce-number is `many`"),
            (Header::Subject, "sales.deal/1", "`sales.deal/1` is no record of customer"),
            (Header::Tenant, "1", "its header ce-tenant is `1`"),
        ] {
            assert_eq!(with(header, value), Err(problem.into()));
        }
        assert!(
            with(Header::Tenant, "019a0000-0000-7000-8000-000000000000")
                .unwrap_err()
                .contains("came on the subject of partition")
        );
        assert_eq!(
            Message::read("customer", "rapport.customer.00.x", None, b""),
            Err("it has no headers".into())
        );
    }
}
