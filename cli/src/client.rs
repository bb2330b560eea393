//! The gateway's API.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use reqwest::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use url::Url;

use crate::{
    secret_file::{self, SecretFileError},
    table,
};

/// The gateway answers in milliseconds; a person has given up by then.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Longest quoted part of an unexpected answer, in characters.
const QUOTED_CHARS_MAX: usize = 300;

/// Where the gateway is, and who is asking.
#[derive(Debug, Args)]
pub struct GatewayArgs {
    /// Where the gateway is.
    #[arg(long, env = "FLOWMETER_URL", default_value = GATEWAY, value_parser = gateway_url, global = true)]
    url: Url,
    /// The operator's token, or a tenant's.
    #[arg(long, env = "FLOWMETER_TOKEN", hide_env_values = true, global = true)]
    token: Option<SecretString>,
    /// A file with that token, for secrets that are mounted; the token itself has precedence.
    #[arg(long, env = "FLOWMETER_TOKEN_FILE", value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

/// Where the gateway of a local stack is.
const GATEWAY: &str = "http://127.0.0.1:8080";

/// An empty variable counts as unset.
fn gateway_url(text: &str) -> Result<Url, url::ParseError> {
    if text.is_empty() { GATEWAY.parse() } else { text.parse() }
}

/// The gateway did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// There is no token.
    #[error("no token: set FLOWMETER_TOKEN to the gateway's operator token, or to a tenant's token")]
    NoToken,
    /// The token's file cannot be read.
    #[error("FLOWMETER_TOKEN_FILE")]
    TokenFile(#[from] SecretFileError),
    /// The token cannot be sent, or the client not built.
    #[error("cannot prepare requests to the gateway")]
    Prepare(#[source] reqwest::Error),
    /// The address cannot have a path.
    #[error("{0} is not the address of a gateway: use e.g. http://127.0.0.1:8080 (FLOWMETER_URL)")]
    Address(Url),
    /// No answer.
    #[error("no answer to {asked}; is the gateway running, and is FLOWMETER_URL right?")]
    NoAnswer {
        /// Method and address.
        asked: String,
        /// Why.
        source: reqwest::Error,
    },
    /// The token is not known.
    #[error("the gateway does not know this token; check FLOWMETER_TOKEN")]
    Unauthorized,
    /// The token is known and may not do this.
    #[error("{0}; is FLOWMETER_TOKEN the operator's?")]
    Forbidden(String),
    /// There is no such thing.
    #[error("{0}")]
    NotFound(String),
    /// The gateway refuses the content.
    #[error("{0}")]
    Refused(String),
    /// The gateway failed.
    #[error("the gateway answers {status} to {asked}: {message}")]
    Failed {
        /// Method and address.
        asked: String,
        /// The status.
        status: StatusCode,
        /// Its message.
        message: String,
    },
    /// The answer does not match the contract.
    #[error("cannot read the answer to {asked}; is that a gateway of this version?")]
    Unreadable {
        /// Method and address.
        asked: String,
        /// Why.
        source: serde_json::Error,
    },
}

impl ClientError {
    /// Whether it is certain that nothing was done: the request was not sent, or the gateway refused it.
    pub fn is_definite(&self) -> bool {
        match self {
            Self::NoToken
            | Self::TokenFile(_)
            | Self::Prepare(_)
            | Self::Address(_)
            | Self::Unauthorized
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::Refused(_) => true,
            Self::NoAnswer { source, .. } => source.is_connect() || source.is_builder(),
            Self::Failed { status, .. } => status.is_client_error(),
            Self::Unreadable { .. } => false,
        }
    }
}

/// Sends requests to the gateway.
#[derive(Debug, Clone)]
pub struct Client {
    base: Url,
    token: SecretString,
    http: reqwest::Client,
}

impl Client {
    /// A client for the gateway that the arguments name.
    pub fn new(args: &GatewayArgs) -> Result<Self, ClientError> {
        let token = secret_file::either(args.token.clone(), args.token_file.as_deref())?;
        let token = token.ok_or(ClientError::NoToken)?;
        if args.url.cannot_be_a_base() {
            return Err(ClientError::Address(args.url.clone()));
        }
        let http = reqwest::Client::builder()
            .timeout(ANSWER_WITHIN)
            .user_agent(concat!("flowmeter/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(ClientError::Prepare)?;
        Ok(Self { base: args.url.clone(), token, http })
    }

    /// GET of a path, given by its segments.
    pub async fn get<T: DeserializeOwned>(&self, path: &[&str]) -> Result<T, ClientError> {
        self.send(Method::GET, self.address(path), None::<&()>).await
    }

    /// GET of a path with a query.
    pub async fn get_with<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, ClientError> {
        let mut url = self.address(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(Method::GET, url, None::<&()>).await
    }

    /// GET of something that may not be there.
    pub async fn find<T: DeserializeOwned>(&self, path: &[&str]) -> Result<Option<T>, ClientError> {
        match self.get(path).await {
            Ok(found) => Ok(Some(found)),
            Err(ClientError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// PUT to a path with a query, which may be empty.
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let mut url = self.address(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        self.send(Method::PUT, url, Some(body)).await
    }

    /// POST.
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &[&str],
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.send(Method::POST, self.address(path), Some(body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &[&str]) -> Result<(), ClientError> {
        self.send::<Value>(Method::DELETE, self.address(path), None::<&()>).await.map(|_| ())
    }

    /// Segments are escaped, so that an id from the command line stays one segment.
    fn address(&self, path: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().push("v1").extend(path);
        }
        url
    }

    /// GET of a text that is not JSON.
    pub async fn get_text(&self, path: &[&str], query: &[(&str, &str)]) -> Result<String, ClientError> {
        let mut url = self.address(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let asked = format!("GET {url}");
        self.text(Method::GET, url, &asked, None::<&()>).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        url: Url,
        body: Option<&impl Serialize>,
    ) -> Result<T, ClientError> {
        let asked = format!("{method} {url}");
        let text = self.text(method, url, &asked, body).await?;
        // An answer without content (204) is null.
        let text = if text.is_empty() { "null" } else { &text };
        serde_json::from_str(text).map_err(|source| ClientError::Unreadable { asked, source })
    }

    async fn text(
        &self,
        method: Method,
        url: Url,
        asked: &str,
        body: Option<&impl Serialize>,
    ) -> Result<String, ClientError> {
        let no_answer = |source| ClientError::NoAnswer { asked: asked.to_owned(), source };
        let mut request = self.http.request(method, url).bearer_auth(self.token.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(no_answer)?;
        let status = answer.status();
        let text = answer.text().await.map_err(no_answer)?;
        if !status.is_success() {
            return Err(refusal(asked.to_owned(), status, &text));
        }
        Ok(text)
    }
}

fn refusal(asked: String, status: StatusCode, body: &str) -> ClientError {
    let message = message_of(body);
    match status {
        StatusCode::UNAUTHORIZED => ClientError::Unauthorized,
        StatusCode::FORBIDDEN => ClientError::Forbidden(message),
        StatusCode::NOT_FOUND => ClientError::NotFound(message),
        StatusCode::BAD_REQUEST | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
            ClientError::Refused(message)
        }
        _ => ClientError::Failed { asked, status, message },
    }
}

/// The gateway's message, with the field that it is about.
fn message_of(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Failure {
        error: Detail,
    }
    #[derive(serde::Deserialize)]
    struct Detail {
        message: String,
        field: Option<String>,
    }
    match serde_json::from_str::<Failure>(body) {
        Ok(Failure { error: Detail { message, field: Some(field) } }) if !message.contains(&field) => {
            format!("{field}: {message}")
        }
        Ok(Failure { error }) => error.message,
        Err(_) => table::shortened(body.trim(), QUOTED_CHARS_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attempt::unless_definite;

    fn client(base: &str) -> Client {
        let args = GatewayArgs { url: base.parse().unwrap(), token: Some("t".into()), token_file: None };
        let _ = rustls::crypto::ring::default_provider().install_default();
        Client::new(&args).unwrap()
    }

    #[test]
    fn an_id_stays_one_segment() {
        let url = client("http://127.0.0.1:8080/meter/").address(&["usage", "a/../b c"]);
        assert_eq!(url.as_str(), "http://127.0.0.1:8080/meter/v1/usage/a%2F..%2Fb%20c");
    }

    #[test]
    fn a_client_needs_a_token() {
        let args =
            GatewayArgs { url: "http://127.0.0.1:8080".parse().unwrap(), token: None, token_file: None };
        assert!(Client::new(&args).unwrap_err().to_string().contains("FLOWMETER_TOKEN"));
    }

    #[test]
    fn only_a_request_without_a_clear_answer_may_have_been_done() {
        let answered =
            |status: u16| refusal("POST /".to_owned(), StatusCode::from_u16(status).unwrap(), "{}");
        for definite in [400, 401, 403, 404, 409, 413, 415, 422, 429] {
            let outcome = unless_definite::<()>(Err(answered(definite)), "it may not have been done");
            let said = format!("{:#}", outcome.unwrap_err());
            assert!(!said.contains("may not"), "{definite}: {said}");
        }
        for unclear in [500, 502, 503, 504] {
            let outcome = unless_definite::<()>(Err(answered(unclear)), "it may not have been done");
            let said = format!("{:#}", outcome.unwrap_err());
            assert!(said.starts_with("it may not have been done: the gateway answers"), "{said}");
        }
    }

    #[test]
    fn the_field_is_named_once() {
        let body = |message: &str| {
            format!(r#"{{"error": {{"code": "invalid_value", "message": "{message}", "field": "plan"}}}}"#)
        };
        assert_eq!(message_of(&body("there is no such thing")), "plan: there is no such thing");
        assert_eq!(message_of(&body("plan: unknown")), "plan: unknown");
        assert_eq!(message_of("<html>\n<body>"), "<html> <body>");
    }
}
