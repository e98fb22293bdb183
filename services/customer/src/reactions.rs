//! What we do when other services speak.
use rapport_events::Reactions;

/// Identity: who belongs to which unit.
pub(crate) fn reactions() -> Reactions {
    rapport_events::directory()
}
