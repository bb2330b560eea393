//! The first count, the first mail, and no more mails than changes.

use std::time::Instant;

use anyhow::Result;
use stack::wait;

use super::world::{Day, WITHIN};
use crate::checks::Checks;

pub fn check(day: &Day, began: Instant, checks: &mut Checks) -> Result<()> {
    let before = day.counted()?;
    day.call(1)?;
    checks.equal("counted: the first own run", before + 1, day.await_counted(before + 1)?);
    checks.judged("from the start to the first own count", "measured", &seconds(began), true);

    // From 1 to 10 of 10: past 50, 80 and 100 % at once.
    day.call(9)?;
    day.await_counted(before + 10)?;
    let first =
        wait::until("the first mail", WITHIN, || Ok(Some(day.mails()?).filter(|mails| !mails.is_empty())))?;
    checks.judged("from the start to the first mail", "measured", &seconds(began), !first.is_empty());
    // Two rounds of everything that could send another.
    let more = wait::until("a second mail", std::time::Duration::from_secs(10), || {
        Ok(Some(day.mails()?).filter(|mails| mails.len() > 1))
    });
    let mails = more.unwrap_or(first);
    checks.equal("mails for 50, 80 and 100 % in one burst", 1, mails.len());
    let highest = mails.iter().all(|subject| subject.contains("100"));
    checks.judged("the mail names the highest", "100 %", &mails.join(" | "), highest);
    Ok(())
}

fn seconds(began: Instant) -> String {
    format!("{:.1} s", began.elapsed().as_secs_f64())
}
