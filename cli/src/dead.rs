//! `flowmeter dead`: messages that a service could not handle.

use std::io::Write;

use anyhow::Result;
use clap::{Args, Subcommand};
use messaging::Bus;
use serde_json::json;

use crate::{
    dead_letters::{Letter, LetterError, Letters},
    payload, table,
};

/// Longest reason in the table, in characters; `show` prints all of it.
const REASON_CHARS_MAX: usize = 90;

/// Subcommands of `flowmeter dead`.
#[derive(Debug, Subcommand)]
pub enum Dead {
    /// Lists the dead letters, the oldest first.
    List(List),
    /// Shows one dead letter with its message.
    Show(Show),
    /// Publishes the original message again and removes the dead letter.
    Replay(Replay),
}

/// Arguments of `flowmeter dead list`.
#[derive(Debug, Args)]
pub struct List {
    /// Only what this service could not handle.
    #[arg(long)]
    service: Option<String>,
    /// One JSON object a line.
    #[arg(long)]
    json: bool,
}

/// Arguments of `flowmeter dead show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The letter's number, as `list` shows it.
    sequence: u64,
}

/// Arguments of `flowmeter dead replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The letter's number, as `list` shows it.
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    sequence: Option<u64>,
    /// All letters that are there now.
    #[arg(long)]
    all: bool,
    /// Only what this service could not handle.
    #[arg(long, requires = "all")]
    service: Option<String>,
    /// Keep the letter.
    #[arg(long)]
    keep: bool,
}

impl Dead {
    /// Runs the subcommand.
    pub async fn run(&self, bus: &Bus, out: &mut dyn Write) -> Result<()> {
        let letters = Letters::open(bus).await?;
        match self {
            Self::List(list) => list.run(&letters, out).await,
            Self::Show(show) => show.run(bus, &letters, out).await,
            Self::Replay(replay) => replay.run(&letters, out).await,
        }
    }
}

impl List {
    async fn run(&self, letters: &Letters, out: &mut dyn Write) -> Result<()> {
        let mut table = table::new(&["no.", "failed at", "service", "deliveries", "subject", "reason"]);
        let mut reading = letters.read(self.service.as_deref()).await?;
        while let Some(letter) = next_readable(&mut reading).await? {
            if self.json {
                writeln!(out, "{}", as_json(&letter))?;
            } else {
                table.add_row([
                    letter.sequence.to_string(),
                    failed_at(&letter),
                    letter.content.service.clone(),
                    letter.content.deliveries.to_string(),
                    letter.content.original_subject.clone(),
                    table::shortened(&letter.content.reason, REASON_CHARS_MAX),
                ]);
            }
        }
        if !self.json {
            writeln!(out, "{}", table::or_none(&table, "No dead letters."))?;
        }
        Ok(())
    }
}

impl Show {
    async fn run(&self, bus: &Bus, letters: &Letters, out: &mut dyn Write) -> Result<()> {
        let letter = letters.get(self.sequence).await?;
        let content = &letter.content;
        writeln!(out, "number      {}", letter.sequence)?;
        writeln!(out, "service     {}", content.service)?;
        writeln!(out, "failed at   {}", failed_at(&letter))?;
        writeln!(out, "deliveries  {}", content.deliveries)?;
        writeln!(out, "subject     {}", content.original_subject)?;
        writeln!(out, "reason      {}", content.reason)?;
        for header in &content.original_headers {
            writeln!(out, "header      {}: {}", header.name, header.value)?;
        }
        writeln!(out, "message     {} bytes", content.original_payload.len())?;
        let shown = payload::describe(bus.namespace(), &content.original_subject, &content.original_payload);
        writeln!(out, "{shown}")?;
        Ok(())
    }
}

impl Replay {
    async fn run(&self, letters: &Letters, out: &mut dyn Write) -> Result<()> {
        if let Some(sequence) = self.sequence {
            return self.replay(letters, &letters.get(sequence).await?, out).await;
        }
        let mut reading = letters.read(self.service.as_deref()).await?;
        let mut replayed = 0_u64;
        while let Some(letter) = next_readable(&mut reading).await? {
            self.replay(letters, &letter, out).await?;
            replayed += 1;
        }
        writeln!(out, "{replayed} replayed")?;
        Ok(())
    }

    /// Removes a letter only once the broker has its replay: a crash in between replays it again, which
    /// services tolerate.
    async fn replay(&self, letters: &Letters, letter: &Letter, out: &mut dyn Write) -> Result<()> {
        letters.replay(letter).await?;
        if !self.keep {
            letters.remove(letter).await?;
        }
        writeln!(out, "replayed {} to {}", letter.sequence, letter.content.original_subject)?;
        Ok(())
    }
}

/// A damaged letter is reported and skipped, so that it does not hide the others.
async fn next_readable(reading: &mut crate::dead_letters::Reading) -> Result<Option<Letter>, LetterError> {
    loop {
        match reading.next().await {
            Err(LetterError::Undecodable { sequence, source }) => {
                eprintln!("Dead letter {sequence} cannot be read: {source}");
            }
            other => return other,
        }
    }
}

fn failed_at(letter: &Letter) -> String {
    proto::instant(letter.content.failed_at.as_ref(), "failed_at")
        .ok()
        .flatten()
        .map_or_else(|| "-".to_owned(), |instant| instant.to_string())
}

fn as_json(letter: &Letter) -> serde_json::Value {
    json!({
        "sequence": letter.sequence,
        "service": letter.content.service,
        "failed_at": failed_at(letter),
        "deliveries": letter.content.deliveries,
        "subject": letter.content.original_subject,
        "reason": letter.content.reason,
        "payload_bytes": letter.content.original_payload.len(),
    })
}
