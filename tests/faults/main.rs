//! What is left after processes and PostgreSQL were killed at random points of an import: every customer once, with one
//! event for each change. A file for each kind of fault; what is brought in, and what must be there, they share.
//!
//! `RAPPORT_FAULTS_SEED` repeats a run's choices, `RAPPORT_FAULTS_ROUNDS` makes more runs, each with a seed of its own.
#[cfg(test)]
mod calls;
#[cfg(test)]
mod chance;
#[cfg(test)]
mod check;
#[cfg(test)]
mod events;
#[cfg(test)]
mod file;
#[cfg(test)]
mod imports;
#[cfg(test)]
mod postgres;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod proof;
