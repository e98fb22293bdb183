//! Instants to the microsecond and civil dates, as the database and the contract keep them.
use std::{fmt, str::FromStr};

use jiff::{Span, Timestamp, civil, tz::TimeZone};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sqlx::{Database, Decode, Encode, Type, encode::IsNull, error::BoxDynError};

/// A point in time, UTC, to the microsecond: finer would be lost in the database, so that what is answered would differ
/// from what is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(Timestamp);

impl Instant {
    /// The start of 1970.
    pub const EPOCH: Self = Self(Timestamp::UNIX_EPOCH);

    /// This many microseconds after the start of 1970 (before it when negative), kept within the years -9999 to 9999.
    pub fn from_micros(micros: i64) -> Self {
        Self(Timestamp::from_microsecond(micros).unwrap_or(if micros < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        }))
    }

    /// Microseconds since the start of 1970.
    pub fn as_micros(self) -> i64 {
        self.0.as_microsecond()
    }

    /// Seconds since the start of 1970, rounded down.
    pub fn as_seconds(self) -> i64 {
        self.as_micros().div_euclid(1_000_000)
    }

    /// The part below a second, in nanoseconds, as protobuf's `Timestamp` wants it.
    pub fn subsec_nanos(self) -> i32 {
        i32::try_from(self.as_micros().rem_euclid(1_000_000) * 1_000).unwrap_or_default()
    }

    /// From protobuf's `Timestamp`; `None` out of range.
    pub fn from_parts(seconds: i64, nanos: i32) -> Option<Self> {
        Timestamp::new(seconds, nanos).ok().map(Self::from)
    }

    /// Later by so many seconds (earlier when negative), kept within range.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self::from_micros(self.as_micros().saturating_add(seconds.saturating_mul(1_000_000)))
    }

    /// Later by a duration, kept within range.
    #[must_use]
    pub fn plus(self, duration: std::time::Duration) -> Self {
        let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
        Self::from_micros(self.as_micros().saturating_add(micros))
    }

    /// The instant for calculations with zones.
    pub const fn timestamp(self) -> Timestamp {
        self.0
    }

    /// The day in UTC.
    pub fn utc_date(self) -> Date {
        Date(self.0.to_zoned(TimeZone::UTC).date())
    }
}

impl From<Timestamp> for Instant {
    fn from(timestamp: Timestamp) -> Self {
        Self::from_micros(timestamp.as_microsecond())
    }
}
impl FromStr for Instant {
    type Err = jiff::Error;
    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse::<Timestamp>().map(Self::from)
    }
}

/// A day as people mean it, without a zone: birthdays, due days.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date(civil::Date);

impl Date {
    /// The day for calculations.
    pub const fn civil(self) -> civil::Date {
        self.0
    }

    /// Later by so many days (earlier when negative), kept within range.
    #[must_use]
    pub fn plus_days(self, days: i64) -> Self {
        let limit = if days < 0 { civil::Date::MIN } else { civil::Date::MAX };
        Self(Span::new().try_days(days).map_or(limit, |span| self.0.saturating_add(span)))
    }
}

impl From<civil::Date> for Date {
    fn from(date: civil::Date) -> Self {
        Self(date)
    }
}
impl FromStr for Date {
    type Err = jiff::Error;
    /// Reads `YYYY-MM-DD`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        civil::Date::strptime("%Y-%m-%d", text).map(Self)
    }
}

/// What both types have alike: text by jiff, and the database's form by its adapter.
macro_rules! stored {
    ($type:ident as $sql:ty) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(&self.0)
            }
        }
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
        impl<DB: Database> Type<DB> for $type
        where
            $sql: Type<DB>,
        {
            fn type_info() -> DB::TypeInfo {
                <$sql>::type_info()
            }
            fn compatible(ty: &DB::TypeInfo) -> bool {
                <$sql>::compatible(ty)
            }
        }
        impl<'q, DB: Database> Encode<'q, DB> for $type
        where
            $sql: Encode<'q, DB>,
        {
            fn encode_by_ref(&self, buf: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
                <$sql>::from(self.0).encode_by_ref(buf)
            }
        }
        impl<'r, DB: Database> Decode<'r, DB> for $type
        where
            $sql: Decode<'r, DB>,
        {
            fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
                Ok(Self(<$sql>::decode(value)?.to_jiff()))
            }
        }
        impl sqlx::postgres::PgHasArrayType for $type {
            fn array_type_info() -> sqlx::postgres::PgTypeInfo {
                <$sql as sqlx::postgres::PgHasArrayType>::array_type_info()
            }
        }
    };
}
stored!(Instant as jiff_sqlx::Timestamp);
stored!(Date as jiff_sqlx::Date);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_keep_microseconds_only() {
        let instant: Instant = "2026-01-31T08:00:00.123456789+08:00".parse().unwrap();
        assert_eq!(instant.to_string(), "2026-01-31T00:00:00.123456Z");
        assert_eq!(Instant::from_parts(instant.as_seconds(), instant.subsec_nanos()), Some(instant));
    }

    #[test]
    fn days_are_counted_within_range() {
        let day: Date = "2026-11-30".parse().unwrap();
        assert_eq!(day.plus_days(1).to_string(), "2026-12-01");
        assert_eq!(day.plus_days(-30).to_string(), "2026-10-31");
        assert!(day.plus_days(i64::MAX) > day && day.plus_days(i64::MIN) < day);
        let instant: Instant = "2026-12-01T07:59:59+08:00".parse().unwrap();
        assert_eq!(instant.utc_date(), day);
    }

    #[test]
    fn dates_are_strict() {
        assert_eq!("2024-02-29".parse::<Date>().unwrap().to_string(), "2024-02-29");
        for wrong in ["2023-02-29", "2024-2-9x", "29.02.2024", ""] {
            assert!(wrong.parse::<Date>().is_err(), "{wrong}");
        }
    }
}
