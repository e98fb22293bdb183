//! The door against real sockets on this machine: what may not be called is not, what may be called cannot take too much.
#[cfg(test)]
mod calls;
#[cfg(test)]
mod caps;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod names;
#[cfg(test)]
mod tls;
#[cfg(test)]
mod urls;
#[cfg(test)]
mod world;
