//! Problems of a source or a tenant that a person should fix. Each warning says what is wrong and what to do.

use std::time::Duration;

use jiff::Timestamp;
use metering::{SourceId, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{duration, schema::WarningCodeText};
use crate::{directory::snapshot::Snapshot, sources::status::SourceState};

/// A problem that a person should fix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct WarningJson {
    /// For programs: `clock`, `shared_push_token`, `same_instance`, `same_address` for a source,
    /// `same_customer` for a tenant.
    #[schema(value_type = WarningCodeText)]
    pub code: &'static str,
    /// For a person: what is wrong and what to do.
    pub detail: String,
    /// Since when; null if not known.
    pub since: Option<Timestamp>,
    /// The other sources, instances or tenants concerned, at most ten.
    pub others: Vec<String>,
}

/// The warnings of a source.
pub fn of_source(catalog: &Snapshot, source: &SourceId, state: &SourceState) -> Vec<WarningJson> {
    let address = catalog.same_address.get(source).map(|others| same_address(others));
    let Some(checks) = state.checks() else { return address.into_iter().collect() };
    let clock = checks.clock_wrong_since.map(|since| clock(checks.clock_skew_ms, since));
    let token = checks.token_shared_since.map(|since| WarningJson {
        code: "shared_push_token",
        detail: format!(
            "{} n8n instances push with this source's token. They hand out the same execution ids, so executions of all but one \
             are lost. Make a source and a push token for each n8n. (n8n shows its instance id in About n8n.)",
            checks.instances.len()
        ),
        since: Some(since),
        others: checks.instances.clone(),
    });
    let instance = checks.counted_twice_since.map(|since| WarningJson {
        code: "same_instance",
        detail: format!(
            "The n8n of this source pushes for {} too, and each execution counts once for each. Keep one source, and share it by \
             attributions.",
            checks.same_instance.join(", ")
        ),
        since: Some(since),
        others: checks.same_instance.clone(),
    });
    [clock, token, instance, address].into_iter().flatten().collect()
}

/// The warnings of a tenant.
pub fn of_tenant(catalog: &Snapshot, tenant: &TenantId) -> Vec<WarningJson> {
    let others = catalog.same_customer.get(tenant);
    let warning = others.map(|others| WarningJson {
        code: "same_customer",
        detail: format!(
            "{} has the same Stripe customer, so there is one invoice. Where that is meant, set shared_customer on each of them; \
             correct the customer otherwise.",
            others.join(", ")
        ),
        since: None,
        others: others.clone(),
    });
    warning.into_iter().collect()
}

fn same_address(others: &[String]) -> WarningJson {
    WarningJson {
        code: "same_address",
        detail: format!(
            "{} has the same address, and each execution counts once for each. Remove or pause all but one, and share that one by \
             attributions.",
            others.join(", ")
        ),
        since: None,
        others: others.to_vec(),
    }
}

fn clock(skew_ms: Option<i64>, since: Timestamp) -> WarningJson {
    let skew_ms = skew_ms.unwrap_or_default();
    let (way, effect) = match skew_ms {
        ..0 => ("behind", "in the period before its own, or late where that has closed"),
        _ => ("ahead", "in the period after its own"),
    };
    let by = duration::text(Duration::from_secs(skew_ms.unsigned_abs() / 1_000));
    WarningJson {
        code: "clock",
        detail: format!(
            "The clock of this n8n is {by} {way}. Set it by NTP: until then an execution near the end of a period counts {effect}."
        ),
        since: Some(since),
        others: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_warning_names_the_direction_and_the_remedy() {
        let since = "2026-11-24T12:00:00Z".parse().unwrap();
        let ahead = clock(Some(300_400), since).detail;
        assert!(
            ahead.contains("5m ahead") && ahead.contains("NTP") && ahead.contains("after its own"),
            "{ahead}"
        );
        let behind = clock(Some(-90_000), since).detail;
        assert!(behind.contains("1m 30s behind") && behind.contains("before its own"), "{behind}");
    }
}
