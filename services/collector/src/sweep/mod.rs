//! One sweep of one source: `pass` decides what to ask next and what follows from the answers (pure), `collect` asks and publishes.
//! `argument.md` shows why no execution is lost. May use `n8n`, `events`, `checks` and `store`.

pub mod collect;
pub mod cursor;
pub mod epochs;
pub mod failure;
pub mod pass;
pub mod placement;
pub mod refusals;
pub mod replay;
pub mod retention;
pub mod stream_life;
pub mod unseen;
pub mod workflows;
