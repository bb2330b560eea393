//! Keeps what is known of a source's workflows fresh, and returns what is new. Executions carry no names,
//! tags or projects; the list of workflows does, and is read
//!
//! - when a sweep meets an execution of a workflow that the last reading did not have, once in that sweep, and
//! - when the last reading is older than [`fresh_for`] says, with or without executions.
//!
//! So a new workflow is known with its first execution, and a new name, tag or project after that time and
//! one interval between sweeps. Sweeps do without what cannot be read: a count needs no name, and an
//! execution without a tenant is kept and attributed later.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use catalog::Source;
use jiff::{SignedDuration, Timestamp};
use metering::{Execution, SafeText, SourceId, WorkflowId};
use sqlx::PgPool;

use crate::{
    n8n::{
        client::{N8n, N8nError},
        pages::Pages,
        workflow::{self, SaveSettings, Saving, Workflow},
    },
    store,
    sweep::failure::SweepError,
};

/// Pages of workflows that one sweep reads: 2,000 workflows.
const PAGES_MAX: u32 = 40;

/// How old names may be. With the default interval every sixth sweep reads one page per 50 workflows.
const NAMES_FRESH_FOR: Duration = Duration::from_secs(60 * 60);

/// How old tags and projects may be if a tenant depends on them: the default interval between sweeps.
const PLACES_FRESH_FOR: Duration = Duration::from_secs(10 * 60);

/// How old the last reading of the source's workflows may be.
pub fn fresh_for(source: &Source) -> Duration {
    if source.depends_on_places() { PLACES_FRESH_FOR } else { NAMES_FRESH_FOR }
}

/// The workflows of one source, for one sweep.
pub struct Workflows<'a> {
    pool: &'a PgPool,
    n8n: &'a N8n,
    source: &'a SourceId,
    now: Timestamp,
    fresh_for: Duration,
    names: HashMap<WorkflowId, Option<SafeText>>,
    /// Whether the last reading is too old; not known before it was asked for.
    is_stale: Option<bool>,
    /// Whether this sweep has read the list, or tried to.
    has_listed: bool,
    /// What the settings keep, if this sweep has read the list.
    kept: Option<SaveSettings>,
}

/// The result of a reading.
#[derive(Debug, Default)]
pub struct News {
    /// Workflows that are new or have changed.
    pub changed: BTreeMap<WorkflowId, Workflow>,
    /// Workflows of executions that the source does not list.
    pub missing: BTreeSet<WorkflowId>,
    /// When the list was read; `None` if it was not.
    pub read_at: Option<Timestamp>,
    /// What the workflows' settings keep.
    pub kept: SaveSettings,
}

/// What the source answered.
enum Listed {
    /// Its workflows, as far as they may be read.
    Given(BTreeMap<WorkflowId, Workflow>, SaveSettings),
    /// Nothing, this time.
    Failed,
}

impl<'a> Workflows<'a> {
    /// Before anything was read.
    pub fn new(
        pool: &'a PgPool,
        n8n: &'a N8n,
        source: &'a SourceId,
        now: Timestamp,
        fresh_for: Duration,
    ) -> Self {
        Self {
            pool,
            n8n,
            source,
            now,
            fresh_for,
            names: HashMap::new(),
            is_stale: None,
            has_listed: false,
            kept: None,
        }
    }

    /// Looks up the workflows of these executions, and reads the list if that is due. The result is to be
    /// published, and then [stored](Self::keep): a crash in between publishes it again.
    pub async fn learn(&mut self, executions: &[Execution]) -> Result<News, SweepError> {
        let unknown: BTreeSet<WorkflowId> = executions
            .iter()
            .map(|execution| &execution.workflow)
            .filter(|workflow| !self.names.contains_key(workflow))
            .cloned()
            .collect();
        if !unknown.is_empty() {
            let stored = store::workflows::of(self.pool, self.source, &unknown).await?;
            self.names
                .extend(stored.into_iter().map(|(id, known)| (id, known.map(|(workflow, _)| workflow.name))));
        }
        let mut missing: BTreeSet<WorkflowId> =
            unknown.into_iter().filter(|workflow| !self.names.contains_key(workflow)).collect();
        self.names.extend(missing.iter().map(|workflow| (workflow.clone(), None)));
        let is_due = self.is_stale().await? || !missing.is_empty();
        // What no reading has looked for is not stored as missing: the next sweep that meets it reads the
        // list again.
        if !is_due || self.has_listed {
            return Ok(News::default());
        }
        self.has_listed = true;
        let Listed::Given(listed, kept) = self.list().await else { return Ok(News::default()) };
        self.kept = Some(kept);
        let known = store::workflows::all(self.pool, self.source).await?;
        self.names.extend(listed.iter().map(|(id, workflow)| (id.clone(), Some(workflow.name.clone()))));
        missing.retain(|workflow| !listed.contains_key(workflow));
        let changed = listed.into_iter().filter(|(id, workflow)| known.get(id) != Some(workflow)).collect();
        Ok(News { changed, missing, read_at: Some(self.now), kept })
    }

    /// Stores what was published.
    pub async fn keep(&self, news: &News) -> Result<(), SweepError> {
        match news.read_at {
            Some(read_at) => Ok(store::workflows::keep(self.pool, self.source, news, read_at).await?),
            None => Ok(()),
        }
    }

    /// What the workflows' settings keep; `None` if this sweep has not read their list.
    pub fn kept(&self) -> Option<SaveSettings> {
        self.kept
    }

    /// Fills in the names that are known.
    pub fn name(&self, executions: &mut [Execution]) {
        for execution in executions {
            let name = self.names.get(&execution.workflow).cloned().flatten();
            execution.workflow_name = name.and_then(SafeText::non_empty);
        }
    }

    async fn is_stale(&mut self) -> Result<bool, SweepError> {
        if let Some(is_stale) = self.is_stale {
            return Ok(is_stale);
        }
        let read_at = store::workflows::read_at(self.pool, self.source).await?;
        let fresh_for = SignedDuration::try_from(self.fresh_for).unwrap_or(SignedDuration::MAX);
        let is_stale = read_at.is_none_or(|read_at| self.now.duration_since(read_at) >= fresh_for);
        self.is_stale = Some(is_stale);
        Ok(is_stale)
    }

    async fn list(&self) -> Listed {
        let mut workflows = BTreeMap::new();
        let (mut unsaving, mut others, mut is_whole) = (0_u32, 0_u32, false);
        let mut pages = Pages::default();
        for _ in 0..PAGES_MAX {
            let answer = self.n8n.workflows(pages.cursor()).await;
            let has_more = answer.and_then(|page| {
                for element in page.data {
                    // One that cannot be read at all may not save its executions, either.
                    let Some(listed) = workflow::Listed::read(element.get()) else {
                        others += 1;
                        continue;
                    };
                    match listed.saving {
                        Saving::All => {}
                        Saving::Partly => unsaving += 1,
                        Saving::Unknown => others += 1,
                    }
                    workflows.insert(listed.id, listed.workflow);
                }
                pages.advance(page.next_cursor)
            });
            match has_more {
                Ok(true) => {}
                Ok(false) => {
                    is_whole = true;
                    break;
                }
                // Read again when this reading is old: none of these errors ends by itself.
                Err(error @ (N8nError::Forbidden | N8nError::TooLarge(_) | N8nError::StuckCursor)) => {
                    tracing::debug!(source = %self.source, %error, "the source does not give its list of workflows");
                    break;
                }
                Err(error) => {
                    tracing::debug!(source = %self.source, %error, "cannot read the list of workflows");
                    return Listed::Failed;
                }
            }
        }
        let all = is_whole && unsaving == 0 && others == 0;
        Listed::Given(workflows, SaveSettings { unsaving, all })
    }
}

#[cfg(test)]
mod tests {
    use catalog::{Attribution, Entry, Scope};
    use metering::TenantId;
    use proto::v1;

    use super::*;

    #[test]
    fn tags_and_projects_are_read_more_often_if_a_tenant_depends_on_them() {
        let scoped = |scope| {
            let source = Source::from_wire(v1::Source {
                source_id: "shared".into(),
                tenant_id: "north".into(),
                kind: v1::SourceKind::N8n.into(),
                base_url: "https://n8n.example".into(),
                ..v1::Source::default()
            });
            let attribution = Attribution { tenant: TenantId::parse("south").unwrap(), scope, from: None };
            fresh_for(&Source { attributions: vec![attribution], ..source.unwrap() })
        };
        assert_eq!(scoped(Scope::Tag("south".into())), PLACES_FRESH_FOR);
        assert_eq!(scoped(Scope::Project("p".into())), PLACES_FRESH_FOR);
        assert_eq!(scoped(Scope::Workflow(WorkflowId::parse("w").unwrap())), NAMES_FRESH_FOR);
        assert_eq!(scoped(Scope::Whole), NAMES_FRESH_FOR);
    }
}
