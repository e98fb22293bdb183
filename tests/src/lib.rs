//! Tests across services; see `suite/`.
