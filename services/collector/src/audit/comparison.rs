//! Compares what a source shows with what was recorded of it, page by page. No I/O, no clock.
//!
//! Only executions that must have been recorded are compared: those that stopped before the source's
//! `complete_until`, as it was when the audit began. Later and open ones are no difference. Nothing is
//! compared below the oldest row that the source shows: it has pruned there.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use metering::{Execution, Status};
use proto::{
    instant,
    v1::{self, AuditDifference, AuditFinding, Recorded},
};

use crate::{
    n8n::row::{Row, RunId, born_at},
    sweep::epochs::Epochs,
};

/// What was recorded, by epoch and id.
pub type Records = BTreeMap<(u32, u64), Recorded>;

/// One page of a source's list.
#[derive(Debug)]
pub struct Page {
    /// The ids it covers, both inclusive: from just below the lowest of the page before down to its own
    /// lowest.
    pub ids: (RunId, RunId),
    finals: BTreeMap<(u32, u64), Execution>,
    /// Those that have not ended or cannot be read.
    others: BTreeSet<u64>,
    epochs: BTreeSet<u32>,
}

/// The result of comparing a page.
#[derive(Debug, Default)]
pub struct Compared {
    /// Final executions that were compared.
    pub listed: u64,
    /// Those that were recorded as they are shown, as far as that is kept.
    pub equal: u64,
    /// The others, and what was recorded and is not shown.
    pub differences: Vec<AuditDifference>,
}

impl Page {
    /// The page with these rows, in descending order of id; `below` is the lowest id of the page before. Rows
    /// that cannot be read are known by their id. `None` if no row has an id.
    pub fn of(rows: Vec<Result<Row, Option<RunId>>>, below: Option<RunId>, epochs: &Epochs) -> Option<Self> {
        let ids: Vec<RunId> =
            rows.iter().filter_map(|row| row.as_ref().map_or_else(|id| *id, |row| Some(row.id()))).collect();
        let (lowest, highest) = (*ids.iter().min()?, *ids.iter().max()?);
        let highest = below.map_or(highest, |below| below.below(1)).max(lowest);
        let mut page = Self {
            ids: (lowest, highest),
            finals: BTreeMap::new(),
            others: BTreeSet::new(),
            epochs: BTreeSet::new(),
        };
        for row in rows {
            match row {
                Ok(Row::Final(id, execution)) => {
                    let epoch = epochs.of(born_at(&execution));
                    page.epochs.insert(epoch);
                    page.finals.insert((epoch, id.number()), execution);
                }
                Ok(Row::Open(id, started_at)) => {
                    page.epochs.extend(started_at.map(|at| epochs.of(at)));
                    page.others.insert(id.number());
                }
                Err(id) => page.others.extend(id.map(RunId::number)),
            }
        }
        Some(page)
    }

    /// The epochs of its executions. What else an earlier life of the database had was reported as a gap.
    pub fn epochs(&self) -> impl Iterator<Item = u32> + '_ {
        self.epochs.iter().copied()
    }

    /// Marks executions that were refused before they started, by their own data: a sweep publishes them as
    /// canceled, whatever the list says.
    pub fn refused(&mut self, ids: &BTreeSet<u64>) {
        let refused = self.finals.iter_mut().filter(|((_, id), _)| ids.contains(id));
        for (_, execution) in refused.filter(|(_, execution)| execution.status == Status::Error) {
            execution.status = Status::Canceled;
        }
    }

    /// Compares it with what was recorded of its ids. `due` says whether an execution that stopped at this instant has to
    /// be recorded.
    pub fn compare(&self, recorded: &Records, due: impl Fn(Timestamp) -> bool) -> Compared {
        let mut compared = Compared::default();
        for (key, execution) in &self.finals {
            let finding = match recorded.get(key) {
                Some(recorded) if is_equal(execution, recorded) => {
                    compared.listed += 1;
                    compared.equal += 1;
                    continue;
                }
                _ if !due(execution.stopped_at) => continue,
                Some(recorded) => (AuditFinding::Different, format!("recorded as {}", describe(recorded))),
                None => (AuditFinding::NotRecorded, "not recorded".to_owned()),
            };
            compared.listed += 1;
            let (finding, recorded) = finding;
            let detail = format!("shown as {}, {recorded}", shown(execution));
            compared.differences.push(difference(*key, finding, detail));
        }
        for (key, recorded) in recorded {
            let stopped_at = instant(recorded.stopped_at.as_ref(), "stopped_at").ok().flatten();
            let is_shown = self.finals.contains_key(key) || self.others.contains(&key.1);
            if !is_shown && stopped_at.is_some_and(&due) {
                let detail = format!("recorded as {}, not shown", describe(recorded));
                compared.differences.push(difference(*key, AuditFinding::NotShown, detail));
            }
        }
        compared
    }
}

fn is_equal(execution: &Execution, recorded: &Recorded) -> bool {
    // An old one, of which the aggregator only knows that it was recorded.
    if recorded.stopped_at.is_none() {
        return true;
    }
    let shown = v1::Execution::from(execution);
    let is_as_shown = recorded.status() == shown.status() && recorded.stopped_at == shown.stopped_at;
    // An aggregator of the previous version sends neither.
    let is_same_mode = [i32::from(v1::ExecutionMode::Unspecified), shown.mode].contains(&recorded.mode);
    let is_same_workflow = recorded.workflow_id.is_empty() || recorded.workflow_id == shown.workflow_id;
    is_as_shown && is_same_mode && is_same_workflow
}

fn shown(execution: &Execution) -> String {
    let Execution { status, stopped_at, mode, workflow, .. } = execution;
    format!("{} at {stopped_at} ({} of workflow {workflow})", status.as_str(), mode.as_str())
}

fn describe(recorded: &Recorded) -> String {
    let word = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_ascii_lowercase();
    let mut described = word(recorded.status().as_str_name(), "EXECUTION_STATUS_");
    if let Ok(Some(stopped_at)) = instant(recorded.stopped_at.as_ref(), "stopped_at") {
        described = format!("{described} at {stopped_at}");
    }
    if recorded.workflow_id.is_empty() {
        return described;
    }
    let mode = word(recorded.mode().as_str_name(), "EXECUTION_MODE_");
    format!("{described} ({mode} of workflow {})", recorded.workflow_id)
}

fn difference((epoch, execution_id): (u32, u64), finding: AuditFinding, detail: String) -> AuditDifference {
    AuditDifference { epoch, execution_id, finding: finding.into(), detail }
}

#[cfg(test)]
mod tests {
    use proto::{timestamp, v1::ExecutionStatus};
    use serde_json::json;

    use super::*;

    fn row(id: u64, status: &str, second: u32) -> Result<Row, Option<RunId>> {
        let row = json!({"id": id.to_string(), "workflowId": "w", "mode": "webhook", "status": status,
            "startedAt": "2026-11-24T12:00:00Z", "stoppedAt": format!("2026-11-24T12:00:{second:02}Z")});
        Ok(Row::parse(&row, "2026-11-30T00:00:00Z".parse().unwrap()).unwrap())
    }

    fn recorded(id: u64, status: ExecutionStatus, second: u32) -> ((u32, u64), Recorded) {
        let stopped_at = format!("2026-11-24T12:00:{second:02}Z").parse().unwrap();
        let recorded = Recorded {
            execution_id: id,
            status: status.into(),
            stopped_at: Some(timestamp(stopped_at)),
            mode: v1::ExecutionMode::Webhook.into(),
            workflow_id: "w".into(),
            ..Recorded::default()
        };
        ((1, id), recorded)
    }

    fn with(
        (key, mut recorded): ((u32, u64), Recorded),
        change: impl Fn(&mut Recorded),
    ) -> ((u32, u64), Recorded) {
        change(&mut recorded);
        (key, recorded)
    }

    #[test]
    fn what_must_be_recorded_and_is_not_recorded_as_shown_is_a_difference() {
        let epochs = Epochs::new(Vec::new());
        let rows = vec![
            row(12, "success", 40), // too late to be recorded
            row(11, "success", 40), // too late, and recorded by a push
            row(10, "running", 1),
            row(9, "success", 5), // not recorded
            row(7, "error", 5),   // another status
            row(6, "success", 5), // another end
            row(5, "success", 5),
            Err(RunId::new(4)),
            row(3, "success", 5), // another mode
            row(2, "success", 5), // another workflow
            row(1, "error", 5),   // refused before it started
            row(0, "error", 5),   // likewise, but nobody knows
        ];
        let mut page = Page::of(rows, RunId::new(15), &epochs).unwrap();
        page.refused(&BTreeSet::from([1, 5]));
        assert_eq!(page.ids, (RunId::LOWEST, RunId::new(14).unwrap()));
        assert_eq!(page.epochs().collect::<Vec<_>>(), [1]);
        let success = ExecutionStatus::Success;
        let records = Records::from([
            recorded(14, success, 40),
            recorded(11, success, 40),
            recorded(8, success, 5),
            recorded(7, ExecutionStatus::Crashed, 5),
            recorded(6, success, 4),
            recorded(5, success, 5),
            with(recorded(3, success, 5), |one| one.mode = v1::ExecutionMode::Manual.into()),
            with(recorded(2, success, 5), |one| one.workflow_id = "another".into()),
            recorded(1, ExecutionStatus::Canceled, 5),
            recorded(0, ExecutionStatus::Canceled, 5),
        ]);
        let until: Timestamp = "2026-11-24T12:00:30Z".parse().unwrap();
        let compared = page.compare(&records, |stopped_at| stopped_at < until);
        assert_eq!((compared.listed, compared.equal), (9, 3));
        let found: Vec<_> =
            compared.differences.iter().map(|found| (found.execution_id, found.finding())).collect();
        assert_eq!(
            found,
            [
                (0, AuditFinding::Different),
                (2, AuditFinding::Different),
                (3, AuditFinding::Different),
                (6, AuditFinding::Different),
                (7, AuditFinding::Different),
                (9, AuditFinding::NotRecorded),
                (8, AuditFinding::NotShown),
            ]
        );
        assert_eq!(
            compared.differences[2].detail,
            "shown as success at 2026-11-24T12:00:05Z (webhook of workflow w), \
             recorded as success at 2026-11-24T12:00:05Z (manual of workflow w)"
        );
    }
}
