//! Whose an execution is, by the catalog's attributions: which tenants a source may belong to, and executions that are attributed later.
//! May use `recording`, `figures` and `store`.

pub mod follow_catalog;
pub mod map_unmapped;
