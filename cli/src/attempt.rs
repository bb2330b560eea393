//! What is said of a change that did not come about.

use std::fmt::Display;

use anyhow::{Context as _, Result};

use crate::client::ClientError;

/// Says of an attempt without a clear answer that `what` may have happened, and how to repeat it. A definite answer says
/// all there is to say.
pub fn unless_definite<T>(outcome: Result<T, ClientError>, repeat: impl Display) -> Result<T> {
    match outcome {
        Err(error) if !error.is_definite() => Err(error).with_context(|| repeat.to_string()),
        other => Ok(other?),
    }
}
