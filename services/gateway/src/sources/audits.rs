//! The last audit of each source, in memory: how a source compares with the count.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use jiff::Timestamp;
use metering::SourceId;
use proto::{InvalidMessage, instant, required_instant, v1};

use crate::sources::status::Unseen;

/// An audit of one source, as the collector last reported it.
#[derive(Debug, Clone, PartialEq)]
pub struct Audit {
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended; `None` while it is running.
    pub ended_at: Option<Timestamp>,
    /// When the collector last reported it.
    pub updated_at: Timestamp,
    /// Ids that the source never showed.
    pub unseen: Option<Unseen>,
    /// The whole report.
    pub published: v1::SourceAudit,
}

impl TryFrom<v1::SourceAudit> for Audit {
    type Error = InvalidMessage;

    fn try_from(wire: v1::SourceAudit) -> Result<Self, InvalidMessage> {
        let started_at = required_instant(wire.started_at.as_ref(), "started_at")?;
        Ok(Self {
            started_at,
            ended_at: instant(wire.ended_at.as_ref(), "ended_at")?,
            updated_at: instant(wire.updated_at.as_ref(), "updated_at")?.unwrap_or(started_at),
            unseen: Unseen::read(wire.unseen_ids_max, wire.unseen_since.as_ref(), wire.unsaving_workflows)?,
            published: wire,
        })
    }
}

/// The last audit of every source; empty after a start until the broker has replayed what it keeps.
#[derive(Default)]
pub struct AuditView {
    audits: RwLock<HashMap<SourceId, Arc<Audit>>>,
}

impl AuditView {
    /// The last audit of a source.
    pub fn of(&self, source: &SourceId) -> Option<Arc<Audit>> {
        self.audits.read().unwrap_or_else(PoisonError::into_inner).get(source).cloned()
    }

    /// Applies a report, unless a later one is known.
    pub fn apply(&self, wire: v1::SourceAudit) -> Result<(), InvalidMessage> {
        let source = SourceId::parse(&wire.source_id)?;
        let audit = Audit::try_from(wire)?;
        let mut audits = self.audits.write().unwrap_or_else(PoisonError::into_inner);
        let known = audits.get(&source);
        // By the later start, then the later report: two audits may overlap if a collector was replaced.
        if known
            .is_none_or(|known| (known.started_at, known.updated_at) <= (audit.started_at, audit.updated_at))
        {
            audits.insert(source, Arc::new(audit));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proto::timestamp;

    use super::*;

    fn wire(started_at: &str, updated_at: &str) -> v1::SourceAudit {
        let at = |text: &str| Some(timestamp(text.parse().unwrap()));
        v1::SourceAudit {
            source_id: "north-n8n".into(),
            started_at: at(started_at),
            updated_at: at(updated_at),
            ..v1::SourceAudit::default()
        }
    }

    #[test]
    fn an_older_report_changes_nothing() {
        let view = AuditView::default();
        let source = SourceId::parse("north-n8n").unwrap();
        let newer = wire("2026-11-24T12:00:00Z", "2026-11-24T12:00:05Z");
        view.apply(newer.clone()).unwrap();
        view.apply(wire("2026-11-24T12:00:00Z", "2026-11-24T12:00:01Z")).unwrap();
        view.apply(wire("2026-11-24T11:00:00Z", "2026-11-24T12:30:00Z")).unwrap();
        assert_eq!(view.of(&source).unwrap().published, newer);
        assert!(view.apply(v1::SourceAudit::default()).is_err());
    }
}
