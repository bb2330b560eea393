//! One question, one answer, between services: NATS request/reply. Nothing is stored; whoever needs that
//! publishes.
//!
//! A question goes to whichever replica of the answering service takes it. A question that changes something
//! carries an id chosen by the asker, so that it can be repeated if no answer came.

use std::{sync::Arc, time::Duration};

use async_nats::{HeaderMap, Request, client::RequestErrorKind};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use prost::Message;
use proto::{
    subjects::Question,
    v1::{self, RefusalKind, answer::Outcome},
};
use tokio::{sync::Semaphore, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{Bus, error_chain, trace};

/// Questions of one kind that a service answers at once; the others wait in the client library.
const ANSWERS_AT_ONCE: usize = 64;

/// Pause before a broken subscription is renewed.
const RESUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// A question was not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody listens: the answering service is not running.
    #[error("nobody answers `{0}` questions; is the service running?")]
    Nobody(&'static str),
    /// No answer came in time.
    #[error("no answer to the `{question}` question within {waited:?}; ask again")]
    TimedOut {
        /// Which question.
        question: &'static str,
        /// How long it waited.
        waited: Duration,
    },
    /// The broker is unavailable.
    #[error("cannot ask the `{question}` question")]
    Broker {
        /// Which question.
        question: &'static str,
        /// Why.
        source: async_nats::client::RequestError,
    },
    /// The service refused.
    #[error("{reason}")]
    Refused {
        /// Why, for programs.
        kind: RefusalKind,
        /// Why, for a person.
        reason: String,
    },
    /// The reply is not the answer's message.
    #[error("the answer to the `{question}` question cannot be read")]
    Unreadable {
        /// Which question.
        question: &'static str,
        /// Why.
        source: prost::DecodeError,
    },
}

/// Why a question gets no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// For programs.
    pub kind: RefusalKind,
    /// For a person: what happened and what to do.
    pub reason: String,
}

impl Refusal {
    /// The question is invalid.
    pub fn invalid(reason: impl ToString) -> Self {
        Self { kind: RefusalKind::Invalid, reason: reason.to_string() }
    }

    /// What the question asks about does not exist.
    pub fn not_found(reason: impl ToString) -> Self {
        Self { kind: RefusalKind::NotFound, reason: reason.to_string() }
    }

    /// The subject's present state does not allow it.
    pub fn conflict(reason: impl ToString) -> Self {
        Self { kind: RefusalKind::Conflict, reason: reason.to_string() }
    }

    /// The service cannot answer now.
    pub fn unavailable(reason: impl ToString) -> Self {
        Self { kind: RefusalKind::Unavailable, reason: reason.to_string() }
    }
}

impl From<sqlx::Error> for Refusal {
    fn from(error: sqlx::Error) -> Self {
        tracing::warn!(error = error_chain(&error), "cannot answer a question: the database failed");
        Self::unavailable("the database does not answer; ask again")
    }
}

/// Answers questions of one kind.
#[async_trait]
pub trait Answerer: Send + Sync + 'static {
    /// The question's message.
    type Question: Message + Default;
    /// The answer's message.
    type Answer: Message;

    /// The answer. Its effects must be committed when it returns.
    async fn answer(&self, question: Self::Question) -> Result<Self::Answer, Refusal>;
}

impl Bus {
    /// Asks `message` and waits at most `timeout` for the answer.
    pub async fn ask<A: Message + Default>(
        &self,
        question: Question,
        message: &impl Message,
        timeout: Duration,
    ) -> Result<A, AskError> {
        let name = question.as_str();
        let mut headers = HeaderMap::new();
        if let Some(traceparent) = trace::current() {
            headers.insert(trace::TRACEPARENT, traceparent.as_str());
        }
        let request =
            Request::new().payload(message.encode_to_vec().into()).headers(headers).timeout(Some(timeout));
        let reply = self.client().send_request(self.namespace().ask(question), request).await;
        let reply = reply.map_err(|source| match source.kind() {
            RequestErrorKind::NoResponders => AskError::Nobody(name),
            RequestErrorKind::TimedOut => AskError::TimedOut { question: name, waited: timeout },
            _ => AskError::Broker { question: name, source },
        })?;
        let unreadable = |source| AskError::Unreadable { question: name, source };
        match v1::Answer::decode(reply.payload).map_err(unreadable)?.outcome {
            Some(Outcome::Answer(answer)) => A::decode(answer).map_err(unreadable),
            Some(Outcome::Refusal(refusal)) => {
                Err(AskError::Refused { kind: refusal.kind(), reason: refusal.reason })
            }
            None => A::decode(Bytes::new()).map_err(unreadable),
        }
    }
}

/// Answers questions until `shutdown`, then finishes those in progress.
pub async fn answer<A: Answerer>(
    bus: Bus,
    question: Question,
    answerer: Arc<A>,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let group = bus.service().to_owned();
        match bus.client().queue_subscribe(bus.namespace().ask(question), group).await {
            Ok(questions) => take(&bus, question, &answerer, questions, &shutdown).await,
            Err(error) => {
                tracing::warn!(question = question.as_str(), %error, "cannot subscribe to questions; trying again")
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sleep(RESUBSCRIBE_PAUSE) => {}
        }
    }
}

async fn take<A: Answerer>(
    bus: &Bus,
    question: Question,
    answerer: &Arc<A>,
    mut questions: async_nats::Subscriber,
    shutdown: &CancellationToken,
) {
    let places = Arc::new(Semaphore::new(ANSWERS_AT_ONCE));
    loop {
        let message = tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            message = questions.next() => message,
        };
        let Some(message) = message else { break };
        let Some(reply_to) = message.reply.clone() else { continue };
        let Ok(place) = places.clone().acquire_owned().await else { break };
        let span = tracing::info_span!("answer", question = question.as_str());
        let traceparent = message.headers.as_ref().and_then(|headers| headers.get(trace::TRACEPARENT));
        trace::continue_from(&span, traceparent.map(|value| value.as_str()));
        let (bus, answerer) = (bus.clone(), answerer.clone());
        let work = async move {
            let answer = reply(&*answerer, message.payload).await;
            if let Err(error) = bus.client().publish(reply_to, answer.encode_to_vec().into()).await {
                tracing::warn!(question = question.as_str(), %error, "cannot send an answer; the caller asks again");
            }
            drop(place);
        };
        tokio::spawn(work.instrument(span));
    }
    // Questions that were taken are answered before the service ends.
    let everyone = u32::try_from(ANSWERS_AT_ONCE).unwrap_or(u32::MAX);
    let _ = places.acquire_many(everyone).await;
}

async fn reply<A: Answerer>(answerer: &A, payload: Bytes) -> v1::Answer {
    let outcome = match A::Question::decode(payload) {
        Ok(question) => answerer.answer(question).await,
        Err(error) => Err(Refusal::invalid(format!("the question cannot be read: {error}"))),
    };
    let outcome = match outcome {
        Ok(answer) => Outcome::Answer(answer.encode_to_vec().into()),
        Err(refusal) => Outcome::Refusal(v1::Refusal { kind: refusal.kind.into(), reason: refusal.reason }),
    };
    v1::Answer { outcome: Some(outcome) }
}
