//! A cluster as production has it, on one machine: three NATS nodes with TLS, and a Postgres with a synchronous standby.
//! In a room of its own ([`Room`]) each server has a network namespace, so that a node can be lost or cut off; without one,
//! the brokers listen on 127.0.0.1.

mod authority;
mod brokers;
mod databases;
mod room;

pub use self::{
    brokers::{Brokers, NODES},
    databases::Databases,
    room::{Entered, Host, Room, enter},
};
