//! What a source shows against what was recorded of it, page by page. No I/O, no clock.
//!
//! Compared is what has to be recorded: what stopped before the source's `complete_until`, as it was when the audit
//! began. What stopped later, and what is open, is no difference. Below the oldest row that the source shows nothing is
//! compared: there it has pruned.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use metering::Execution;
use proto::{
    instant,
    v1::{self, AuditDifference, AuditFinding, Recorded},
};

use crate::{
    epochs::Epochs,
    row::{Row, RunId, born_at},
};

/// What was recorded, by epoch and id.
pub type Records = BTreeMap<(u32, u64), Recorded>;

/// One page of a source's list.
#[derive(Debug)]
pub struct Page {
    /// The ids it speaks of, both inclusive: down to its lowest, from below the one of the page before.
    pub ids: (RunId, RunId),
    finals: BTreeMap<(u32, u64), Execution>,
    /// Those that have not ended or cannot be read.
    others: BTreeSet<u64>,
    epochs: BTreeSet<u32>,
}

/// What a page has shown.
#[derive(Debug, Default)]
pub struct Compared {
    /// Final executions that were compared.
    pub listed: u64,
    /// Those that were recorded as they are, as far as that is kept.
    pub equal: u64,
    /// The others, and what was recorded and is not shown.
    pub differences: Vec<AuditDifference>,
}

impl Page {
    /// The page with these rows, in descending order of id; `below` is the lowest id of the page before. Rows that
    /// cannot be read are known by their id. Nothing where no row has an id.
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

    /// The epochs of its executions. What an earlier life of the database had besides was told as a gap.
    pub fn epochs(&self) -> impl Iterator<Item = u32> + '_ {
        self.epochs.iter().copied()
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
                Some(recorded) => (AuditFinding::Different, format!("recorded as {}", told(recorded))),
                None => (AuditFinding::NotRecorded, "not recorded".to_owned()),
            };
            compared.listed += 1;
            let (finding, recorded) = finding;
            let shown = format!("shown as {} at {}", execution.status.as_str(), execution.stopped_at);
            compared.differences.push(difference(*key, finding, format!("{shown}, {recorded}")));
        }
        for (key, recorded) in recorded {
            let stopped_at = instant(recorded.stopped_at.as_ref(), "stopped_at").ok().flatten();
            let is_shown = self.finals.contains_key(key) || self.others.contains(&key.1);
            if !is_shown && stopped_at.is_some_and(&due) {
                let detail = format!("recorded as {}, not shown", told(recorded));
                compared.differences.push(difference(*key, AuditFinding::NotShown, detail));
            }
        }
        compared
    }
}

fn is_equal(execution: &Execution, recorded: &Recorded) -> bool {
    // An old one, of which the count only knows that it was recorded.
    if recorded.stopped_at.is_none() {
        return true;
    }
    let shown = v1::Execution::from(execution);
    recorded.status() == shown.status() && recorded.stopped_at == shown.stopped_at
}

fn told(recorded: &Recorded) -> String {
    let status = recorded.status().as_str_name().trim_start_matches("EXECUTION_STATUS_").to_ascii_lowercase();
    match instant(recorded.stopped_at.as_ref(), "stopped_at") {
        Ok(Some(stopped_at)) => format!("{status} at {stopped_at}"),
        _ => status,
    }
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
            ..Recorded::default()
        };
        ((1, id), recorded)
    }

    #[test]
    fn differences_are_what_has_to_be_recorded_and_is_not_so() {
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
        ];
        let page = Page::of(rows, RunId::new(15), &epochs).unwrap();
        assert_eq!(page.ids, (RunId::new(4).unwrap(), RunId::new(14).unwrap()));
        assert_eq!(page.epochs().collect::<Vec<_>>(), [1]);
        let success = ExecutionStatus::Success;
        let records = Records::from([
            recorded(14, success, 40),
            recorded(11, success, 40),
            recorded(8, success, 5),
            recorded(7, ExecutionStatus::Crashed, 5),
            recorded(6, success, 4),
            recorded(5, success, 5),
        ]);
        let until: Timestamp = "2026-11-24T12:00:30Z".parse().unwrap();
        let compared = page.compare(&records, |stopped_at| stopped_at < until);
        assert_eq!((compared.listed, compared.equal), (5, 2));
        let found: Vec<_> =
            compared.differences.iter().map(|found| (found.execution_id, found.finding())).collect();
        assert_eq!(
            found,
            [
                (6, AuditFinding::Different),
                (7, AuditFinding::Different),
                (9, AuditFinding::NotRecorded),
                (8, AuditFinding::NotShown),
            ]
        );
        assert_eq!(
            compared.differences[1].detail,
            "shown as error at 2026-11-24T12:00:05Z, recorded as crashed at 2026-11-24T12:00:05Z"
        );
    }
}
