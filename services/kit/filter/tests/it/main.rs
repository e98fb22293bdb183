//! What needs more than the crate itself: a real PostgreSQL, small stacks, an async runtime.

#[cfg(test)]
mod database;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod index;
#[cfg(test)]
mod property;
#[cfg(test)]
mod world;
