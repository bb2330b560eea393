//! The list of n8n instances that a benchmark has started.

use std::{fs, path::Path};

use anyhow::{Context, Result};

/// One n8n.
#[derive(Debug)]
pub struct Instance {
    /// Its name, and its source's.
    pub name: String,
    /// Its address, without the API's path.
    pub address: String,
    /// Its API key.
    pub key: String,
}

/// Reads a file with a line `NAME ADDRESS KEY` for each instance.
pub fn read(file: &Path) -> Result<Vec<Instance>> {
    let list = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    list.lines().map(parse).collect()
}

fn parse(line: &str) -> Result<Instance> {
    let mut words = line.split_whitespace().map(str::to_owned);
    let mut word = || words.next().context("a line is `NAME ADDRESS KEY`");
    Ok(Instance { name: word()?, address: word()?, key: word()? })
}
