//! n8n's public API: the few calls that a sweep makes, bounded in time and size.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use metering::{Clock, SafeText};
use reqwest::{
    Response, StatusCode,
    header::{
        ACCEPT, ACCEPT_ENCODING, AGE, CONTENT_ENCODING, CONTENT_TYPE, DATE, HeaderName, HeaderValue,
        LOCATION, RETRY_AFTER, WWW_AUTHENTICATE,
    },
    redirect,
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use url::Url;

use crate::{
    checks::clock_skew::Bounds,
    n8n::{
        address::{self, PrivateAddress, PublicOnly},
        json,
        row::RunId,
    },
};

/// The largest page that every version gives. More is an error on 1.x, and 0 means "all rows".
pub const PAGE_ROWS_MAX: u32 = 250;

/// Workflows come with all their nodes, so a page of them is kept short.
const WORKFLOWS_PER_PAGE: u32 = 50;

/// Time for a connection; an n8n not reached by then counts as unreachable.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an idle connection is kept for the next request of its sweep. If longer, one would be kept for
/// each source swept in that time, with its TLS buffers, and none used again: the next sweep comes minutes
/// later.
const IDLE_MAX: Duration = Duration::from_secs(5);

/// Idle connections to one host: sources behind the same proxy share them.
const IDLE_PER_HOST_MAX: usize = 16;

/// The beginning of the API's path.
const API_PATH: &str = "/api/v1/";

/// Longest piece of an answer that an error quotes, in characters.
const QUOTE_CHARS_MAX: usize = 120;

/// Statuses of executions that have not ended, as the list can be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenStatus {
    /// Queued. Version 1 does not know this filter and shows such rows in the list of all.
    New,
    /// At work.
    Running,
    /// Asleep.
    Waiting,
}

impl OpenStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Running => "running",
            Self::Waiting => "waiting",
        }
    }
}

/// What is requested with each page of a list. A cursor does not remember it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listing {
    /// Only executions of this status; all that are shown if missing.
    pub status: Option<OpenStatus>,
    /// Rows in a page: 1 to [`PAGE_ROWS_MAX`].
    pub rows_max: u32,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub struct Page<T = Value> {
    /// Newest first.
    pub data: Vec<T>,
    /// Where the next page begins; missing on the last.
    #[serde(rename = "nextCursor")]
    pub next_cursor: Option<String>,
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum N8nError {
    /// The address may not be used.
    #[error("the address is refused")]
    Address(#[from] PrivateAddress),
    /// The API key cannot be a header.
    #[error("the API key contains characters that no key has")]
    Key,
    /// A redirect, which is not followed.
    #[error("answered {status}: moved to {to}")]
    Redirected {
        /// The status.
        status: StatusCode,
        /// Where to, without the query.
        to: SafeText,
        /// The source's address there, if it is n8n's API that has moved.
        address: Option<SafeText>,
    },
    /// 401 or 403 from something in front of n8n; n8n itself answers in JSON.
    #[error("answered {status} with {content_type}: a proxy in front of n8n refuses the collector")]
    Proxy {
        /// The status.
        status: StatusCode,
        /// What it answered with.
        content_type: SafeText,
    },
    /// 404 in JSON for a whole list.
    #[error("there is no public API: {0}")]
    NoApi(String),
    /// A body in an encoding that was not asked for.
    #[error("answered in the encoding {0}, which was not asked for")]
    Encoded(SafeText),
    /// A list that does not advance.
    #[error("the list does not advance: a cursor was given again")]
    StuckCursor,
    /// The cursor cannot be used.
    #[error("the list does not advance: its cursor is too long or contains control characters")]
    BadCursor,
    /// The base address cannot carry the API's path.
    #[error("the address cannot carry a path")]
    Path,
    /// No connection, or it broke.
    #[error("no answer")]
    Unreachable(#[source] reqwest::Error),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    /// 401.
    #[error("the API key is refused")]
    Unauthorized,
    /// 403.
    #[error("the API key may not read this")]
    Forbidden,
    /// 429.
    #[error("too many requests")]
    RateLimited {
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// 400: this version does not understand the request.
    #[error("the request is refused: {0}")]
    BadRequest(String),
    /// 502 to 504: a proxy in front of n8n answers, and n8n does not.
    #[error("answered {0}: n8n is unavailable")]
    Away(StatusCode),
    /// Another status.
    #[error("answered {status}: {quote}")]
    Status {
        /// The status.
        status: StatusCode,
        /// The beginning of the answer.
        quote: String,
    },
    /// An answer whose content type is not JSON.
    #[error("answered with {content_type}: n8n is starting up or the address is wrong")]
    NotJson {
        /// What it says it is.
        content_type: SafeText,
    },
    /// JSON of another shape.
    #[error("answered with JSON of another shape")]
    Shape(#[source] serde_json::Error),
    /// An answer larger than is read.
    #[error("an answer of more than {0} bytes")]
    TooLarge(usize),
}

/// What calls to any n8n have in common; cheap to clone.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    clock: Arc<dyn Clock>,
    request_timeout: Duration,
    page_bytes_max: usize,
    allow_private_addresses: bool,
}

/// Bounds of a [`Client`].
#[derive(Debug, Clone, Copy)]
pub struct ClientLimits {
    /// For one request, its body included.
    pub request_timeout: Duration,
    /// The largest answer that is read.
    pub page_bytes_max: usize,
    /// Whether loopback, private and link-local addresses are allowed.
    pub allow_private_addresses: bool,
}

impl Client {
    /// A client with these bounds, which measures the sources' clocks against `clock`.
    pub fn new(limits: ClientLimits, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("flowmeter/", env!("CARGO_PKG_VERSION")))
            .timeout(limits.request_timeout)
            .connect_timeout(CONNECT_TIMEOUT.min(limits.request_timeout))
            // A redirect would carry the key to another host; a proxy would resolve names unguarded.
            .redirect(redirect::Policy::none())
            .no_proxy()
            .pool_idle_timeout(IDLE_MAX)
            .pool_max_idle_per_host(IDLE_PER_HOST_MAX);
        if !limits.allow_private_addresses {
            builder = builder.dns_resolver(Arc::new(PublicOnly));
        }
        Ok(Self {
            http: builder.build()?,
            clock,
            request_timeout: limits.request_timeout,
            page_bytes_max: limits.page_bytes_max,
            allow_private_addresses: limits.allow_private_addresses,
        })
    }

    /// The n8n at this address.
    pub fn instance(&self, base_url: &Url, key: &SecretString) -> Result<N8n, N8nError> {
        if !self.allow_private_addresses {
            address::check_literal(base_url)?;
        }
        let mut key = HeaderValue::from_str(key.expose_secret()).map_err(|_| N8nError::Key)?;
        key.set_sensitive(true);
        Ok(N8n { client: self.clone(), base_url: base_url.clone(), key, skew: Mutex::default() })
    }
}

/// One n8n.
pub struct N8n {
    client: Client,
    base_url: Url,
    key: HeaderValue,
    /// The range of its clock's skew, by its answers so far.
    skew: Mutex<Option<Bounds>>,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl N8n {
    /// A page of executions, newest first.
    pub async fn executions(&self, listing: Listing, cursor: Option<&str>) -> Result<Page, N8nError> {
        let mut url = self.url(&["executions"])?;
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("limit", &listing.rows_max.clamp(1, PAGE_ROWS_MAX).to_string());
            if let Some(status) = listing.status {
                query.append_pair("status", status.as_str());
            }
            if let Some(cursor) = cursor {
                query.append_pair("cursor", cursor);
            }
        }
        self.get(url).await
    }

    /// One execution; `None` if n8n has none with this id.
    pub async fn execution(&self, id: RunId) -> Result<Option<Value>, N8nError> {
        self.single(self.url(&["executions", &id.to_string()])?).await
    }

    /// One execution with the data of its nodes; `None` if n8n has none with this id.
    pub async fn execution_with_data(&self, id: RunId) -> Result<Option<Value>, N8nError> {
        let mut url = self.url(&["executions", &id.to_string()])?;
        url.query_pairs_mut().append_pair("includeData", "true");
        self.single(url).await
    }

    async fn single(&self, url: Url) -> Result<Option<Value>, N8nError> {
        let response = self.send(url).await?;
        if response.status() != StatusCode::NOT_FOUND {
            return self.read(response).await.map(Some);
        }
        // A starting n8n answers 404 in HTML. Only n8n's own JSON says that an execution is gone.
        expect_json(&response)?;
        let body = self.body(response).await?;
        json::read::<Refusal>(&body).map(|_| None).map_err(N8nError::Shape)
    }

    /// A page of workflows, by an offset cursor: one that is added or removed meanwhile may shift another out of sight.
    /// Each is still to be parsed, so that a malformed one does not cost the others.
    pub async fn workflows(&self, cursor: Option<&str>) -> Result<Page<Box<RawValue>>, N8nError> {
        let mut url = self.url(&["workflows"])?;
        url.query_pairs_mut().append_pair("limit", &WORKFLOWS_PER_PAGE.to_string());
        if let Some(cursor) = cursor {
            url.query_pairs_mut().append_pair("cursor", cursor);
        }
        self.get(url).await
    }

    fn url(&self, path: &[&str]) -> Result<Url, N8nError> {
        let mut url = self.base_url.clone();
        url.path_segments_mut()
            .map_err(|()| N8nError::Path)?
            .pop_if_empty()
            .extend(["api", "v1"])
            .extend(path);
        Ok(url)
    }

    async fn get<T: DeserializeOwned>(&self, url: Url) -> Result<T, N8nError> {
        let response = self.send(url).await?;
        self.read(response).await
    }

    async fn send(&self, url: Url) -> Result<Response, N8nError> {
        let sent = self.client.clock.now();
        let response = self
            .client
            .http
            .get(url)
            .header("X-N8N-API-KEY", self.key.clone())
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .send()
            .await
            .map_err(|error| self.failed(error))?;
        self.measure(&response, sent);
        Ok(response)
    }

    /// How far its clock is ahead of ours, in milliseconds, by its answers so far; `None` if none of them
    /// gave it.
    pub fn skew_ms(&self) -> Option<i64> {
        self.skew.lock().unwrap_or_else(PoisonError::into_inner).map(Bounds::middle_ms)
    }

    fn measure(&self, response: &Response, sent: Timestamp) {
        // The `Date` of a cached answer is old.
        if response.headers().contains_key(AGE) {
            return;
        }
        let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
        let bounds = date.and_then(|date| Bounds::of_answer(date, sent, self.client.clock.now()));
        if let Some(bounds) = bounds {
            let mut known = self.skew.lock().unwrap_or_else(PoisonError::into_inner);
            *known = Some(known.map_or(bounds, |known| known.and(bounds)));
        }
    }

    async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, N8nError> {
        match response.status() {
            StatusCode::OK => {
                expect_json(&response)?;
                let body = self.body(response).await?;
                json::read(&body).map_err(N8nError::Shape)
            }
            _ => Err(self.refused(response).await),
        }
    }

    async fn refused(&self, response: Response) -> N8nError {
        let asks_for_login = response.headers().contains_key(WWW_AUTHENTICATE);
        match response.status() {
            status if status.is_redirection() => redirected(&response),
            // n8n's own answer is JSON and has no login challenge.
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
                if asks_for_login || expect_json(&response).is_err() =>
            {
                N8nError::Proxy { status, content_type: content_type(&response) }
            }
            StatusCode::UNAUTHORIZED => N8nError::Unauthorized,
            StatusCode::FORBIDDEN => N8nError::Forbidden,
            StatusCode::TOO_MANY_REQUESTS => N8nError::RateLimited { retry_after: retry_after(&response) },
            status @ (StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => N8nError::Away(status),
            status => {
                if let Err(not_json) = expect_json(&response) {
                    return not_json;
                }
                let body = match self.body(response).await {
                    Ok(body) => body,
                    Err(error) => return error,
                };
                let quote = quote(&body);
                match status {
                    StatusCode::BAD_REQUEST => N8nError::BadRequest(quote),
                    StatusCode::NOT_FOUND => N8nError::NoApi(quote),
                    status => N8nError::Status { status, quote },
                }
            }
        }
    }

    /// Reads an answer up to the limit: a source must not be able to fill our memory.
    async fn body(&self, mut response: Response) -> Result<Vec<u8>, N8nError> {
        let encoding = header_text(&response, &CONTENT_ENCODING);
        if let Some(encoding) = encoding.filter(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
            return Err(N8nError::Encoded(encoding));
        }
        let bytes_max = self.client.page_bytes_max;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.failed(error))? {
            if body.len() + chunk.len() > bytes_max {
                return Err(N8nError::TooLarge(bytes_max));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn failed(&self, error: reqwest::Error) -> N8nError {
        if error.is_timeout() {
            return N8nError::TimedOut(self.client.request_timeout);
        }
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(current) = cause {
            if let Some(private) = current.downcast_ref::<PrivateAddress>() {
                return N8nError::Address(private.clone());
            }
            cause = current.source();
        }
        N8nError::Unreachable(error.without_url())
    }
}

fn expect_json(response: &Response) -> Result<(), N8nError> {
    let content_type = content_type(response);
    if content_type.to_ascii_lowercase().starts_with("application/json") {
        return Ok(());
    }
    Err(N8nError::NotJson { content_type })
}

fn content_type(response: &Response) -> SafeText {
    header_text(response, &CONTENT_TYPE)
        .unwrap_or_else(|| SafeText::clean("no content type", QUOTE_CHARS_MAX))
}

fn header_text(response: &Response, name: &HeaderName) -> Option<SafeText> {
    let text = response.headers().get(name)?.to_str().ok()?;
    Some(SafeText::clean(text, QUOTE_CHARS_MAX))
}

/// Where a redirect leads. Its query may hold secrets; the rest is shown.
fn redirected(response: &Response) -> N8nError {
    let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
    let to = location.and_then(|location| response.url().join(location).ok()).map(|mut url| {
        url.set_query(None);
        url.set_fragment(None);
        url
    });
    let api_path = response.url().path().rfind(API_PATH).and_then(|place| response.url().path().get(place..));
    let address = to.as_ref().zip(api_path).and_then(|(to, path)| to.as_str().strip_suffix(path));
    N8nError::Redirected {
        status: response.status(),
        address: address.map(|address| SafeText::clean(address, QUOTE_CHARS_MAX)),
        to: SafeText::clean(to.as_ref().map_or("nowhere", Url::as_str), QUOTE_CHARS_MAX),
    }
}

/// The seconds of `Retry-After`. Its other form, a date, is left to our own backoff.
fn retry_after(response: &Response) -> Option<Duration> {
    let seconds = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

fn quote(body: &[u8]) -> String {
    let text = json::read::<Refusal>(body)
        .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |refusal| refusal.message);
    SafeText::clean(&text, QUOTE_CHARS_MAX).into()
}
