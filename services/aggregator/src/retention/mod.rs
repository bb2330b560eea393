//! How long executions are kept: `rounds` prepares and drops months, `retire` keeps the ids of a month that goes.
//! May use `store`.

pub mod retire;
pub mod rounds;
