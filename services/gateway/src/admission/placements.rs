//! A workflow's tags and project, from its source's own list. The collector knows them; its answers are
//! cached for [`FRESH_FOR`], so that the limit check need not ask before each run.
//!
//! A workflow that is not known yet is asked for again after [`UNKNOWN_FOR`]. If the collector does not
//! answer, the last answer is used, however old it is.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use catalog::Source;
use jiff::{SignedDuration, Timestamp};
use messaging::{Bus, error_chain};
use metering::{Clock, SourceId, WorkflowId};
use proto::{subjects::Question, v1};
use tokio::sync::Semaphore;

/// How long an answer is used. A workflow with new tags moves to its new tenant this long after the collector
/// reads them.
const FRESH_FOR: SignedDuration = SignedDuration::from_secs(30);

/// The same for the answer that a workflow is not known.
const UNKNOWN_FOR: SignedDuration = SignedDuration::from_secs(5);

/// Pause after a question without an answer, so that runs do not wait for a collector that is unavailable.
const PAUSE: SignedDuration = SignedDuration::from_secs(2);

/// Longest wait for an answer: n8n's hook waits 250 ms for the verdict.
const ANSWER_WITHIN: Duration = Duration::from_millis(150);

/// Questions at once: half of what the collector answers at once.
const QUESTIONS_MAX: usize = 32;

/// Cached workflows of one source. A caller can name any workflow; beyond this the source's answers are
/// dropped.
const WORKFLOWS_MAX: usize = 5_000;

/// Cached sources; beyond this all are dropped, removed ones with them.
const SOURCES_MAX: usize = 10_000;

/// The properties of a workflow that decide its tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// Names of the workflow's tags.
    pub tags: Vec<String>,
    /// Its project; `None` if the source has none.
    pub project: Option<String>,
}

/// An answer of the collector; without a place if it does not know the workflow.
#[derive(Debug, Clone)]
struct Answered {
    place: Option<Arc<Place>>,
    at: Timestamp,
}

/// The collector's answers, cached in memory.
pub struct Placements {
    bus: Bus,
    clock: Arc<dyn Clock>,
    answers: Mutex<HashMap<SourceId, HashMap<WorkflowId, Answered>>>,
    asking: Semaphore,
    failed_at: Mutex<Option<Timestamp>>,
}

impl Placements {
    /// An empty cache that asks on `bus`.
    pub fn new(bus: Bus, clock: Arc<dyn Clock>) -> Self {
        let asking = Semaphore::new(QUESTIONS_MAX);
        Self { bus, clock, answers: Mutex::default(), asking, failed_at: Mutex::default() }
    }

    /// A workflow's tags and project in the source's list. `None` if the source's tenants do not depend on
    /// them, or if they are not known.
    pub async fn of(&self, source: &Source, workflow: &WorkflowId) -> Option<Arc<Place>> {
        if !source.depends_on_places() {
            return None;
        }
        let kept = self.kept(&source.id, workflow);
        if let Some(kept) = kept.as_ref().filter(|kept| self.is_fresh(kept)) {
            return kept.place.clone();
        }
        let last = kept.and_then(|kept| kept.place);
        if self.is_pausing() {
            return last;
        }
        let Ok(_place) = self.asking.acquire().await else { return last };
        // Another run may have asked meanwhile, or got no answer.
        if let Some(kept) = self.kept(&source.id, workflow).filter(|kept| self.is_fresh(kept)) {
            return kept.place;
        }
        if self.is_pausing() { last } else { self.ask(&source.id, workflow).await.unwrap_or(last) }
    }

    /// The collector's answer; `None` if there is none.
    async fn ask(&self, source: &SourceId, workflow: &WorkflowId) -> Option<Option<Arc<Place>>> {
        let question =
            v1::PlacementQuestion { source_id: source.to_string(), workflow_id: workflow.to_string() };
        let asked = self.bus.ask::<v1::PlacementAnswer>(Question::Placement, &question, ANSWER_WITHIN).await;
        let at = self.clock.now();
        match asked {
            Ok(answer) => {
                let place = answer.workflow.map(|workflow| Arc::new(Place::from(workflow)));
                self.keep(source, workflow, Answered { place: place.clone(), at });
                Some(place)
            }
            Err(error) => {
                metrics::counter!("flowmeter_placement_questions_failed_total").increment(1);
                tracing::warn!(
                    %source, %workflow, error = error_chain(&error),
                    "cannot look up the workflow's tags and project; using the last answer, or the request's"
                );
                *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(at);
                None
            }
        }
    }

    fn kept(&self, source: &SourceId, workflow: &WorkflowId) -> Option<Answered> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.get(source)?.get(workflow).cloned()
    }

    fn keep(&self, source: &SourceId, workflow: &WorkflowId, answered: Answered) {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= SOURCES_MAX && !answers.contains_key(source) {
            answers.clear();
        }
        let of_source = answers.entry(source.clone()).or_default();
        if of_source.len() >= WORKFLOWS_MAX && !of_source.contains_key(workflow) {
            // Unknown ones first, so that made-up workflows do not push out real ones.
            of_source.retain(|_, answered| answered.place.is_some());
            if of_source.len() >= WORKFLOWS_MAX {
                of_source.clear();
            }
        }
        of_source.insert(workflow.clone(), answered);
    }

    fn is_fresh(&self, answered: &Answered) -> bool {
        let fresh_for = if answered.place.is_some() { FRESH_FOR } else { UNKNOWN_FOR };
        self.clock.now().duration_since(answered.at) < fresh_for
    }

    fn is_pausing(&self) -> bool {
        let failed_at = *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner);
        failed_at.is_some_and(|failed_at| self.clock.now().duration_since(failed_at) < PAUSE)
    }
}

impl From<v1::Workflow> for Place {
    fn from(workflow: v1::Workflow) -> Self {
        let project = Some(workflow.project_id).filter(|project| !project.is_empty());
        Self { tags: workflow.tags, project }
    }
}
