#![doc = include_str!("../README.md")]

mod caller;
mod edge;
mod gateway;
mod grpc;
mod headers;
mod json;
mod limits;
mod openapi;
mod pages;
mod problem;
mod rest;
mod route;
mod settings;
mod telemetry;
mod upstream;

pub use gateway::{Gateway, SetupError};
pub use settings::{Rate, Settings};
pub use upstream::{Upstream, upstream};
