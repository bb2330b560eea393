//! Errors of changes that failed.

use std::fmt::Display;

use anyhow::{Context as _, Result};

use crate::client::ClientError;

/// Adds to the error of an attempt without a clear answer how to `repeat` it. A definite answer needs no
/// addition.
pub fn unless_definite<T>(outcome: Result<T, ClientError>, repeat: impl Display) -> Result<T> {
    match outcome {
        Err(error) if !error.is_definite() => Err(error).with_context(|| repeat.to_string()),
        other => Ok(other?),
    }
}
