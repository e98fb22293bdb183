//! Ids that know what they name, so that a user's id never goes where a customer's is meant.
use std::{fmt, marker::PhantomData, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sqlx::{Database, Decode, Encode, Type, encode::IsNull, error::BoxDynError};
use uuid::Uuid;

use crate::{Error, RecordName, record::Kind};

/// The id of a `T`: a UUID, version 7 where Rapport makes it (so that ids of one time lie together in an index).
pub struct Id<T> {
    uuid: Uuid,
    of: PhantomData<fn() -> T>,
}

impl<T> Id<T> {
    /// Takes a UUID as the id of a `T`.
    pub const fn new(uuid: Uuid) -> Self {
        Self { uuid, of: PhantomData }
    }

    /// The UUID.
    pub const fn uuid(self) -> Uuid {
        self.uuid
    }

    /// Reads an id that came in the field `field`.
    pub fn parse(field: &str, text: &str) -> Result<Self, Error> {
        text.parse().map_err(|_| Error::invalid(field, format!("`{}` is not a UUID", crate::cut(text))))
    }
}

impl<T: Kind> Id<T> {
    /// Reads a reference in the field `field`: the record's name, or its bare UUID.
    pub fn parse_reference(field: &str, text: &str) -> Result<Self, Error> {
        if let Ok(uuid) = text.parse() {
            return Ok(Self::new(uuid));
        }
        let name: RecordName = text.parse().map_err(|_| {
            let example = format!("`{}/0190a3c4-…`", T::KIND);
            Error::invalid(field, format!("`{}` is not a record name like {example}", crate::cut(text)))
        })?;
        if name.kind() != T::KIND {
            return Err(Error::invalid(
                field,
                format!("names a `{}` where a `{}` is meant", name.kind(), T::KIND),
            ));
        }
        Ok(Self::new(name.id()))
    }

    /// The record's name, e.g. `identity.user/0190…`.
    pub fn name(self) -> String {
        format!("{}/{}", T::KIND, self.uuid)
    }
}

impl<T> Clone for Id<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Id<T> {}
impl<T> PartialEq for Id<T> {
    fn eq(&self, other: &Self) -> bool {
        self.uuid == other.uuid
    }
}
impl<T> Eq for Id<T> {}
impl<T> PartialOrd for Id<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for Id<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.uuid.cmp(&other.uuid)
    }
}
impl<T> std::hash::Hash for Id<T> {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.uuid.hash(state);
    }
}
impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)
    }
}
impl<T> fmt::Debug for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uuid.fmt(f)
    }
}
impl<T> From<Uuid> for Id<T> {
    fn from(uuid: Uuid) -> Self {
        Self::new(uuid)
    }
}
impl<T> From<Id<T>> for Uuid {
    fn from(id: Id<T>) -> Self {
        id.uuid
    }
}
impl<T> FromStr for Id<T> {
    type Err = uuid::Error;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::new)
    }
}
impl<T> Serialize for Id<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.uuid.serialize(serializer)
    }
}
impl<'de, T> Deserialize<'de> for Id<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Uuid::deserialize(deserializer).map(Self::new)
    }
}
impl<T, DB: Database> Type<DB> for Id<T>
where
    Uuid: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        Uuid::type_info()
    }
    fn compatible(ty: &DB::TypeInfo) -> bool {
        Uuid::compatible(ty)
    }
}
impl<'q, T, DB: Database> Encode<'q, DB> for Id<T>
where
    Uuid: Encode<'q, DB>,
{
    fn encode_by_ref(&self, buf: &mut DB::ArgumentBuffer) -> Result<IsNull, BoxDynError> {
        self.uuid.encode_by_ref(buf)
    }
}
impl<'r, T, DB: Database> Decode<'r, DB> for Id<T>
where
    Uuid: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, BoxDynError> {
        Uuid::decode(value).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Unit;
    impl Kind for Unit {
        const KIND: &'static str = "identity.unit";
    }

    #[test]
    fn references_are_names_or_bare_uuids() {
        let uuid = Uuid::from_u128(7);
        assert_eq!(Id::<Unit>::parse_reference("unit", &uuid.to_string()).unwrap().uuid(), uuid);
        assert_eq!(Id::<Unit>::parse_reference("unit", &Id::<Unit>::new(uuid).name()).unwrap().uuid(), uuid);
        let wrong = Id::<Unit>::parse_reference("unit", &format!("identity.user/{uuid}")).unwrap_err();
        assert_eq!(wrong.to_string(), "unit: names a `identity.user` where a `identity.unit` is meant");
        assert!(Id::<Unit>::parse_reference("unit", "the second floor").is_err());
    }
}
