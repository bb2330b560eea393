//! In English.

use proto::v1;

use super::{Parts, Sentences, Words, failure_reason, ids, is_behind, skew_span};
use crate::{Fact, RefusedMail};

pub(super) const WORDS: Words = Words {
    code: "en",
    look: "The sources, and how complete the figures are, are on the dashboard.",
    button: "Open the dashboard",
    because: "You receive this mail because your address is among the operator's in Flowmeter's configuration.",
    to: "to",
    and_later: "and later",
    source: "Source",
    service: "Service",
    tenant: "Tenant",
    gaps: "Gaps",
    executions: "Executions",
    reason: "Reason",
    found: "Found",
    since: "Failing since",
    until: "Swept again",
    attempts: "Attempts",
    expected: "Expected",
    messages: "Messages",
    subject: "First from",
    reports: "Reports",
    identifier: "First identifier",
    period: "Period",
    billable: "Billable",
    stripe: "Counted by Stripe",
    workflow: "First workflow",
    loops: "Loops",
    per_minute: "Starts in the minute so far",
    usual: "Usual in a minute",
    example: "One of them",
    skew: "Clock skew",
    instances: "n8n instances",
    other_sources: "Other sources",
    mails: "Recipients",
    recipient: "Recipient",
};

pub(super) fn sentences(parts: &Parts<'_>) -> Sentences {
    match &parts.notice.fact {
        Fact::Gap(gap) => missing(parts, gap),
        Fact::Failing(failing) => Sentences {
            subject: format!("{} cannot be swept", failing.source_id),
            what: format!(
                "{} has been failing since {}: {}.",
                failing.source_id,
                parts.moment_of(failing.failing_since.as_ref()),
                failure_reason(parts.language, failing.reason())
            ),
            meaning: "What it runs meanwhile is counted once it is swept again, as far as it still shows it then.",
            next: if failing.detail.is_empty() { "Look at the source.".into() } else { failing.detail.clone() },
        },
        Fact::Recovered(failing) => Sentences {
            subject: format!("{} is swept again", failing.source_id),
            what: format!(
                "{} had been failing since {}. A sweep ended well {}.",
                failing.source_id,
                parts.moment_of(failing.failing_since.as_ref()),
                parts.on_moment(parts.notice.first_at)
            ),
            meaning: "What it ran meanwhile is being counted.",
            next: "Executions that it no longer shows are told as a gap.".into(),
        },
        Fact::Loss(synced) => Sentences {
            subject: format!("{} is about to lose executions", synced.source_id),
            what: format!(
                "At its present rate, {} will prune executions before the next sweep has seen them, about {}.",
                synced.source_id,
                parts.moment_of(synced.loss_expected_at.as_ref())
            ),
            meaning: "What is pruned before it is seen is never counted.",
            next: "Let n8n keep more executions (EXECUTIONS_DATA_PRUNE_MAX_COUNT), sweep it more often (poll_interval), or \
                   let it push what it runs."
                .into(),
        },
        Fact::Contradicted(found) => Sentences {
            subject: format!("{} does not show what was pushed for it", found.source_id),
            what: format!(
                "Today {} executions were pushed for {} otherwise than its own list shows them: with another workflow, mode, \
                 status or end.",
                parts.number(found.executions),
                found.source_id
            ),
            meaning: "The figures follow the list, so they are right. Somebody may have the source's push token.",
            next: format!(
                "Make a new token (`flowmeter sources push-token {}`) and put it where no workflow can read it: the README of \
                 the hook says how. `flowmeter source audit {}` compares the whole list.",
                found.source_id, found.source_id
            ),
        },
        Fact::Clock(synced) => clock(synced),
        Fact::SharedToken(synced) => Sentences {
            subject: format!("Several n8n push as {}", synced.source_id),
            what: format!(
                "{} n8n instances push their executions with the token of {}.",
                parts.number(count(&synced.instances)),
                synced.source_id
            ),
            meaning: "They hand out the same execution ids, so executions of all but one are taken for repeats and are not counted.",
            next: "Make a source for each n8n, and a push token for each source (`flowmeter sources push-token`). n8n shows its instance \
                   id in About n8n."
                .into(),
        },
        Fact::CountedTwice(synced) => Sentences {
            subject: format!("The n8n of {} is metered more than once", synced.source_id),
            what: format!(
                "The n8n of {} pushes its executions for {} too.",
                synced.source_id,
                synced.same_instance_sources.join(", ")
            ),
            meaning: "Each of its executions counts once for each of these sources, and is billed so.",
            next: "Keep one source, remove the others, and share it by attributions (workflow, tag or project).".into(),
        },
        Fact::Dead(letter) => dead(parts, letter),
        Fact::Report(failed) => report(parts, failed),
        Fact::Drift(drift) => Sentences {
            subject: format!("Stripe counts otherwise for {}", drift.tenant_id),
            what: format!(
                "For {}, {} executions of a period are billable, and Stripe has counted {}.",
                drift.tenant_id,
                parts.number(drift.billable),
                parts.number(drift.stripe_total)
            ),
            meaning: "The invoice follows Stripe's figure.",
            next: "Look for meter events that somebody else has sent or canceled, before the invoice is final.".into(),
        },
        Fact::Loop(detected) => looping(parts, detected),
        Fact::Refused(refused) => refused_mail(parts, refused),
    }
}

fn clock(synced: &v1::SourceSynced) -> Sentences {
    let (source, by) = (&synced.source_id, skew_span(synced));
    let (way, than, meaning) = if is_behind(synced) {
        (
            "behind",
            "behind",
            "An execution near the end of a period counts in the one before, or late where that has closed.",
        )
    } else {
        ("ahead", "ahead of", "An execution near the end of a period counts in the next one.")
    };
    Sentences {
        subject: format!("The clock of {source} is {by} {way}"),
        what: format!("The clock of the n8n of {source} is {by} {than} Flowmeter's."),
        meaning,
        next: "Set the clock of that machine by NTP. Where you get this mail for every source, Flowmeter's own clock is wrong."
            .into(),
    }
}

fn count(texts: &[String]) -> u64 {
    u64::try_from(texts.len()).unwrap_or(u64::MAX)
}

fn missing(parts: &Parts<'_>, gap: &v1::SourceGap) -> Sentences {
    let (source, ids, count) = (&gap.source_id, ids(gap, &WORDS), parts.facts_count());
    let next = match gap.reason() {
        v1::GapReason::PrunedBeforeSeen => {
            "Let n8n keep more executions (EXECUTIONS_DATA_PRUNE_MAX_COUNT, EXECUTIONS_DATA_MAX_AGE), or sweep it more \
             often (poll_interval)."
                .to_owned()
        }
        v1::GapReason::OpenExecutionVanished => {
            "Somebody deleted it, or its workflow does not save executions that end so.".to_owned()
        }
        v1::GapReason::EpochEnded => {
            "What ran between the last sweep and the restore cannot be seen. Sweeps go on with the new database."
                .to_owned()
        }
        v1::GapReason::Unspecified => format!("`flowmeter sources gaps {source}` lists them."),
    };
    Sentences {
        subject: if parts.is_one() {
            format!("{source} has a gap in its executions")
        } else {
            format!("{source} has {count} gaps in its executions")
        },
        what: if parts.is_one() {
            format!("{source} no longer shows what it ran as {ids}, and it was never collected.")
        } else {
            format!(
                "{count} gaps were found at {source} (executions {ids}): it no longer shows what it ran there, \
                     and that was never collected."
            )
        },
        meaning: "What is missing is in no figure and on no invoice: true usage may be higher.",
        next,
    }
}

fn dead(parts: &Parts<'_>, letter: &v1::DeadLetter) -> Sentences {
    let (service, count) = (&letter.service, parts.facts_count());
    Sentences {
        subject: if parts.is_one() {
            format!("{service} could not handle a message")
        } else {
            format!("{service} could not handle {count} messages")
        },
        what: if parts.is_one() {
            format!("A message has become a dead letter: {}.", letter.reason)
        } else {
            format!("{count} messages have become dead letters. The reason of the first: {}.", letter.reason)
        },
        meaning: "Nothing is lost: dead letters are kept for 30 days. What they say is in no figure yet.",
        next: "`flowmeter dead list` shows them. When the cause is mended, `flowmeter dead replay` sends them again."
            .into(),
    }
}

fn report(parts: &Parts<'_>, failed: &v1::ReportFailed) -> Sentences {
    let (tenant, count) = (&failed.tenant_id, parts.facts_count());
    Sentences {
        subject: if parts.is_one() {
            format!("A report to Stripe about {tenant} has failed")
        } else {
            format!("{count} reports to Stripe about {tenant} have failed")
        },
        what: match (parts.is_one(), failed.quantity) {
            (true, quantity @ ..0) => {
                format!("A correction of {quantity} executions of {tenant} could not be reported to Stripe.")
            }
            (true, quantity) => format!("{quantity} executions of {tenant} could not be reported to Stripe."),
            (false, quantity) => format!(
                "Not all that {tenant} has used could be reported to Stripe; the first report has {quantity} executions."
            ),
        },
        meaning: "They are on no invoice until somebody has looked after it.",
        next: failed.reason.clone(),
    }
}

fn refused_mail(parts: &Parts<'_>, refused: &RefusedMail) -> Sentences {
    let first = refused.refusals.first().map_or("?", |refusal| refusal.recipient.as_str());
    let count = parts.facts_count();
    Sentences {
        subject: if parts.is_one() {
            format!("Mail to {first} cannot be delivered")
        } else {
            format!("Mail to {count} recipients cannot be delivered")
        },
        what: if parts.is_one() {
            format!("A mail to {first} was refused and will not be sent again.")
        } else {
            format!(
                "Mails to {count} recipients, {first} among them, were refused and will not be sent again."
            )
        },
        meaning: "These recipients do not get Flowmeter's warnings.",
        next: "Correct the addresses (a tenant's alert_recipients, or operator_recipients), and reach them in another way meanwhile.".into(),
    }
}

fn looping(parts: &Parts<'_>, detected: &v1::LoopDetected) -> Sentences {
    let (tenant, workflow, count) = (&detected.tenant_id, &detected.workflow_id, parts.facts_count());
    let (asked, usual) =
        (parts.number(detected.runs_per_minute), parts.number(detected.usual_runs_per_minute));
    let mut what = format!(
        "The workflow {workflow} of {tenant} wanted to start {asked} times within a minute; {usual} are usual for it."
    );
    // Missing in messages of an earlier version.
    if detected.usual_most > 0 {
        what += &format!(" More than {} are taken for a loop.", parts.number(detected.usual_most));
        if detected.refusing {
            let since = parts.moment_of(detected.detected_at.as_ref());
            let started = parts.number(detected.started);
            what +=
                &format!(" {started} runs of that minute had started. Since {since} its runs are refused.");
        }
    }
    Sentences {
        subject: if parts.is_one() {
            format!("A workflow of {tenant} seems to start itself")
        } else {
            format!("Workflows of {tenant} seem to start themselves ({count} times)")
        },
        what,
        meaning: if detected.refusing {
            "Its runs are refused until it has paused for a minute, or has asked less often for one. A rate that lasts for about \
             a quarter of an hour becomes usual, and is not refused any more. What has started counts."
        } else if detected.shadow {
            "The plan only watches: its runs start and count. Otherwise they would be refused now."
        } else {
            "Nothing is refused because of it: its runs start, and count as all others do."
        },
        next: if detected.refusing {
            "Look at what starts the workflow.".into()
        } else {
            "Look at what starts the workflow. A plan may refuse such runs (admission.loop_rule: refuse)."
                .into()
        },
    }
}
