//! Verdicts as the ledger stores them.

use std::collections::HashMap;

use crate::{
    admission::{
        decision::Reason,
        run_key::RunKey,
        verdict::{AdmitError, Verdict},
    },
    store::admissions::Kept,
};

/// Stored verdicts, by run.
pub fn verdicts(kept: Vec<Kept>) -> Result<HashMap<RunKey, Verdict>, AdmitError> {
    kept.into_iter().map(|kept| Ok((kept.key, verdict(&kept)?))).collect()
}

/// The verdict stored in a row.
fn verdict(kept: &Kept) -> Result<Verdict, AdmitError> {
    let parse = |name: &str| Reason::parse(name).ok_or_else(|| AdmitError::UnknownReason(name.to_owned()));
    Ok(Verdict {
        allowed: kept.allowed,
        reason: parse(&kept.reason)?,
        shadow: kept.shadow_reason.as_deref().map(parse).transpose()?,
        retry_at: kept.retry_at,
        used: kept.used,
        reserved: kept.reserved,
        limit: kept.limit,
        resets_at: kept.resets_at,
        as_of: kept.as_of,
        complete_until: kept.complete_until,
        admitted_at: kept.admitted_at,
    })
}
