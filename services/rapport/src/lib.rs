#![doc = include_str!("../README.md")]

pub mod access;
pub mod backup;
pub mod command;
pub mod suite;
pub mod up;
