//! Identity's RPCs through its layers, against a real PostgreSQL: a database of its own for every test, cloned from a migrated
//! template, and reached as the service's role. `RAPPORT_TEST_POSTGRES` is the URL of a superuser's connection.
#[cfg(test)]
mod api_keys;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod caller;
#[cfg(test)]
mod database;
#[cfg(test)]
mod house;
#[cfg(test)]
mod invitations;
#[cfg(test)]
mod isolation;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod sessions;
#[cfg(test)]
mod sign_in;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod units;
#[cfg(test)]
mod users;
#[cfg(test)]
mod world;
