//! Who may call: tokens that are issued and revoked, and the sessions of people. A token is known by its hash only.
//! May use `store`. The routes in `api` ask here before anything else.

pub mod access_tokens;
pub mod token;
