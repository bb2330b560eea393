//! Stored values of the catalog that the gateway cannot read.

use std::io::{self, Write};

use serde::Deserialize;

/// A value that cannot be read.
#[derive(Debug, Deserialize)]
pub struct Damaged {
    id: String,
    reason: String,
}

/// A line for each: a table without them would look complete.
pub fn write(damaged: &[Damaged], kind: &str, out: &mut dyn Write) -> io::Result<()> {
    for Damaged { id, reason } in damaged {
        writeln!(out, "{kind} {id} is damaged and not listed ({reason}); apply it again to repair it")?;
    }
    Ok(())
}
