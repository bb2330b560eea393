//! Recording executions exactly once: `intake` reads the partitions, `record` is the transaction, `decide` says what is new in it, `write` adds it to the figures.
//! May use `figures`, `periods`, `events` and `store`.

pub mod admitted;
pub mod batch;
pub mod contradictions;
pub mod decide;
pub mod error;
pub mod id_chunks;
pub mod intake;
pub mod known_workflow;
pub mod ownership;
pub mod partition_leases;
pub mod record;
pub mod source_cache;
pub mod tenant_cache;
pub mod word;
pub mod write;
