#![doc = include_str!("../README.md")]

mod archive;
mod blobs;
mod error;
mod key;
mod open;
mod put;
mod unfinished;

pub use archive::Archive;
pub use blobs::Blobs;
pub use key::Key;
pub use open::Settings;
pub use put::Written;
