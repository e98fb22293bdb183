//! Webhooks: signed, in order, complete, tried again, and never sent inside.
mod deliver;
mod hooked;
mod manage;
mod receiver;
