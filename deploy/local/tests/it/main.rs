//! Real servers, started and stopped as people and crashes do it.

#[cfg(test)]
mod nats;
#[cfg(test)]
mod place;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod postgres_faults;
#[cfg(test)]
mod with_servers;
