//! What an instance forgets: n8n's own pruning, and the bounds of what the stand-in remembers.

use jiff::{SignedDuration, Timestamp};

use super::execution::Gone;
use super::instance::Instance;
use super::tally::{Tally, tally};

/// Most finished rows an instance may keep: ten minutes at 220 executions a second, and more.
pub const RETAIN_ROWS_MAX: usize = 200_000;
/// Most executions without a row that the stand-in still lists one by one; older ones are only counted.
pub const GONE_ROWS_MAX: usize = 20_000;
/// How often n8n looks for executions that are too old.
const AGE_CHECK_INTERVAL: SignedDuration = SignedDuration::from_hours(1);

impl Instance {
    /// Everything that ever happened here, counted: including the rows that are gone and the lives before a restore.
    pub(crate) fn tallies(&self) -> Vec<Tally> {
        let mut tallies = self.dropped.0.clone();
        for execution in self.former.iter().map(|former| &former.execution).chain(self.rows.values()) {
            tally(&mut tallies, execution);
        }
        tallies.sort_by(|a, b| (&a.workflow, a.mode, a.status).cmp(&(&b.workflow, b.mode, b.status)));
        tallies
    }

    /// Prunes all but the newest `keep` finished rows, as n8n does when it has too many.
    pub(crate) fn prune(&mut self, keep: usize) -> usize {
        let mut pruned = 0;
        let finished = self.rows.values_mut().rev().filter(|row| row.is_shown() && row.status.is_final());
        for row in finished.skip(keep) {
            row.gone = Some(Gone::Pruned);
            pruned += 1;
        }
        self.forget_gone();
        pruned
    }

    pub(super) fn enforce_retention(&mut self, now: Timestamp) -> bool {
        self.enforced_at = now;
        let age = SignedDuration::from_hours(self.config.retain_hours);
        let oldest = now.saturating_sub(age).unwrap_or(Timestamp::MIN);
        let mut pruned = 0;
        for row in self.rows.values_mut().filter(|row| row.is_shown() && row.status.is_final()) {
            if row.stopped_at.is_some_and(|stopped_at| stopped_at < oldest) {
                row.gone = Some(Gone::Pruned);
                pruned += 1;
            }
        }
        pruned += self.prune(self.config.retain_rows.min(RETAIN_ROWS_MAX));
        pruned > 0
    }

    pub(super) fn enforce_retention_hourly(&mut self, now: Timestamp) -> bool {
        let since = now.duration_since(self.enforced_at);
        since.abs() >= AGE_CHECK_INTERVAL && self.enforce_retention(now)
    }

    fn forget_gone(&mut self) {
        let gone = self.rows.values().filter(|row| row.gone.is_some()).count();
        let surplus = gone.saturating_sub(GONE_ROWS_MAX);
        let forgotten: Vec<u64> =
            self.rows.values().filter(|row| row.gone.is_some()).map(|row| row.id).take(surplus).collect();
        for id in forgotten {
            if let Some(execution) = self.rows.remove(&id) {
                self.dropped.add(&execution);
            }
        }
        let surplus = self.former.len().saturating_sub(GONE_ROWS_MAX);
        for former in self.former.drain(..surplus) {
            self.dropped.add(&former.execution);
        }
    }
}
