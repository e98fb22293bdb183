//! The log and the bus, on a real PostgreSQL and a real nats-server.
#[cfg(test)]
mod checkpoints;
#[cfg(test)]
mod copies;
#[cfg(test)]
mod erase;
#[cfg(test)]
mod feed;
#[cfg(test)]
mod hear;
#[cfg(test)]
mod lead;
#[cfg(test)]
mod note;
#[cfg(test)]
mod parked;
#[cfg(test)]
mod publish;
#[cfg(test)]
mod queues;
#[cfg(test)]
mod restore;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod sequence;
#[cfg(test)]
mod verify;
#[cfg(test)]
mod webhooks;
#[cfg(test)]
mod world;
