//! `flowmeter token`.

use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};

use crate::{client::Client, table};

/// Subcommands of `flowmeter token`.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Creates a token and shows it once.
    Create(Create),
    /// Lists the tokens, without the tokens themselves.
    List,
    /// Revokes a token: it is refused from then on.
    Revoke(Revoke),
}

/// Arguments of `flowmeter token create`.
#[derive(Debug, Args)]
pub struct Create {
    /// For this tenant, which then sees only its own usage; for an operator if missing.
    #[arg(long)]
    tenant: Option<String>,
}

/// Arguments of `flowmeter token revoke`.
#[derive(Debug, Args)]
pub struct Revoke {
    /// The token's id, as `list` shows it.
    id: String,
}

#[derive(Debug, Serialize)]
struct Wanted<'a> {
    tenant: Option<&'a str>,
}

#[derive(Debug, Deserialize)]
struct Made {
    id: String,
    token: String,
}

#[derive(Debug, Deserialize)]
struct TokenList {
    tokens: Vec<Known>,
}

#[derive(Debug, Deserialize)]
struct Known {
    id: String,
    kind: String,
    tenant: Option<String>,
    created_at: String,
    revoked_at: Option<String>,
}

impl Token {
    /// Runs the subcommand.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        match self {
            Self::Create(create) => {
                let wanted = Wanted { tenant: create.tenant.as_deref() };
                let made: Made = client.post(&["tokens"], &wanted).await?;
                writeln!(out, "id={}\ntoken={}", made.id, made.token)?;
            }
            Self::List => {
                let list: TokenList = client.get(&["tokens"]).await?;
                let table = token_table(&list.tokens);
                writeln!(out, "{}", table::or_none(&table, "No tokens."))?;
            }
            Self::Revoke(revoke) => {
                client.delete(&["tokens", &revoke.id]).await?;
                writeln!(out, "revoked {}", revoke.id)?;
            }
        }
        Ok(())
    }
}

fn token_table(tokens: &[Known]) -> comfy_table::Table {
    let mut table = table::new(&["id", "kind", "tenant", "created at", "revoked at"]);
    for token in tokens {
        table.add_row([
            token.id.as_str(),
            token.kind.as_str(),
            token.tenant.as_deref().unwrap_or("-"),
            token.created_at.as_str(),
            token.revoked_at.as_deref().unwrap_or("-"),
        ]);
    }
    table
}

#[cfg(test)]
crate::answers::reads!("create_token" => Made, "list_tokens" => TokenList);
