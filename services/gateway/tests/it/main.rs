//! The gateway through real sockets, with the real contract and small services behind it.
#[cfg(test)]
mod contract;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod errors;
#[cfg(test)]
mod files;
#[cfg(test)]
mod grpc;
#[cfg(test)]
mod json;
#[cfg(test)]
mod pages;
#[cfg(test)]
mod world;
