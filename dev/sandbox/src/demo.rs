//! The demo: three instances with some activity, and the Stripe customers that go with them.

use jiff::SignedDuration;

use crate::n8n::{InstanceError, Mode, N8n, Registry, Runs, Status};
use crate::stripe::{Stripe, StripeRefused};

/// The event name of the demo's meter.
const METER: &str = "executions";

/// A tenant of the demo.
struct DemoTenant {
    instance: &'static str,
    customer: &'static str,
    workflows: &'static [(&'static str, &'static str)],
    /// How much happened before the demo began: the first workflow gets a half of it, the next a third, and so on.
    /// Enough that `north` crosses the thresholds of its plan in `demo.yaml` within minutes.
    seed_runs: u32,
    load_per_second: f64,
}

const TENANTS: [DemoTenant; 3] = [
    DemoTenant {
        instance: "north",
        customer: "cus_north",
        workflows: &[
            ("orderSync", "Order sync"),
            ("invoiceExport", "Invoice export"),
            ("stockAlert", "Stock alert"),
            ("returnsIntake", "Returns intake"),
        ],
        seed_runs: 400,
        load_per_second: 1.0,
    },
    DemoTenant {
        instance: "south",
        customer: "cus_south",
        workflows: &[
            ("leadIntake", "Lead intake"),
            ("newsletter", "Newsletter sign-up"),
            ("calendarSync", "Calendar sync"),
        ],
        seed_runs: 200,
        load_per_second: 0.5,
    },
    DemoTenant {
        instance: "east",
        customer: "cus_east",
        workflows: &[("ticketTriage", "Ticket triage"), ("nightlyReport", "Nightly report")],
        seed_runs: 40,
        load_per_second: 0.2,
    },
];

/// Why the demo could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An instance refused.
    #[error("could not set up the demo's n8n")]
    N8n(#[from] InstanceError),
    /// The account refused.
    #[error("could not set up the demo's Stripe account")]
    Stripe(#[from] StripeRefused),
}

/// Creates what is missing. What an earlier run of the demo left is kept as it is.
pub(crate) fn set_up(registry: &Registry, stripe: &Stripe) -> Result<(), DemoError> {
    stripe.add_meter(METER)?;
    for tenant in &TENANTS {
        stripe.add_customer(tenant.customer)?;
        if registry.find(tenant.instance).is_some() {
            continue;
        }
        let Some(n8n) = registry.find_or_create(tenant.instance) else { continue };
        seed(&n8n, tenant)?;
        n8n.load(tenant.load_per_second)?;
    }
    Ok(())
}

fn seed(n8n: &N8n, tenant: &DemoTenant) -> Result<(), InstanceError> {
    for (share, (id, name)) in (2..).zip(tenant.workflows) {
        let runs = Runs::of(*id).named(*name).lasting(SignedDuration::from_millis(350));
        n8n.run(&runs.clone().count(tenant.seed_runs / share))?;
        n8n.run(&runs.clone().mode(Mode::Trigger).count(tenant.seed_runs / (share * 3)))?;
        n8n.run(&runs.clone().status(Status::Error).count(tenant.seed_runs / (share * 15)))?;
        n8n.run(&runs.mode(Mode::Manual).count(2))?;
    }
    Ok(())
}
