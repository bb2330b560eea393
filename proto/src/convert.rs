//! Executions and periods between the wire and the domain. A wire value that has no meaning in the domain
//! is an error that names the field.

use metering::{
    Execution, ExecutionId, InvalidId, Mode, NAME_CHARS_MAX, Period, SafeText, Status, WorkflowId,
};

use crate::{InvalidTimestamp, instant, required_instant, timestamp, v1};

/// A message of the right type whose content is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidMessage {
    /// An id is malformed.
    #[error(transparent)]
    Id(#[from] InvalidId),
    /// An instant is missing or out of range.
    #[error(transparent)]
    Timestamp(#[from] InvalidTimestamp),
    /// An execution without a final status is not finished.
    #[error("execution {0} has no final status")]
    Status(String),
    /// A period that ends before it starts.
    #[error("a period ends before it starts")]
    Period,
    /// A part is missing.
    #[error("`{0}` is missing")]
    Missing(&'static str),
}

impl TryFrom<v1::Execution> for Execution {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Execution) -> Result<Self, InvalidMessage> {
        let status = match wire.status() {
            v1::ExecutionStatus::Success => Status::Success,
            v1::ExecutionStatus::Error => Status::Error,
            v1::ExecutionStatus::Crashed => Status::Crashed,
            v1::ExecutionStatus::Canceled => Status::Canceled,
            v1::ExecutionStatus::Unspecified => {
                let id = SafeText::clean(&wire.execution_id, NAME_CHARS_MAX);
                return Err(InvalidMessage::Status(id.into()));
            }
        };
        let retry_of = match wire.retry_of.as_str() {
            "" => None,
            id => Some(ExecutionId::parse(id)?),
        };
        Ok(Self {
            id: ExecutionId::parse(&wire.execution_id)?,
            workflow: WorkflowId::parse(&wire.workflow_id)?,
            mode: mode_from(wire.mode()),
            status,
            started_at: instant(wire.started_at.as_ref(), "started_at")?,
            stopped_at: required_instant(wire.stopped_at.as_ref(), "stopped_at")?,
            retry_of,
            // A claim that only refines: one that cannot be read is ignored.
            admitted_at: instant(wire.admitted_at.as_ref(), "admitted_at").ok().flatten(),
            workflow_name: SafeText::clean(&wire.workflow_name, NAME_CHARS_MAX).non_empty(),
        })
    }
}

impl From<Status> for v1::ExecutionStatus {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => Self::Success,
            Status::Error => Self::Error,
            Status::Crashed => Self::Crashed,
            Status::Canceled => Self::Canceled,
        }
    }
}

impl From<&Execution> for v1::Execution {
    fn from(execution: &Execution) -> Self {
        Self {
            execution_id: execution.id.to_string(),
            workflow_id: execution.workflow.to_string(),
            workflow_name: execution.workflow_name.clone().map(String::from).unwrap_or_default(),
            status: v1::ExecutionStatus::from(execution.status).into(),
            mode: v1::ExecutionMode::from(execution.mode).into(),
            started_at: execution.started_at.map(timestamp),
            stopped_at: Some(timestamp(execution.stopped_at)),
            retry_of: execution.retry_of.as_ref().map(ToString::to_string).unwrap_or_default(),
            admitted_at: execution.admitted_at.map(timestamp),
        }
    }
}

impl TryFrom<v1::Period> for Period {
    type Error = InvalidMessage;

    fn try_from(wire: v1::Period) -> Result<Self, InvalidMessage> {
        let start = required_instant(wire.start.as_ref(), "period.start")?;
        let end = required_instant(wire.end.as_ref(), "period.end")?;
        if start < end { Ok(Self { start, end }) } else { Err(InvalidMessage::Period) }
    }
}

impl From<Period> for v1::Period {
    fn from(period: Period) -> Self {
        Self { start: Some(timestamp(period.start)), end: Some(timestamp(period.end)) }
    }
}

fn mode_from(wire: v1::ExecutionMode) -> Mode {
    match wire {
        v1::ExecutionMode::Webhook => Mode::Webhook,
        v1::ExecutionMode::Trigger => Mode::Trigger,
        v1::ExecutionMode::Retry => Mode::Retry,
        v1::ExecutionMode::Cli => Mode::Cli,
        v1::ExecutionMode::Evaluation => Mode::Evaluation,
        v1::ExecutionMode::Manual => Mode::Manual,
        v1::ExecutionMode::Integrated => Mode::Integrated,
        v1::ExecutionMode::Error => Mode::Error,
        v1::ExecutionMode::Other | v1::ExecutionMode::Unspecified => Mode::Other,
    }
}

impl From<Mode> for v1::ExecutionMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Webhook => Self::Webhook,
            Mode::Trigger => Self::Trigger,
            Mode::Retry => Self::Retry,
            Mode::Cli => Self::Cli,
            Mode::Evaluation => Self::Evaluation,
            Mode::Manual => Self::Manual,
            Mode::Integrated => Self::Integrated,
            Mode::Error => Self::Error,
            Mode::Other => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn execution() -> Execution {
        Execution {
            id: ExecutionId::parse("575").unwrap(),
            workflow: WorkflowId::parse("fBUhacu27uqiL8Xb").unwrap(),
            workflow_name: Some(SafeText::clean("Order sync", NAME_CHARS_MAX)),
            status: Status::Crashed,
            mode: Mode::Retry,
            started_at: None,
            stopped_at: "2026-11-24T01:33:32.543Z".parse().unwrap(),
            retry_of: Some(ExecutionId::parse("571").unwrap()),
            admitted_at: None,
        }
    }

    #[test]
    fn the_wire_gives_the_same_execution_back() {
        for mode in Mode::ALL {
            for status in Status::ALL {
                let before = Execution { mode, status, ..execution() };
                assert_eq!(Execution::try_from(v1::Execution::from(&before)), Ok(before));
            }
        }
    }

    #[test]
    fn an_unfinished_execution_is_refused() {
        let wire = v1::Execution { status: 99, ..v1::Execution::from(&execution()) };
        assert_eq!(Execution::try_from(wire), Err(InvalidMessage::Status("575".into())));
        let wire = v1::Execution { stopped_at: None, ..v1::Execution::from(&execution()) };
        assert!(Execution::try_from(wire).is_err());
    }

    #[test]
    fn a_period_runs_forward() {
        let instant = timestamp("2026-11-01T00:00:00Z".parse().unwrap());
        let wire = v1::Period { start: Some(instant), end: Some(instant) };
        assert_eq!(Period::try_from(wire), Err(InvalidMessage::Period));
    }
}
