#![doc = include_str!("../README.md")]

pub mod access;
pub mod backup;
pub mod command;
mod peers;
pub mod suite;
pub mod up;
mod witnesses;

/// Requests and imports make and drop many small texts on several threads, which this allocator does in a fraction of the time
/// of the C library's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
