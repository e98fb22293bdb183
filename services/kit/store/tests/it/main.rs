//! The store against a real PostgreSQL: a database of its own for every test, cloned from a migrated template, and reached
//! as the service's role. `RAPPORT_TEST_POSTGRES` is the URL of a superuser's connection.
#[cfg(test)]
mod at_once;
#[cfg(test)]
mod cancel;
#[cfg(test)]
mod connect;
#[cfg(test)]
mod field_rules;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod figures;
#[cfg(test)]
mod house;
#[cfg(test)]
mod idempotency;
#[cfg(test)]
mod index_worker;
#[cfg(test)]
mod indexing;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod masks;
#[cfg(test)]
mod migrations;
#[cfg(test)]
mod plans;
#[cfg(test)]
mod round_trips;
#[cfg(test)]
mod scope;
#[cfg(test)]
mod states;
#[cfg(test)]
mod tenancy;
#[cfg(test)]
mod unit_of_work;
#[cfg(test)]
mod units;
#[cfg(test)]
mod widget;
#[cfg(test)]
mod wire;
#[cfg(test)]
mod world;
