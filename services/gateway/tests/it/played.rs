//! A fake aggregator.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use messaging::ask::{self, Answerer, Refusal};
use proto::subjects::Question;
use reqwest::Method;
use serde_json::Value;
use testkit::eventually;

use crate::harness::Harness;

/// A fake aggregator that records its questions and answers by a function.
pub struct Played<Q, A> {
    asked: Mutex<Vec<Q>>,
    answer: Says<Q, A>,
}

type Says<Q, A> = Box<dyn Fn(&Q) -> Result<A, Refusal> + Send + Sync>;

#[async_trait]
impl<Q, A> Answerer for Played<Q, A>
where
    Q: prost::Message + Default + Clone + 'static,
    A: prost::Message + 'static,
{
    type Question = Q;
    type Answer = A;

    async fn answer(&self, question: Q) -> Result<A, Refusal> {
        self.asked.lock().unwrap().push(question.clone());
        (self.answer)(&question)
    }
}

impl<Q, A> Played<Q, A>
where
    Q: prost::Message + Default + Clone + 'static,
    A: prost::Message + 'static,
{
    /// Answers a world's questions until the world ends.
    pub fn start(
        world: &Harness,
        question: Question,
        answer: impl Fn(&Q) -> Result<A, Refusal> + Send + Sync + 'static,
    ) -> Arc<Self> {
        let played = Arc::new(Self { asked: Mutex::default(), answer: Box::new(answer) });
        let context = &world.bench.context;
        let shutdown = context.tasks.shutdown();
        context.tasks.spawn(ask::answer(context.bus.clone(), question, played.clone(), shutdown));
        played
    }

    /// The last question.
    pub fn last(&self) -> Q {
        self.asked.lock().unwrap().last().cloned().expect("was asked")
    }
}

/// Repeats a request until the fake aggregator answers.
pub async fn get(world: &Harness, path: &str) -> Value {
    eventually("the aggregator answers", || async {
        let (status, body) = world.ask(Method::GET, path, None).await;
        (status != 503).then(|| {
            assert_eq!(status, 200, "GET {path}: {body}");
            body
        })
    })
    .await
}
