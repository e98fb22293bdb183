//! What `docs/integrate.md` tells others to run keeps what it promises: the programs that the guide shows are started as they
//! are, killed again and again, and compared with what the services say.
mod guide;
mod hear;
mod python;
mod receiver;
mod warehouse;
