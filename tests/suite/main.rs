//! Tests across services, in one binary: stories, the contract over every method, isolation, scope, and the programs of the
//! guide for those who integrate.
#[cfg(test)]
mod contract;
#[cfg(test)]
mod integrate;
#[cfg(test)]
mod stories;
