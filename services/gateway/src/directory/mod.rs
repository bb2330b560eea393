//! The catalog: `editor` changes its originals and publishes them, `snapshot` is the copy in memory that all answers read.
//! `restate` brings database and broker together again after one of them was restored, `pairs` finds values that contradict each other.
//! May use `store`.

pub mod editor;
pub mod pairs;
pub mod restate;
pub mod snapshot;
