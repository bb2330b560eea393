//! n8n's public API and what it answers: the client, rows of executions, workflows, and JSON that is read with care. One odd element costs only itself.
//! Uses nothing else of the service.

pub mod address;
pub mod client;
pub mod json;
pub mod pages;
pub mod row;
pub mod workflow;
