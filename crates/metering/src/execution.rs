//! One finished execution.

use jiff::{SignedDuration, Timestamp};

use crate::{ExecutionId, SafeText, WorkflowId};

/// The longest run time that is counted, ten years: n8n is not older, so a longer one comes from a wrong
/// clock. With this bound, a month's sum of milliseconds overflows 63 bits only after 29 million such runs.
pub const RUN_TIME_MAX: SignedDuration = SignedDuration::from_hours(10 * 366 * 24);

/// A final status. An execution that has none of these is not finished, whatever its `stoppedAt` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// Ended well.
    Success,
    /// Ended with an error.
    Error,
    /// Its process died. May become `Error` later, under the same id.
    Crashed,
    /// Stopped by a person.
    Canceled,
}

impl Status {
    /// All final statuses.
    pub const ALL: [Self; 4] = [Self::Success, Self::Error, Self::Crashed, Self::Canceled];

    /// The status's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Error => "error",
            Self::Crashed => "crashed",
            Self::Canceled => "canceled",
        }
    }
}

/// What started an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A webhook call.
    Webhook,
    /// A trigger or schedule.
    Trigger,
    /// A retry of a failed execution.
    Retry,
    /// The command line.
    Cli,
    /// An evaluation run.
    Evaluation,
    /// A person in the editor.
    Manual,
    /// A sub-workflow, run by another workflow.
    Integrated,
    /// An error workflow, run because another workflow failed.
    Error,
    /// Anything else that the source reports.
    Other,
}

impl Mode {
    /// All modes.
    pub const ALL: [Self; 9] = [
        Self::Webhook,
        Self::Trigger,
        Self::Retry,
        Self::Cli,
        Self::Evaluation,
        Self::Manual,
        Self::Integrated,
        Self::Error,
        Self::Other,
    ];

    /// The mode's name, as n8n spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Webhook => "webhook",
            Self::Trigger => "trigger",
            Self::Retry => "retry",
            Self::Cli => "cli",
            Self::Evaluation => "evaluation",
            Self::Manual => "manual",
            Self::Integrated => "integrated",
            Self::Error => "error",
            Self::Other => "other",
        }
    }

    /// The mode of this name; `Other` for a name that is not known here.
    pub fn parse(name: &str) -> Self {
        Self::ALL.into_iter().find(|mode| mode.as_str() == name).unwrap_or(Self::Other)
    }
}

/// A finished execution, as its source shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Execution {
    /// Unique within the source and epoch.
    pub id: ExecutionId,
    /// The workflow that ran.
    pub workflow: WorkflowId,
    /// The workflow's name, if the source gave it.
    pub workflow_name: Option<SafeText>,
    /// How it ended.
    pub status: Status,
    /// What started it.
    pub mode: Mode,
    /// When it started; missing if it never did.
    pub started_at: Option<Timestamp>,
    /// When it stopped: decides the period.
    pub stopped_at: Timestamp,
    /// The execution that it retries.
    pub retry_of: Option<ExecutionId>,
    /// When the limit check allowed it, if the source's hook reports that.
    pub admitted_at: Option<Timestamp>,
}

impl Execution {
    /// How long it ran: zero if it never started, or if the source's clock went backwards.
    pub fn duration(&self) -> SignedDuration {
        run_time(self.started_at, self.stopped_at)
    }
}

/// How long a run took: zero if it never started, or if the source's clock went backwards, and at most
/// [`RUN_TIME_MAX`].
pub fn run_time(started_at: Option<Timestamp>, stopped_at: Timestamp) -> SignedDuration {
    started_at
        .map(|started_at| stopped_at.duration_since(started_at))
        .unwrap_or_default()
        .clamp(SignedDuration::ZERO, RUN_TIME_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_mode_is_kept_as_other() {
        assert_eq!(Mode::parse("webhook"), Mode::Webhook);
        assert_eq!(Mode::parse("chat"), Mode::Other);
    }

    #[test]
    fn a_duration_is_never_negative_and_bounded() {
        let stopped_at: Timestamp = "2026-11-24T01:00:00Z".parse().unwrap();
        let mut execution = Execution {
            id: ExecutionId::parse("1").unwrap(),
            workflow: WorkflowId::parse("w").unwrap(),
            workflow_name: None,
            status: Status::Success,
            mode: Mode::Webhook,
            started_at: Some(stopped_at + SignedDuration::from_secs(5)),
            stopped_at,
            retry_of: None,
            admitted_at: None,
        };
        assert_eq!(execution.duration(), SignedDuration::ZERO);
        execution.started_at = Some(stopped_at - SignedDuration::from_millis(14));
        assert_eq!(execution.duration(), SignedDuration::from_millis(14));
        execution.started_at = Some(Timestamp::MIN);
        assert_eq!(execution.duration(), RUN_TIME_MAX, "thousands of years are no run time");
    }
}
