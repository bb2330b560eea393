//! How long the limit check gave no answer, and how long executions waited to be counted. Pure.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    time::{Duration, Instant},
};

/// Shorter waits are usual.
const WAIT_MIN: Duration = Duration::from_millis(500);

/// After the last fault of a drill.
const DRILLED_LAST: Duration = Duration::from_secs(15);

/// The longest waits that are printed.
const SHOWN_MAX: usize = 8;

/// A time in which something did not happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// When it last happened, or should have.
    pub from: Instant,
    /// When it happened again.
    pub to: Instant,
}

impl Wait {
    /// Its length.
    pub fn length(&self) -> Duration {
        self.to.saturating_duration_since(self.from)
    }
}

/// The waits of one kind. Of waits that overlap, the longest is kept.
#[derive(Debug, Clone, Default)]
pub struct Waits {
    /// The longest, of any length.
    pub longest: Duration,
    /// Those that are not usual, in order.
    pub long: Vec<Wait>,
}

impl Waits {
    /// Adds one.
    pub fn add(&mut self, wait: Wait) {
        self.longest = self.longest.max(wait.length());
        if wait.length() < WAIT_MIN {
            return;
        }
        match self.long.last_mut().filter(|last| wait.from < last.to) {
            Some(last) if last.length() < wait.length() => *last = wait,
            Some(_) => {}
            None => self.long.push(wait),
        }
    }
}

/// Executions that were run and are not shown as counted yet, in one period.
#[derive(Debug, Default)]
pub struct Uncounted {
    /// Executions of the period before the waiting ones.
    before: u64,
    waiting: VecDeque<Instant>,
}

impl Uncounted {
    /// An execution has run.
    pub fn ran(&mut self, at: Instant) {
        self.waiting.push_back(at);
    }

    /// This many executions of the period are shown as counted now. They are counted in any order; the total says how many
    /// still wait.
    pub fn shown(&mut self, counted: u64, now: Instant, waits: &mut Waits) {
        while self.before < counted {
            let Some(from) = self.waiting.pop_front() else { return };
            self.before += 1;
            waits.add(Wait { from, to: now });
        }
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.waiting.len()
    }
}

/// What came of asking the limit check all the time.
#[derive(Debug, Clone, Default)]
pub struct Asked {
    /// Answers by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Runs that were allowed.
    pub allowed: u64,
    /// Runs that were refused.
    pub refused: u64,
    /// Runs of a tenant without a limit that were refused.
    pub falsely_refused: u64,
    /// Requests that one gateway did not answer: the next one was asked.
    pub unanswered: u64,
    /// Counted executions beyond the limit, over all periods.
    pub overshoot: u64,
    /// Times without an answer of any gateway.
    pub answers: Waits,
    /// Times from an execution's end until the API showed it as counted.
    pub counts: Waits,
}

/// A fault with the time in which it worked.
#[derive(Debug, Clone)]
pub struct Span {
    /// What it was.
    pub fault: String,
    /// When it began and ended.
    pub wait: Wait,
}

impl Asked {
    /// The figures, with the faults that each long wait overlaps. `began` is the time that is printed as 0.
    pub fn describe(&self, spans: &[Span], began: Instant) -> impl fmt::Display {
        let mut text = String::new();
        let mut line = |name: &str, value: String| text.push_str(&format!("{name:<28}{value:>8}\n"));
        line("limit checks answered", (self.allowed + self.refused).to_string());
        for (reason, count) in &self.reasons {
            line(&format!("  {reason}"), count.to_string());
        }
        line("  refused without a limit", self.falsely_refused.to_string());
        line("asked another gateway", self.unanswered.to_string());
        line("longest without an answer", seconds(self.answers.longest));
        line("longest without a count", seconds(self.counts.longest));
        line("overshoot", self.overshoot.to_string());
        for (what, waits) in [("no answer", &self.answers), ("no count", &self.counts)] {
            let mut longest: Vec<&Wait> = waits.long.iter().collect();
            longest.sort_by_key(|wait| std::cmp::Reverse(wait.length()));
            for wait in longest.into_iter().take(SHOWN_MAX) {
                let at = seconds(wait.from.saturating_duration_since(began));
                let faults: Vec<&str> = spans
                    .iter()
                    .filter(|span| overlap(&span.wait, wait))
                    .map(|span| span.fault.as_str())
                    .collect();
                text.push_str(&format!(
                    "{what} for {} from {at} on: {}\n",
                    seconds(wait.length()),
                    faults.join("; ")
                ));
            }
        }
        text
    }

    /// For each fault of a drill, the longest waits from its beginning until the next one began.
    pub fn by_fault(&self, spans: &[Span]) -> impl fmt::Display {
        let mut text = format!("{:<44}{:>12}{:>12}\n", "", "no answer", "no count");
        let next = spans.iter().skip(1).map(|span| Some(span.wait.from)).chain([None]);
        for (span, until) in spans.iter().zip(next) {
            let time = Wait { from: span.wait.from, to: until.unwrap_or(span.wait.to + DRILLED_LAST) };
            let longest = |waits: &Waits| {
                let during = waits.long.iter().filter(|wait| overlap(wait, &time));
                during.map(Wait::length).max().map_or("< 0.5 s".to_owned(), seconds)
            };
            let (answer, count) = (longest(&self.answers), longest(&self.counts));
            text.push_str(&format!("{:<44}{answer:>12}{count:>12}\n", span.fault));
        }
        text
    }
}

fn overlap(one: &Wait, other: &Wait) -> bool {
    one.from < other.to && other.from < one.to
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f32())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_waits_until_the_total_has_reached_it() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let (mut uncounted, mut waits) = (Uncounted::default(), Waits::default());
        (0..4).for_each(|second| uncounted.ran(at(second)));
        uncounted.shown(1, at(1), &mut waits);
        uncounted.shown(1, at(2), &mut waits);
        assert_eq!((waits.longest, uncounted.count()), (Duration::from_secs(1), 3));
        uncounted.shown(4, at(9), &mut waits);
        assert_eq!((waits.longest, uncounted.count()), (Duration::from_secs(8), 0));
        let long = [Wait { from: at(0), to: at(1) }, Wait { from: at(1), to: at(9) }];
        assert_eq!(waits.long, long, "of the three that overlap, the longest");
    }

    #[test]
    fn a_long_wait_names_the_faults_it_overlaps() {
        let start = Instant::now();
        let at = |seconds: u64| start + Duration::from_secs(seconds);
        let mut asked = Asked::default();
        asked.answers.add(Wait { from: at(10), to: at(15) });
        let span = |fault: &str, from, to| Span {
            fault: fault.to_owned(),
            wait: Wait { from: at(from), to: at(to) },
        };
        let spans = [span("before", 1, 9), span("during", 9, 11), span("after", 15, 20)];
        let text = asked.describe(&spans, start).to_string();
        assert!(text.contains("no answer for 5.0 s from 10.0 s on: during\n"), "{text}");
    }
}
