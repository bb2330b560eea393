//! Verdicts as the ledger stores them.

use std::collections::HashMap;

use crate::{
    admission::{
        decision::Reason,
        run_key::RunKey,
        verdict::{AdmitError, Verdict},
    },
    store::admissions::StoredVerdict,
};

/// Stored verdicts, by run.
pub fn verdicts(stored: Vec<StoredVerdict>) -> Result<HashMap<RunKey, Verdict>, AdmitError> {
    stored.into_iter().map(|stored| Ok((stored.key, verdict(&stored)?))).collect()
}

/// The verdict stored in a row.
fn verdict(stored: &StoredVerdict) -> Result<Verdict, AdmitError> {
    let parse = |name: &str| Reason::parse(name).ok_or_else(|| AdmitError::UnknownReason(name.to_owned()));
    Ok(Verdict {
        allowed: stored.allowed,
        reason: parse(&stored.reason)?,
        shadow: stored.shadow_reason.as_deref().map(parse).transpose()?,
        retry_at: stored.retry_at,
        used: stored.used,
        reserved: stored.reserved,
        limit: stored.limit,
        resets_at: stored.resets_at,
        as_of: stored.as_of,
        complete_until: stored.complete_until,
        admitted_at: stored.admitted_at,
    })
}
