//! Stripe, through its library. The only file that names the library's crates.
//!
//! The library's own retries are not used: they generate a random idempotency key for every call, while ours
//! has to survive a crash. Every call is a single try with a timeout.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use jiff::Timestamp;
use secrecy::{ExposeSecret, SecretString};
use stripe::{
    ApiErrors, ApiErrorsCode, ApiErrorsType, Client, ClientBuilder, IdempotencyKey, RequestStrategy,
    StripeError, StripeRequest,
};
use stripe_billing::{
    BillingMeterStatus, billing_meter::ListBillingMeter, billing_meter_event::CreateBillingMeterEvent,
    billing_meter_event_summary::ListIdBillingMeterEventSummary,
};
use tokio::time::Instant;
use url::Url;

use crate::{
    identifier::Destination,
    minutes::minute_of,
    outcome::{Outcome, ReadError},
    report::Report,
};

/// Longest time that may be configured for one call; a lease of a sender is longer than all its calls together.
pub const REQUEST_TIMEOUT_MAX: Duration = Duration::from_secs(30);

/// A meter's id is looked up again after this, so that an archived meter is noticed.
const METER_KNOWN_FOR: Duration = Duration::from_secs(10 * 60);

/// A customer is looked up again after this.
const CUSTOMER_KNOWN_FOR: Duration = Duration::from_secs(60 * 60);

/// Customers that are cached; when there are more, the whole cache is cleared.
const CUSTOMERS_KNOWN_MAX: usize = 10_000;

/// Meters per page, Stripe's maximum.
const METERS_PER_PAGE: i64 = 100;

/// Pages of meters that are read. An account with more needs another way to find one.
const METER_PAGES_MAX: usize = 10;

/// Longest message from Stripe that is kept, in characters.
const MESSAGE_CHARS_MAX: usize = 300;

const MINUTE_SECONDS: i64 = 60;

/// A meter's id at Stripe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeterId(String);

/// The client cannot be made from the settings.
#[derive(Debug, thiserror::Error)]
pub enum StripeSettingsError {
    /// The library refuses the key or the URL.
    #[error("cannot use billing.stripe_key or billing.stripe_url")]
    Client(#[source] StripeError),
}

/// A connection to one Stripe account.
pub struct Stripe {
    client: Client,
    meters: Mutex<HashMap<String, (MeterId, Instant)>>,
    customers: Mutex<HashMap<Destination, Instant>>,
}

impl Stripe {
    /// A client of the account that `key` belongs to.
    pub fn new(
        key: &SecretString,
        url: Option<&Url>,
        timeout: Duration,
    ) -> Result<Self, StripeSettingsError> {
        let mut builder = ClientBuilder::new(key.expose_secret())
            .timeout(timeout)
            .request_strategy(RequestStrategy::Once)
            .app_info("Flowmeter", Some(env!("CARGO_PKG_VERSION").to_owned()), None);
        if let Some(url) = url {
            // The library appends `v1/...` as it is.
            builder = builder.url(format!("{}/", url.as_str().trim_end_matches('/')));
        }
        let client = builder.build().map_err(StripeSettingsError::Client)?;
        Ok(Self { client, meters: Mutex::default(), customers: Mutex::default() })
    }

    /// Sends a report: one try, under the report's identifier and idempotency key.
    pub async fn send(&self, report: &Report) -> Outcome {
        let key = match IdempotencyKey::new(report.idempotency_key()) {
            Ok(key) => key,
            Err(error) => return Outcome::Refused(error.to_string()),
        };
        let payload = HashMap::from([
            ("stripe_customer_id".to_owned(), report.destination.customer.clone()),
            ("value".to_owned(), report.quantity.to_string()),
        ]);
        let sent = CreateBillingMeterEvent::new(report.destination.event_name.clone(), payload)
            .identifier(report.identifier.as_str())
            .timestamp(report.event_at.as_second())
            .customize()
            .request_strategy(RequestStrategy::Idempotent(key))
            .send(&self.client)
            .await;
        match sent {
            Ok(_) => Outcome::Accepted,
            Err(error) => outcome_of(error),
        }
    }

    /// The active meter with this event name.
    pub async fn meter(&self, event_name: &str) -> Result<MeterId, ReadError> {
        if let Some((meter, found_at)) = lock(&self.meters).get(event_name)
            && found_at.elapsed() < METER_KNOWN_FOR
        {
            return Ok(meter.clone());
        }
        let found = self.active_meters().await?;
        let now = Instant::now();
        let mut meters = lock(&self.meters);
        *meters = found.into_iter().map(|(name, meter)| (name, (meter, now))).collect();
        let meter = meters.get(event_name).map(|(meter, _)| meter.clone());
        meter.ok_or_else(|| ReadError::NoMeter(event_name.to_owned()))
    }

    /// Makes sure that the meter and the customer exist. Stripe accepts an event without either, answers 200
    /// and counts nothing.
    pub async fn check(&self, destination: &Destination, at: Timestamp) -> Result<(), ReadError> {
        let meter = self.meter(&destination.event_name).await?;
        let known = lock(&self.customers).get(destination).copied();
        if known.is_some_and(|found_at| found_at.elapsed() < CUSTOMER_KNOWN_FOR) {
            return Ok(());
        }
        // Any summary of the customer will do: for an unknown customer Stripe answers with an error.
        let minute = minute_of(at) * MINUTE_SECONDS;
        self.sum(&meter, &destination.customer, minute, minute + MINUTE_SECONDS).await?;
        let mut customers = lock(&self.customers);
        if customers.len() >= CUSTOMERS_KNOWN_MAX {
            customers.clear();
        }
        customers.insert(destination.clone(), Instant::now());
        Ok(())
    }

    /// What Stripe has counted in the minute of `at`: the receipt of the one report that lies in it.
    pub async fn receipt(&self, destination: &Destination, at: Timestamp) -> Result<i64, ReadError> {
        let minute = minute_of(at) * MINUTE_SECONDS;
        let meter = self.meter(&destination.event_name).await?;
        self.sum(&meter, &destination.customer, minute, minute + MINUTE_SECONDS).await
    }

    /// What Stripe has counted from `start` up to, not including, `end`.
    pub async fn total(
        &self,
        destination: &Destination,
        start: Timestamp,
        end: Timestamp,
    ) -> Result<i64, ReadError> {
        let meter = self.meter(&destination.event_name).await?;
        let start = minute_of(start) * MINUTE_SECONDS;
        let end = (end.as_second() + MINUTE_SECONDS - 1).div_euclid(MINUTE_SECONDS) * MINUTE_SECONDS;
        self.sum(&meter, &destination.customer, start, end).await
    }

    async fn sum(&self, meter: &MeterId, customer: &str, start: i64, end: i64) -> Result<i64, ReadError> {
        // In this constructor the end comes before the start.
        let page = ListIdBillingMeterEventSummary::new(meter.0.as_str(), customer, end, start)
            .send(&self.client)
            .await
            .map_err(|error| read_error_of(error, customer))?;
        // Without grouping there is one summary, or none if nothing was reported.
        page.data.iter().try_fold(0_i64, |sum, summary| {
            let value = whole(summary.aggregated_value).ok_or_else(|| {
                ReadError::Unavailable(format!("{} is not a whole number", summary.aggregated_value))
            })?;
            Ok(sum.saturating_add(value))
        })
    }

    async fn active_meters(&self) -> Result<BTreeMap<String, MeterId>, ReadError> {
        let mut found = BTreeMap::new();
        let mut after: Option<String> = None;
        for _ in 0..METER_PAGES_MAX {
            let mut list = ListBillingMeter::new().status(BillingMeterStatus::Active).limit(METERS_PER_PAGE);
            if let Some(last) = &after {
                list = list.starting_after(last.as_str());
            }
            let page = list.send(&self.client).await.map_err(|error| read_error_of(error, ""))?;
            after = page.data.last().map(|meter| meter.id.to_string());
            found
                .extend(page.data.into_iter().map(|meter| (meter.event_name, MeterId(meter.id.to_string()))));
            if !page.has_more {
                break;
            }
        }
        Ok(found)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A summary's value. Meters of executions hold whole numbers of at most 15 digits, which a float holds exactly.
fn whole(value: f64) -> Option<i64> {
    value.to_string().parse().ok()
}

fn outcome_of(error: StripeError) -> Outcome {
    match error {
        StripeError::Stripe(error, status) => refusal_of(&error, status),
        // A proxy's page, an answer of another shape, or one that could not be read: the status is lost here.
        StripeError::JSONDeserialize(text) | StripeError::ClientError(text) => {
            Outcome::NoAnswer(shortened(&text))
        }
        StripeError::Timeout => Outcome::NoAnswer("no answer in time".to_owned()),
        StripeError::ConfigError(text) => Outcome::Refused(shortened(&text)),
    }
}

fn refusal_of(error: &ApiErrors, status: u16) -> Outcome {
    let message = message_of(error);
    let param = error.param.as_deref();
    match status {
        401 | 403 => Outcome::Unauthorized(message),
        // Before the error's type: "key in use" is an `idempotency_error` too, and only means "not yet".
        409 | 429 => Outcome::Busy(message),
        424 | 500.. => Outcome::Failed(message),
        _ if error.type_ == ApiErrorsType::IdempotencyError => Outcome::KeyReused(message),
        // Stripe gives this error no code, so its message has to do.
        _ if message.contains("already exists with identifier") => Outcome::Duplicate,
        _ if param == Some("timestamp") && !message.contains("future") => Outcome::TooOld(message),
        _ if param == Some("event_name") => Outcome::NoMeter(message),
        _ => Outcome::Refused(message),
    }
}

fn read_error_of(error: StripeError, customer: &str) -> ReadError {
    match error {
        StripeError::Stripe(error, status) => {
            let message = message_of(&error);
            let is_missing = error.code == Some(ApiErrorsCode::ResourceMissing);
            match status {
                401 | 403 => ReadError::Unauthorized(message),
                400 | 404 if is_missing && error.param.as_deref() == Some("customer") => {
                    ReadError::NoCustomer(customer.to_owned())
                }
                _ => ReadError::Unavailable(message),
            }
        }
        StripeError::Timeout => ReadError::Unavailable("no answer in time".to_owned()),
        StripeError::JSONDeserialize(text)
        | StripeError::ClientError(text)
        | StripeError::ConfigError(text) => ReadError::Unavailable(shortened(&text)),
    }
}

fn message_of(error: &ApiErrors) -> String {
    match error.message.as_deref() {
        Some(message) => shortened(message),
        None => error.type_.as_str().to_owned(),
    }
}

fn shortened(text: &str) -> String {
    metering::SafeText::clean(text, MESSAGE_CHARS_MAX).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stripes_messages_become_one_line_that_the_database_accepts() {
        assert_eq!(shortened("No such\0 customer\r\n"), "No such\u{fffd} customer  ");
    }

    #[test]
    fn only_whole_values_are_read() {
        assert_eq!(whole(42.0), Some(42));
        assert_eq!(whole(-7.0), Some(-7));
        assert_eq!(whole(999_999_999_999_999.0), Some(999_999_999_999_999));
        assert_eq!(whole(1.5), None);
        assert_eq!(whole(f64::NAN), None);
    }
}
