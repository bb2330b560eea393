//! `flowmeter unmapped`.

use std::io::Write;

use anyhow::Result;
use clap::Args;
use comfy_table::Table;
use serde::Deserialize;
use serde_json::Value;

use crate::{client::Client, table};

/// What to do about it.
const HINT: &str = "They are kept. To map them, add a tenant or attributions (tenant with workflow, tag or project) \
                    to the source in its file, and `flowmeter apply` it; they are then counted once.";

/// What happens to executions that were pushed for a source that several tenants share.
const HELD: &str = "executions were pushed for sources that several tenants share, and count once the next poll has shown them.";

/// Arguments of `flowmeter unmapped`.
#[derive(Debug, Args)]
pub struct Unmapped {
    /// One source; all of them if missing.
    source: Option<String>,
    /// Show the gateway's own answer.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Deserialize)]
struct List {
    executions: u64,
    /// An older gateway does not send it.
    #[serde(default)]
    executions_held: u64,
    workflows_total: u64,
    workflows: Vec<Workflow>,
}

#[derive(Debug, Deserialize)]
struct Workflow {
    source: String,
    workflow: String,
    name: Option<String>,
    tags: Vec<String>,
    project: Option<String>,
    executions: u64,
    first_stopped_at: Option<String>,
    last_stopped_at: Option<String>,
}

impl Unmapped {
    /// Asks the gateway and prints a table.
    pub async fn run(&self, client: &Client, out: &mut dyn Write) -> Result<()> {
        let query: Vec<(&str, &str)> = self.source.iter().map(|id| ("source", id.as_str())).collect();
        let answer: Value = client.get_with(&["unmapped"], &query).await?;
        if self.json {
            writeln!(out, "{answer:#}")?;
            return Ok(());
        }
        let list: List = serde_json::from_value(answer)?;
        let table = workflow_table(&list.workflows);
        writeln!(out, "{}", table::or_none(&table, "Every execution belongs to a tenant."))?;
        if list.executions > 0 {
            let (executions, workflows) =
                (table::number(list.executions), table::number(list.workflows_total));
            writeln!(
                out,
                "{executions} executions of {workflows} workflows belong to no tenant yet. {HINT}"
            )?;
        }
        if list.executions_held > 0 {
            writeln!(out, "{} {HELD}", table::number(list.executions_held))?;
        }
        Ok(())
    }
}

fn workflow_table(workflows: &[Workflow]) -> Table {
    let header = ["source", "workflow", "name", "tags", "project", "executions", "first", "last"];
    let mut table = table::new(&header);
    let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
    for workflow in workflows {
        table.add_row([
            workflow.source.clone(),
            workflow.workflow.clone(),
            or_dash(&workflow.name),
            workflow.tags.join(", "),
            or_dash(&workflow.project),
            table::number(workflow.executions),
            or_dash(&workflow.first_stopped_at),
            or_dash(&workflow.last_stopped_at),
        ]);
    }
    table::right(&mut table, &[5]);
    table
}

#[cfg(test)]
crate::answers::reads!("list_unmapped" => List);
