//! The content of a crossing's mails, fixed when the crossing arrives.

use std::time::Duration;

use catalog::{Language, LimitKind, Plan, Tenant, locale::time_zone};
use jiff::{Timestamp, tz::TimeZone};
use metering::{Percent, Period, TenantId};
use url::Url;

use crate::Crossing;

/// Everything that a mail is made from. It never changes afterwards, so that a mail that has to be sent again
/// says the same, even if the tenant or the plan has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// The crossing.
    pub crossing_id: String,
    /// The tenant.
    pub tenant: TenantId,
    /// The tenant's name for people.
    pub tenant_name: String,
    /// The language of the mail.
    pub language: Language,
    /// The time zone of its dates.
    pub time_zone: TimeZone,
    /// The share that was reached.
    pub percent: Percent,
    /// Usage at the crossing.
    pub used: u64,
    /// The limit.
    pub limit: u64,
    /// What happens at the limit.
    pub limit_kind: LimitKind,
    /// Whether the plan is in shadow mode.
    pub shadow: bool,
    /// With a hard limit: how long runs still start once it is reached.
    pub grace: Option<Duration>,
    /// With a soft limit: executions allowed past it.
    pub overage_max: Option<u64>,
    /// Thresholds that were passed before, and that no other mail names.
    pub folded: Vec<u32>,
    /// The period.
    pub period: Period,
    /// When it was detected.
    pub crossed_at: Timestamp,
    /// The dashboard that the mail links to.
    pub dashboard_url: String,
    /// When this service recorded it.
    pub recorded_at: Timestamp,
    /// When the mail may be sent; also its date.
    pub leaves_at: Timestamp,
}

/// What happens at the limit, beyond whether it is hard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtLimit {
    /// Runs are refused.
    Refuses,
    /// Runs are refused after this time.
    RefusesAfter(Duration),
    /// What would be refused is recorded.
    Watches,
    /// Runs go on.
    Overage,
    /// Runs go on for this many more.
    OverageOf(u64),
}

impl Alert {
    /// The alert about `crossing` for `tenant`.
    pub fn new(crossing: Crossing, tenant: &Tenant, plan: &Plan, dashboard: &Url, now: Timestamp) -> Self {
        Self {
            crossing_id: crossing.id,
            tenant: crossing.tenant,
            tenant_name: tenant.name.clone(),
            language: tenant.language,
            time_zone: time_zone(tenant.calendar.time_zone_name()),
            percent: crossing.percent,
            used: crossing.used,
            limit: crossing.limit,
            limit_kind: plan.limit_kind,
            shadow: plan.admission.shadow,
            grace: plan.admission.grace,
            overage_max: plan.admission.overage_max,
            folded: Vec::new(),
            period: crossing.period,
            crossed_at: crossing.crossed_at,
            dashboard_url: dashboard.to_string(),
            recorded_at: now,
            leaves_at: now,
        }
    }

    /// Whether the limit itself is reached.
    pub fn limit_reached(&self) -> bool {
        self.used >= self.limit
    }

    /// What happens at the limit.
    pub fn at_limit(&self) -> AtLimit {
        match (self.limit_kind, self.shadow) {
            (LimitKind::Hard, true) => AtLimit::Watches,
            (LimitKind::Hard, false) => self.grace.map_or(AtLimit::Refuses, AtLimit::RefusesAfter),
            (LimitKind::Soft, true) => AtLimit::Overage,
            (LimitKind::Soft, false) => self.overage_max.map_or(AtLimit::Overage, AtLimit::OverageOf),
        }
    }

    /// Executions left up to the limit.
    pub fn remaining(&self) -> u64 {
        self.limit.saturating_sub(self.used)
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    /// 80 % of a hard limit in UTC, in English.
    pub(crate) fn north() -> Alert {
        Alert {
            crossing_id: "north:2026-11:80".into(),
            tenant: TenantId::parse("north").unwrap(),
            tenant_name: "North".into(),
            language: Language::English,
            time_zone: TimeZone::UTC,
            percent: Percent::new(80).unwrap(),
            used: 8_012,
            limit: 10_000,
            limit_kind: LimitKind::Hard,
            shadow: false,
            grace: None,
            overage_max: None,
            folded: Vec::new(),
            period: Period {
                start: "2026-11-01T00:00:00Z".parse().unwrap(),
                end: "2026-12-01T00:00:00Z".parse().unwrap(),
            },
            crossed_at: "2026-11-24T12:00:00Z".parse().unwrap(),
            dashboard_url: "https://usage.example.com/".into(),
            recorded_at: "2026-11-24T12:00:01Z".parse().unwrap(),
            leaves_at: "2026-11-24T12:00:01Z".parse().unwrap(),
        }
    }

    /// The whole of a soft limit in Madrid, in Spanish.
    pub(crate) fn south() -> Alert {
        Alert {
            crossing_id: "south:2026-11:100".into(),
            tenant: TenantId::parse("south").unwrap(),
            tenant_name: "South".into(),
            language: Language::Spanish,
            time_zone: time_zone("Europe/Madrid"),
            percent: Percent::new(100).unwrap(),
            used: 250_013,
            limit: 250_000,
            limit_kind: LimitKind::Soft,
            period: Period {
                start: "2026-10-31T23:00:00Z".parse().unwrap(),
                end: "2026-11-30T23:00:00Z".parse().unwrap(),
            },
            ..north()
        }
    }
}
