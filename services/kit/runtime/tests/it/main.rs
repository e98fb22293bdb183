//! The layers, tried through a real client over HTTP/2 on loopback, around handlers of the real contract whose answers
//! each test chooses.
#[cfg(test)]
mod callers;
#[cfg(test)]
mod cost;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod server;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod telemetry;
#[cfg(test)]
mod world;
