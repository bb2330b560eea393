//! One Stripe account: customers, meters, events, and the calls in progress.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::error::StripeError;
use super::form::Form;
use super::idempotency::Idempotency;
use super::meter::{Meter, SummaryQuery};
use super::meter_event::{EventError, Fate, MeterEvent, NewEvent, parse_value};

/// Most events the account keeps: 200 days of a report every 5 minutes for 3 customers.
pub const EVENTS_MAX: usize = 200_000;
/// Most customers of the account.
pub const CUSTOMERS_MAX: usize = 10_000;
/// Most meters of the account.
pub const METERS_MAX: usize = 100;
/// How long an identifier stays taken. Stripe promises "at least" this, so a sender may not rely on more.
pub const IDENTIFIER_UNIQUE_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How long after receipt an event can be canceled.
const CANCELABLE_FOR: SignedDuration = SignedDuration::from_hours(24);
/// How long a meter event takes: enough that a concurrent second call hits the lock of the first.
const LATENCY_DEFAULT: Duration = Duration::from_millis(3);

/// A customer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Customer {
    /// Stripe's id.
    pub id: String,
    /// Name.
    pub name: Option<String>,
    /// E-mail address.
    pub email: Option<String>,
    /// The account owner's own fields.
    pub metadata: BTreeMap<String, String>,
    /// When it was created.
    pub created_at: Timestamp,
    /// Whether it was deleted; a `GET` still finds it, marked as deleted.
    pub deleted: bool,
}

impl Customer {
    pub(crate) fn new(id: String, created_at: Timestamp) -> Self {
        Self { id, name: None, email: None, metadata: BTreeMap::new(), created_at, deleted: false }
    }

    pub(crate) fn update(&mut self, form: &Form) -> Result<(), StripeError> {
        form.allow(&["name", "email", "description", "metadata"])?;
        if let Some(name) = form.get("name") {
            self.name = Some(name.to_owned());
        }
        if let Some(email) = form.get("email") {
            self.email = Some(email.to_owned());
        }
        self.metadata.extend(form.map("metadata"));
        Ok(())
    }

    pub(crate) fn object(&self) -> Value {
        if self.deleted {
            return json!({ "id": self.id, "object": "customer", "deleted": true });
        }
        json!({
            "id": self.id, "object": "customer", "address": null, "balance": 0,
            "created": self.created_at.as_second(), "currency": null, "default_source": null,
            "delinquent": false, "description": null, "discount": null, "email": self.email,
            "invoice_prefix": "SANDBOX",
            "invoice_settings": {"custom_fields": null, "default_payment_method": null, "footer": null,
                                 "rendering_options": null},
            "livemode": false, "metadata": self.metadata, "name": self.name, "next_invoice_sequence": 1,
            "phone": null, "preferred_locales": [], "shipping": null, "tax_exempt": "none", "test_clock": null,
        })
    }
}

/// A customer's total of one event name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Total {
    /// The customer.
    pub customer: String,
    /// The event name.
    pub event_name: String,
    /// The meter's aggregate of the counted events.
    pub value: i64,
    /// How many events count.
    pub events: u64,
}

/// How the account behaves.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    /// The only secret key that is accepted; without one, any that looks like a secret or restricted key.
    pub(crate) key: Option<String>,
    /// How long a meter event takes.
    pub(crate) latency: Duration,
    /// How long an event stays invisible to summaries, on the sandbox's clock.
    pub(crate) summary_delay: SignedDuration,
}

/// The state of the account.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Account {
    pub(crate) settings: Settings,
    pub(crate) customers: BTreeMap<String, Customer>,
    pub(crate) meters: Vec<Meter>,
    pub(crate) events: Vec<MeterEvent>,
    pub(crate) idempotency: Idempotency,
    taken: HashMap<String, Timestamp>,
    next_number: u64,
    #[serde(skip)]
    busy: HashSet<Lock>,
}

/// A customer's usage of a meter, for which Stripe handles one call at a time.
pub(crate) type Lock = (Option<String>, String);

impl Default for Account {
    fn default() -> Self {
        Self {
            settings: Settings { key: None, latency: LATENCY_DEFAULT, summary_delay: SignedDuration::ZERO },
            customers: BTreeMap::new(),
            meters: Vec::new(),
            events: Vec::new(),
            idempotency: Idempotency::default(),
            taken: HashMap::new(),
            next_number: 1,
            busy: HashSet::new(),
        }
    }
}

impl Account {
    /// A fresh id of the given kind.
    pub(crate) fn next_id(&mut self, prefix: &str) -> String {
        let number = self.next_number;
        self.next_number += 1;
        format!("{prefix}_{number:014}")
    }

    pub(crate) fn add_customer(&mut self, customer: Customer) -> Result<Customer, StripeError> {
        if self.customers.len() >= CUSTOMERS_MAX {
            return Err(StripeError::Full("10,000 customers"));
        }
        self.customers.insert(customer.id.clone(), customer.clone());
        Ok(customer)
    }

    pub(crate) fn find_customer(&self, id: &str) -> Result<&Customer, StripeError> {
        self.customers.get(id).ok_or_else(|| no_such("customer", id, "id"))
    }

    pub(crate) fn customer(&mut self, id: &str) -> Result<&mut Customer, StripeError> {
        self.customers.get_mut(id).ok_or_else(|| no_such("customer", id, "id"))
    }

    pub(crate) fn add_meter(&mut self, meter: Meter) -> Result<Meter, StripeError> {
        if self.active_meter(&meter.event_name).is_some() {
            return Err(StripeError::EventNameTaken(meter.event_name));
        }
        if self.meters.len() >= METERS_MAX {
            return Err(StripeError::Full("100 meters"));
        }
        self.meters.push(meter.clone());
        Ok(meter)
    }

    pub(crate) fn find_meter(&self, id: &str) -> Result<&Meter, StripeError> {
        self.meters.iter().find(|meter| meter.id == id).ok_or_else(|| no_such("billing meter", id, "id"))
    }

    pub(crate) fn meter(&mut self, id: &str) -> Result<&mut Meter, StripeError> {
        self.meters.iter_mut().find(|meter| meter.id == id).ok_or_else(|| no_such("billing meter", id, "id"))
    }

    pub(crate) fn archive(&mut self, id: &str, now: Timestamp) -> Result<Meter, StripeError> {
        let meter = self.meter(id)?;
        meter.deactivated_at = Some(now);
        Ok(meter.clone())
    }

    pub(crate) fn active_meter(&self, event_name: &str) -> Option<&Meter> {
        self.meters.iter().find(|meter| meter.event_name == event_name && meter.deactivated_at.is_none())
    }

    /// Takes the lock a new event needs, or fails if another call holds it.
    pub(crate) fn lock(&mut self, event: &NewEvent) -> Result<Lock, StripeError> {
        let lock = (self.customer_of(event), event.event_name.clone());
        if self.busy.insert(lock.clone()) { Ok(lock) } else { Err(StripeError::LockTimeout) }
    }

    pub(crate) fn unlock(&mut self, lock: &Lock) {
        self.busy.remove(lock);
    }

    /// Accepts an event; the answer does not show whether it counts.
    pub(crate) fn record(&mut self, event: &NewEvent, now: Timestamp) -> Result<Value, StripeError> {
        let identifier = match &event.identifier {
            Some(identifier) => identifier.clone(),
            None => self.next_id("mtrev"),
        };
        let taken_at = self.taken.get(&identifier);
        if taken_at.is_some_and(|at| now.duration_since(*at) < IDENTIFIER_UNIQUE_FOR) {
            return Err(StripeError::DuplicateIdentifier(identifier));
        }
        if self.events.len() >= EVENTS_MAX {
            return Err(StripeError::Full("200,000 meter events"));
        }
        let judged = self.judge(event);
        self.taken.insert(identifier.clone(), now);
        let object = event.object(&identifier, now);
        self.events.push(MeterEvent {
            identifier,
            event_name: event.event_name.clone(),
            customer: self.customer_of(event),
            value: judged.ok(),
            timestamp_s: event.timestamp_s,
            received_at: now,
            fate: judged.map_or_else(Fate::Failed, |_| Fate::Counted),
        });
        Ok(object)
    }

    /// Cancels an event: `POST /v1/billing/meter_event_adjustments`.
    pub(crate) fn cancel(
        &mut self,
        event_name: &str,
        identifier: &str,
        now: Timestamp,
    ) -> Result<Value, StripeError> {
        let event = self
            .events
            .iter_mut()
            .rev()
            .find(|event| event.identifier == identifier && event.event_name == event_name)
            .ok_or_else(|| no_such("meter event", identifier, "cancel[identifier]"))?;
        if now.duration_since(event.received_at) > CANCELABLE_FOR {
            return Err(StripeError::TooLateToCancel);
        }
        if event.fate == Fate::Counted {
            event.fate = Fate::Canceled;
        }
        Ok(json!({
            "object": "billing.meter_event_adjustment",
            "cancel": {"identifier": identifier},
            "event_name": event_name,
            "livemode": false,
            "status": "pending",
            "type": "cancel",
        }))
    }

    pub(crate) fn summaries(
        &self,
        meter_id: &str,
        query: &SummaryQuery,
        now: Timestamp,
    ) -> Result<Vec<Value>, StripeError> {
        let meter = self.find_meter(meter_id)?;
        if !self.customers.contains_key(&query.customer) {
            return Err(no_such("customer", &query.customer, "customer"));
        }
        let settled = now.saturating_sub(self.settings.summary_delay).unwrap_or(now);
        let events: Vec<&MeterEvent> = self
            .events
            .iter()
            .filter(|event| event.event_name == meter.event_name && event.received_at <= settled)
            .filter(|event| event.customer.as_deref() == Some(query.customer.as_str()))
            .collect();
        Ok(query.answer(meter, &events))
    }

    /// Each customer's total of each event name, by the meters' own arithmetic.
    pub(crate) fn totals(&self) -> Vec<Total> {
        let mut groups: BTreeMap<(&str, &str), Vec<&MeterEvent>> = BTreeMap::new();
        for event in self.events.iter().filter(|event| event.fate == Fate::Counted) {
            let customer = event.customer.as_deref().unwrap_or_default();
            groups.entry((customer, &event.event_name)).or_default().push(event);
        }
        groups
            .into_iter()
            .map(|((customer, event_name), events)| {
                let meter = self.meters.iter().find(|meter| meter.event_name == event_name);
                Total {
                    customer: customer.to_owned(),
                    event_name: event_name.to_owned(),
                    value: meter.map_or(0, |meter| meter.aggregate(events.iter().copied())),
                    events: events.len().try_into().unwrap_or(u64::MAX),
                }
            })
            .collect()
    }

    /// The value if the event counts, or why it does not. Stripe judges only after the 200.
    fn judge(&self, event: &NewEvent) -> Result<i64, EventError> {
        let Some(meter) = self.active_meter(&event.event_name) else {
            let archived = self.meters.iter().any(|meter| meter.event_name == event.event_name);
            return Err(if archived { EventError::ArchivedMeter } else { EventError::NoMeter });
        };
        let customer =
            event.payload.get(&meter.customer_key).ok_or(EventError::MeterEventNoCustomerDefined)?;
        if self.customers.get(customer).is_none_or(|customer| customer.deleted) {
            return Err(EventError::MeterEventCustomerNotFound);
        }
        let value = event.payload.get(&meter.value_key).ok_or(EventError::MeterEventValueNotFound)?;
        parse_value(value)
    }

    fn customer_of(&self, event: &NewEvent) -> Option<String> {
        let key = self
            .active_meter(&event.event_name)
            .map_or("stripe_customer_id", |meter| meter.customer_key.as_str());
        event.payload.get(key).cloned()
    }
}

fn no_such(object: &'static str, id: &str, param: &'static str) -> StripeError {
    StripeError::NoSuch { object, id: id.to_owned(), param }
}
