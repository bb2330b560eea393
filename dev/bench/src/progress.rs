//! A line now and then about the progress of a long phase.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Pause between two lines.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The progress of a phase. Shared by the threads that work on it.
#[derive(Debug)]
pub struct Progress {
    what: String,
    total: u32,
    told_at: Mutex<Instant>,
}

impl Progress {
    /// Begins a phase: `what` completes the line "1,000 of 10,000 ...".
    pub fn start(what: &str, total: u32) -> Self {
        Self { what: what.to_owned(), total, told_at: Mutex::new(Instant::now()) }
    }

    /// Prints it, unless it was printed a moment ago.
    pub fn tell(&self, done: u32) {
        let mut told_at = self.told_at.lock().unwrap_or_else(PoisonError::into_inner);
        if told_at.elapsed() >= TELL_EVERY {
            *told_at = Instant::now();
            println!("  {done} of {} {}", self.total, self.what);
        }
    }
}
