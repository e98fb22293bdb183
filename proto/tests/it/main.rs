//! Tests of the contract beyond its code.
#[cfg(test)]
mod registry;
