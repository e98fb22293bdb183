//! What one does from a terminal, besides `up`.
pub mod audit;
mod client;
pub mod import;
pub mod migrate;
pub mod serve;
pub mod status;
pub mod tenant;
pub mod why;
