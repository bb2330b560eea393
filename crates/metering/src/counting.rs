//! Which executions a plan counts.

use crate::{Mode, Status};

/// The switches of a plan. All off is n8n's own quota: production runs (webhook, trigger, retry, cli,
/// evaluation) that ended in success, error or crashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CountingRule {
    /// Also runs from the editor.
    pub manual: bool,
    /// Also sub-workflow runs.
    pub sub_workflow: bool,
    /// Also error-workflow runs.
    pub error_workflow: bool,
    /// Also canceled runs.
    pub canceled: bool,
    /// Also modes that are none of the above.
    pub other: bool,
}

impl CountingRule {
    /// Whether an execution of this mode and status counts.
    pub fn counts(&self, mode: Mode, status: Status) -> bool {
        let mode_counts = match mode {
            Mode::Webhook | Mode::Trigger | Mode::Retry | Mode::Cli | Mode::Evaluation => true,
            Mode::Manual => self.manual,
            Mode::Integrated => self.sub_workflow,
            Mode::Error => self.error_workflow,
            Mode::Other => self.other,
        };
        let status_counts = match status {
            Status::Success | Status::Error | Status::Crashed => true,
            Status::Canceled => self.canceled,
        };
        mode_counts && status_counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_quota_of_n8n() {
        let rule = CountingRule::default();
        for mode in Mode::ALL {
            for status in Status::ALL {
                let billable = ["webhook", "trigger", "retry", "cli", "evaluation"].contains(&mode.as_str())
                    && ["success", "error", "crashed"].contains(&status.as_str());
                assert_eq!(rule.counts(mode, status), billable, "{mode:?} {status:?}");
            }
        }
    }

    #[test]
    fn each_switch_adds_its_own_runs_only() {
        let rule = CountingRule { manual: true, ..CountingRule::default() };
        assert!(rule.counts(Mode::Manual, Status::Success));
        assert!(!rule.counts(Mode::Manual, Status::Canceled));
        assert!(!rule.counts(Mode::Integrated, Status::Success));
        let rule = CountingRule { canceled: true, ..CountingRule::default() };
        assert!(rule.counts(Mode::Webhook, Status::Canceled));
    }
}
