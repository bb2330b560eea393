//! `flowmeter source audit`: compares all that a source still shows with what was recorded of it, page by page.
//! May use `n8n`, `events` and `store`.

pub mod comparison;
pub mod run;
