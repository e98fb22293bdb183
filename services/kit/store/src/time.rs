//! Instants as the contract gives them, and days and instants as texts have them.
use prost_types::Timestamp;
use rapport_kernel::{Date, Error, Instant};

/// An instant as protobuf's `Timestamp`.
pub fn to_proto(instant: Instant) -> Timestamp {
    Timestamp { seconds: instant.as_seconds(), nanos: instant.subsec_nanos() }
}

/// The instant that came in the field `field`.
pub fn from_proto(field: &str, timestamp: &Timestamp) -> Result<Instant, Error> {
    Instant::from_parts(timestamp.seconds, timestamp.nanos)
        .ok_or_else(|| Error::invalid(field, "is outside the years -9999 to 9999"))
}

/// A civil date written `YYYY-MM-DD`, in the years 1 to 9999: what filters read and the database keeps alike.
pub(crate) fn civil(text: &str) -> Option<Date> {
    let date: Date = text.parse().ok()?;
    (date.civil().year() >= 1 && date.to_string() == text).then_some(date)
}

/// An instant in RFC 3339, in the years 1 to 9999.
pub(crate) fn instant(text: &str) -> Option<Instant> {
    let plain = text.bytes().all(|b| b.is_ascii_digit() || b"-+:.TtZz ".contains(&b));
    let instant: Instant = if plain { text.parse().ok()? } else { return None };
    (1..=9999).contains(&instant.timestamp().to_zoned(jiff::tz::TimeZone::UTC).year()).then_some(instant)
}
