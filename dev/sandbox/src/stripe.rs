//! A stand-in for Stripe's metered billing: the rules of meter events, and everything that can go wrong.

mod account;
pub(crate) mod api;
mod call;
mod error;
mod fault;
mod form;
mod idempotency;
mod meter;
mod meter_event;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use metering::Clock as _;

pub(crate) use account::Account;
pub use account::{CUSTOMERS_MAX, Customer, EVENTS_MAX, IDENTIFIER_UNIQUE_FOR, METERS_MAX, Total};
pub(crate) use error::StripeError;
pub use fault::StripeFault;
pub use meter::{Formula, Meter, Window};
pub use meter_event::{EventError, Fate, MeterEvent};

use crate::changes::Changes;
use crate::clock::SandboxClock;
use crate::faults::Faults;

/// Why a control call was refused.
#[derive(Debug, thiserror::Error)]
#[error("the account refused")]
pub struct StripeRefused(#[source] StripeError);

impl From<StripeError> for StripeRefused {
    fn from(error: StripeError) -> Self {
        Self(error)
    }
}

/// The account. Cloning it gives another handle to the same account.
#[derive(Debug, Clone)]
pub struct Stripe {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    account: Mutex<Account>,
    write_faults: Faults<StripeFault>,
    read_faults: Faults<StripeFault>,
    clock: SandboxClock,
    changes: Changes,
}

impl Stripe {
    pub(crate) fn new(account: Account, clock: SandboxClock, changes: Changes) -> Self {
        let shared = Shared {
            account: Mutex::new(account),
            write_faults: Faults::default(),
            read_faults: Faults::default(),
            clock,
            changes,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Creates a customer with this id, or returns the existing one.
    ///
    /// # Errors
    /// More customers than the bound allows.
    pub fn add_customer(&self, id: &str) -> Result<Customer, StripeRefused> {
        self.change(|account, now| match account.customers.get(id) {
            Some(customer) => Ok(customer.clone()),
            None => Ok(account.add_customer(Customer::new(id.to_owned(), now))?),
        })
    }

    /// Deletes a customer: a `GET` then shows it as deleted, and events for it no longer count.
    ///
    /// # Errors
    /// No such customer.
    pub fn delete_customer(&self, id: &str) -> Result<(), StripeRefused> {
        self.change(|account, _| {
            account.customer(id)?.deleted = true;
            Ok(())
        })
    }

    /// Creates an active `sum` meter for this event name, or returns the existing one.
    ///
    /// # Errors
    /// More meters than the bound allows.
    pub fn add_meter(&self, event_name: &str) -> Result<Meter, StripeRefused> {
        self.add_meter_with(event_name, |_| {})
    }

    /// Creates an active meter for this event name, adjusted by `change`, or returns the existing one.
    ///
    /// # Errors
    /// More meters than the bound allows.
    pub fn add_meter_with(
        &self,
        event_name: &str,
        change: impl FnOnce(&mut Meter),
    ) -> Result<Meter, StripeRefused> {
        self.change(|account, now| {
            if let Some(meter) = account.active_meter(event_name) {
                return Ok(meter.clone());
            }
            let mut meter = Meter::summing(account.next_id("mtr_test"), event_name, now);
            change(&mut meter);
            Ok(account.add_meter(meter)?)
        })
    }

    /// Archives a meter: events for it get a 200 and do not count.
    ///
    /// # Errors
    /// No such meter.
    pub fn archive_meter(&self, id: &str) -> Result<Meter, StripeRefused> {
        self.change(|account, now| Ok(account.archive(id, now)?))
    }

    /// Every event the account accepted, with what became of it.
    pub fn meter_events(&self) -> Vec<MeterEvent> {
        self.read(|account, _| account.events.clone())
    }

    /// Each customer's total of each event name.
    pub fn totals(&self) -> Vec<Total> {
        self.read(|account, _| account.totals())
    }

    /// One customer's total of one event name.
    pub fn total(&self, customer: &str, event_name: &str) -> i64 {
        let same = |total: &Total| total.customer == customer && total.event_name == event_name;
        self.totals().into_iter().find(same).map_or(0, |total| total.value)
    }

    /// Arms a fault for the next calls that send or cancel events: `count` of them, or all until cleared.
    pub fn fault(&self, fault: StripeFault, count: Option<u32>) {
        self.shared.write_faults.arm(fault, count);
    }

    /// Arms a fault for the next calls that read: `count` of them, or all until cleared.
    pub fn fault_reads(&self, fault: StripeFault, count: Option<u32>) {
        self.shared.read_faults.arm(fault, count);
    }

    /// Ends all faults.
    pub fn clear_faults(&self) {
        self.shared.write_faults.clear();
        self.shared.read_faults.clear();
    }

    /// Accepts only this secret key; `None` accepts any that looks like one.
    pub fn set_key(&self, key: Option<String>) {
        self.change(|account, _| account.settings.key = key);
    }

    /// How long a meter event takes, during which a second one for the same customer and meter gets a 429.
    pub fn set_latency(&self, latency: Duration) {
        self.change(|account, _| account.settings.latency = latency);
    }

    /// How long an event stays invisible to summaries, on the sandbox's clock.
    pub fn set_summary_delay(&self, delay: SignedDuration) {
        self.change(|account, _| account.settings.summary_delay = delay);
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Account, Timestamp) -> T) -> T {
        read(&self.lock(), self.shared.clock.now())
    }

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Account, Timestamp) -> T) -> T {
        let now = self.shared.clock.now();
        let mut account = self.lock();
        self.shared.changes.mark();
        change(&mut account, now)
    }

    pub(crate) fn take_write_fault(&self) -> Option<StripeFault> {
        self.shared.write_faults.take_if(|_| true)
    }

    pub(crate) fn take_read_fault(&self) -> Option<StripeFault> {
        self.shared.read_faults.take_if(|_| true)
    }

    fn lock(&self) -> MutexGuard<'_, Account> {
        self.shared.account.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
