//! When each source is swept, and by which replica: due sources are leased in the database, and sources near a limit come more often.
//! May use `sweep` and `store`.

pub mod follow_catalog;
pub mod near_limit;
pub mod pace;
pub mod rounds;
