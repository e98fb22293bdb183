//! Imports against a real database and a real folder: a service with one resource, `gadgets`, that joined the engine.
#[cfg(test)]
mod bad_files;
#[cfg(test)]
mod bad_mappings;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod gadget;
#[cfg(test)]
mod issues;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod rows;
#[cfg(test)]
mod speed;
#[cfg(test)]
mod telco;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod undo;
#[cfg(test)]
mod world;
