//! What the database says, in the words of the kernel's error.
use rapport_kernel::Error;
use sqlx::postgres::PgDatabaseError;

/// Translates an error of the database.
///
/// Codes `RP…` are raised by the kit's own functions (see the migration); the rest is told apart by what the caller can do
/// about it: mend the request, try again (serialization, deadlock, connection), or nothing. The database's own words name
/// tables and values, so they stay in the private source.
pub fn database(error: sqlx::Error) -> Error {
    let Some(pg) = error.as_database_error().and_then(|e| e.try_downcast_ref::<PgDatabaseError>()) else {
        return match &error {
            sqlx::Error::PoolTimedOut | sqlx::Error::Io(_) | sqlx::Error::PoolClosed => {
                Error::Unavailable(error.into())
            }
            _ => Error::internal(error),
        };
    };
    match pg.code() {
        "RP003" | "RP006" => Error::rule("TENANT_NOT_SERVED", "this tenant is not served"),
        // 25006: PostgreSQL refuses what would write in a transaction that `rapport.enter` made read-only.
        "RP004" | "25006" => Error::rule("TENANT_READ_ONLY", "this tenant may only be read for now"),
        "RP005" => Error::rule("REQUEST_ID_REUSED", "this request id was used before for something else"),
        // RP002, RP008: only where a call begins late; what begins properly learns, and goes on.
        "RP002" | "RP007" | "RP008" | "40001" | "40P01" => Error::Conflict,
        "57014" | "57P01" | "57P02" | "57P03" | "57P05" | "25P03" | "55P03" => {
            Error::Unavailable(error.into())
        }
        code if code.starts_with("08") || code.starts_with("53") => Error::Unavailable(error.into()),
        "22021" | "22P05" => {
            Error::invalid("request", "contains the character U+0000, which texts cannot have")
        }
        // Constraints are named: `<table>_<what>`. Nobody should meet one, since rules are checked before; where two
        // requests race, the slower one meets it, and finds a clear answer when it tries again.
        "23505" => Error::Conflict,
        _ => Error::internal(error),
    }
}

/// Whether the database could not do its work now, whatever was asked of it. Not so where a statement was given up because it
/// took too long: when it is tried again, that may well take as long.
pub fn is_out_of_reach(error: &Error) -> bool {
    let Error::Unavailable(cause) = error else { return false };
    let code = cause.downcast_ref::<sqlx::Error>().and_then(sqlx::Error::as_database_error);
    code.and_then(|error| error.code()).as_deref() != Some("57014")
}

/// The code with which one of the kit's own functions refused.
pub(crate) fn refusal(error: &sqlx::Error) -> Option<&str> {
    let pg = error.as_database_error()?.try_downcast_ref::<PgDatabaseError>()?;
    Some(pg.code()).filter(|code| code.starts_with("RP"))
}
