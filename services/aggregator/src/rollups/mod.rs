//! Roll-ups by hour and workflow: `fold` adds logged changes to them in groups, `unfolded` reads what is not folded yet.
//! May use `figures` and `store`.

pub mod fold;
pub mod unfolded;
