//! Usage as the aggregator publishes it: live figures, closed periods, and what follows from them (forecast, comparison, parts and their cost).
//! May use `store`. Counts nothing itself.

pub mod comparison;
pub mod forecast;
pub mod keep_periods;
pub mod live;
pub mod parts;
pub mod shares;
