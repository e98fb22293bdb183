//! The binary as a person uses it: real processes with private servers.
#[cfg(test)]
mod audit;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod cluster;
#[cfg(test)]
mod dashboards;
#[cfg(test)]
mod disks;
#[cfg(test)]
mod installation;
#[cfg(test)]
mod integrate;
#[cfg(test)]
mod machine;
#[cfg(test)]
mod machines;
#[cfg(test)]
mod tour;
#[cfg(test)]
mod up;
