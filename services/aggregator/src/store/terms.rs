//! The terms that a period is compared with.

use jiff_sqlx::ToSqlx;
use metering::{Percent, Period};
use sqlx::PgConnection;

use crate::periods::thresholds::Terms;

/// The columns of a period's terms.
#[derive(Debug, Clone, Default, sqlx::FromRow)]
pub(crate) struct TermsRow {
    terms_plan: Option<String>,
    terms_limit: Option<i64>,
    terms_thresholds: Option<Vec<i32>>,
}

impl TermsRow {
    /// The terms; `None` if none were stored.
    pub(crate) fn read(self) -> Option<Terms> {
        let percents = self.terms_thresholds.unwrap_or_default().into_iter();
        let thresholds = percents.filter_map(|percent| Percent::new(u32::try_from(percent).ok()?).ok());
        Some(Terms {
            plan: self.terms_plan?,
            limit: self.terms_limit.and_then(|limit| u64::try_from(limit).ok()),
            thresholds: thresholds.collect(),
        })
    }
}

/// Stores the terms that a period is compared with. The caller holds the tenant's lock.
pub(crate) async fn put_terms(
    connection: &mut PgConnection,
    tenant: i32,
    period: Period,
    terms: &Terms,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "UPDATE periods SET terms_plan = $3, terms_limit = $4, terms_thresholds = $5
         WHERE tenant_number = $1 AND period_start = $2",
    )
    .bind(tenant)
    .bind(period.start.to_sqlx())
    .bind(&terms.plan)
    .bind(terms.limit.map(|limit| i64::try_from(limit).unwrap_or(i64::MAX)))
    .bind(terms.thresholds.iter().filter_map(|percent| i32::try_from(percent.get()).ok()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
