//! Request rules: the standard rules of `buf.validate`, evaluated on a message before its handler sees it.
//!
//! The contract's rules are compiled once into a plan for each message type, with its patterns as automata. A rule that
//! the plan does not know fails the start: silently skipping it would open what the contract closes. What the contract
//! does not use (CEL, formats such as `email`) is not here, and a test says so by failing.
mod check;
mod compile;
mod fingerprint;

pub use compile::{Rules, UnknownRule};
pub use fingerprint::fingerprint;

#[cfg(test)]
mod tests;
