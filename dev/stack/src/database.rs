//! Small queries to a database, through `psql`, which comes with Postgres.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::install;

/// Runs one query. The answer is plain text: a line for each row, with `|` between columns.
pub fn ask(url: &str, sql: &str) -> Result<String> {
    let output = Command::new(psql()?)
        .args(["--no-psqlrc", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1", "--dbname", url])
        .args(["--command", sql])
        .stdin(Stdio::null())
        .output()
        .context("cannot start psql")?;
    if !output.status.success() {
        bail!("psql failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Creates a database on the server of this URL, if it does not exist yet.
pub fn ensure(server_url: &str, name: &str) -> Result<()> {
    if ask(server_url, &format!("SELECT 1 FROM pg_database WHERE datname = '{name}'"))? != "1" {
        ask(server_url, &format!("CREATE DATABASE \"{name}\""))?;
    }
    Ok(())
}

/// Creates an empty database on the server of this URL, in place of an earlier one. Returns its URL.
pub fn replace(server_url: &str, name: &str) -> Result<String> {
    ask(server_url, &format!("DROP DATABASE IF EXISTS \"{name}\" WITH (FORCE)"))?;
    ensure(server_url, name)?;
    Ok(at(server_url, name))
}

/// The URL of another database on the same server.
fn at(server_url: &str, name: &str) -> String {
    let (address, options) = match server_url.split_once('?') {
        Some((address, options)) => (address, format!("?{options}")),
        None => (server_url, String::new()),
    };
    let host_end = address.find("://").map_or(0, |scheme| scheme + 3);
    let server = match address.get(host_end..).and_then(|rest| rest.find('/')) {
        Some(slash) => address.get(..host_end + slash).unwrap_or(address),
        None => address,
    };
    format!("{server}/{name}{options}")
}

fn psql() -> Result<PathBuf> {
    match install::on_path("psql") {
        Some(found) => Ok(found),
        None => Ok(install::postgres()?.join("psql")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_databases_name_is_replaced() {
        assert_eq!(at("postgres://u:p@h:1/postgres", "x"), "postgres://u:p@h:1/x");
        assert_eq!(at("postgres://h/a?sslmode=require", "x"), "postgres://h/x?sslmode=require");
        assert_eq!(at("postgres://h:1", "x"), "postgres://h:1/x");
    }
}
