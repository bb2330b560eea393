//! Questions to other services on behalf of a caller. Routes ask only through here: each caller has a few
//! places, and one that wants more is refused before it slows the answers to others.

use std::time::Duration;

use prost::Message;
use proto::subjects::Question;

use super::{App, authenticate::Caller, error::ApiError};

/// Asks, and waits at most `within` for the answer once the question is on its way.
pub async fn ask<A: Message + Default>(
    app: &App,
    caller: &Caller,
    question: Question,
    message: &impl Message,
    within: Duration,
) -> Result<A, ApiError> {
    let _place = app.quotas.questions.enter(caller.who.clone()).await?;
    Ok(app.bus.ask(question, message, within).await?)
}
