//! The limit check for services on the bus: `AdmissionQuestion`, answered like `POST /v1/admissions`.

use async_trait::async_trait;
use catalog::Placement;
use messaging::{
    ask::{Answerer, Refusal},
    error_chain,
};
use metering::{Mode, SourceId, TenantId, WorkflowId};
use proto::v1::{self, admission_question::Subject};

use crate::{
    admission::{
        admissions::Admissions,
        run_key::{RunKey, is_admission_id},
        verdict::Request,
    },
    directory::snapshot::Snapshot,
};

/// Stands for an unnamed workflow. No n8n id has this value, so it matches no attribution by workflow.
const UNNAMED: &str = "-";

/// Answers `AdmissionQuestion`.
pub struct AnswerAdmissions(pub Admissions);

#[async_trait]
impl Answerer for AnswerAdmissions {
    type Question = v1::AdmissionQuestion;
    type Answer = v1::AdmissionAnswer;

    async fn answer(&self, question: v1::AdmissionQuestion) -> Result<v1::AdmissionAnswer, Refusal> {
        if !is_admission_id(&question.admission_id) {
            return Err(Refusal::invalid("admission_id: use 1 to 200 printable characters without spaces"));
        }
        let named = Some(question.workflow_id.as_str()).filter(|id| !id.is_empty());
        let workflow = named.map(WorkflowId::parse).transpose().map_err(Refusal::invalid)?;
        let catalog = self.0.resources.directory.current().await;
        let catalog = catalog.map_err(|_| Refusal::unavailable("the catalog cannot be read; ask again"))?;
        let tenant = self.tenant_of(question.subject, workflow.as_ref(), &catalog)?;
        let mode = Some(question.mode.as_str()).filter(|mode| !mode.is_empty()).map(Mode::parse);
        let key = RunKey::of(&tenant, &question.admission_id);
        let request = Request { tenant: tenant.clone(), key, workflow, mode };
        let answer = self.0.admit(request, &catalog).await.map_err(|error| {
            tracing::warn!(error = error_chain(&error), "cannot answer a limit check");
            Refusal::unavailable("the limit check cannot answer now; ask again")
        })?;
        let verdict = answer.ok_or_else(|| Refusal::not_found(format!("there is no tenant {tenant}")))?;
        let message = catalog.tenants.get(&tenant).map(|tenant| verdict.message(tenant));
        Ok(v1::AdmissionAnswer {
            allowed: verdict.allowed,
            reason: verdict.reason.as_str().to_owned(),
            message: message.unwrap_or_default(),
            used: verdict.used,
            reserved: verdict.reserved,
            limit: verdict.limit,
            resets_at: Some(proto::timestamp(verdict.resets_at)),
            as_of: verdict.as_of.map(proto::timestamp),
            complete_until: verdict.complete_until.map(proto::timestamp),
            admitted_at: verdict.admitted_at.map(proto::timestamp),
        })
    }
}

impl AnswerAdmissions {
    fn tenant_of(
        &self,
        subject: Option<Subject>,
        workflow: Option<&WorkflowId>,
        catalog: &Snapshot,
    ) -> Result<TenantId, Refusal> {
        let source = match subject {
            Some(Subject::TenantId(tenant)) => return TenantId::parse(&tenant).map_err(Refusal::invalid),
            Some(Subject::SourceId(source)) => SourceId::parse(&source).map_err(Refusal::invalid)?,
            None => return Err(Refusal::invalid("name the tenant or the source")),
        };
        let known = catalog.sources_by_id.get(&source);
        let known = known.ok_or_else(|| Refusal::not_found(format!("there is no source {source}")))?;
        let unnamed = WorkflowId::parse(UNNAMED).map_err(Refusal::invalid)?;
        let placement = Placement { workflow: workflow.unwrap_or(&unnamed), tags: &[], project: None };
        known
            .tenant_of(placement, self.0.resources.clock.now())
            .cloned()
            .ok_or_else(|| Refusal::not_found("no attribution of the source says whose run this is"))
    }
}
