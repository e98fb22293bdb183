//! Tests across services, in one binary: stories, the contract over every method, isolation, scope.
#[cfg(test)]
mod contract;
#[cfg(test)]
mod stories;
