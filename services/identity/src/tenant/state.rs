//! The states of a tenant, and which may follow which.
use rapport_kernel::{Error, TenantState};
use rapport_proto::identity::v1 as pb;
use serde::{Serialize, Serializer};
use sqlx::{Decode, Postgres, Type, error::BoxDynError, postgres::PgValueRef};

/// A tenant's state, as the directory keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(pub(crate) TenantState);

impl State {
    pub(super) const fn to_proto(self) -> pb::TenantState {
        match self.0 {
            TenantState::Active => pb::TenantState::Active,
            TenantState::ReadOnly => pb::TenantState::ReadOnly,
            TenantState::Moving => pb::TenantState::Moving,
            TenantState::Suspended => pb::TenantState::Suspended,
            TenantState::Deleted => pb::TenantState::Deleted,
        }
    }

    /// # Errors
    /// `Rule` for a deleted tenant: what is about to be erased is not brought back.
    pub(super) fn must_not_be_deleted(self) -> Result<(), Error> {
        if self.0 == TenantState::Deleted {
            return Err(Error::rule("TENANT_DELETED", "the tenant is deleted, and stays so"));
        }
        Ok(())
    }

    /// The next state.
    ///
    /// # Errors
    /// `Rule` when it may not follow.
    pub(super) fn change(self, to: TenantState) -> Result<Self, Error> {
        self.must_not_be_deleted()?;
        if self.0 == TenantState::Moving {
            return Err(Error::rule("TENANT_MOVING", "the tenant is being moved; wait until it has arrived"));
        }
        Ok(Self(to))
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.as_str())
    }
}

impl Type<Postgres> for State {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
    fn compatible(ty: &sqlx::postgres::PgTypeInfo) -> bool {
        <str as Type<Postgres>>::compatible(ty)
    }
}

impl<'r> Decode<'r, Postgres> for State {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let name = <&str as Decode<Postgres>>::decode(value)?;
        TenantState::parse(name)
            .map(Self)
            .ok_or_else(|| format!("`{name}` is not a state of a tenant").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deleted_tenant_stays_deleted_and_a_moving_one_arrives_first() {
        let change = |from, to| State(from).change(to).map(|state| state.0).map_err(|error| error.reason());
        assert_eq!(change(TenantState::Active, TenantState::Suspended), Ok(TenantState::Suspended));
        assert_eq!(change(TenantState::ReadOnly, TenantState::Active), Ok(TenantState::Active));
        assert_eq!(change(TenantState::Suspended, TenantState::Deleted), Ok(TenantState::Deleted));
        assert_eq!(change(TenantState::Deleted, TenantState::Active), Err("TENANT_DELETED"));
        assert_eq!(change(TenantState::Moving, TenantState::Suspended), Err("TENANT_MOVING"));
    }
}
