//! What a mail to the operator says. Instants are in UTC, and say so.

mod sentences;
#[cfg(test)]
mod tests;

use catalog::{Language, locale};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use locales::{Args, NOTICES, args};
use proto::{instant, v1};

use sentences::Sentences;

use crate::{
    Fact, Notice, RefusedMail,
    phrases::{self, Phrases},
};

impl Phrases {
    /// The words for a notice.
    pub fn of_notice(notice: &Notice) -> Self {
        let parts = Parts { notice, language: notice.sealed.language };
        let Sentences { subject, what, meaning, next } = parts.sentences();
        Self {
            language: parts.language.as_str(),
            subject,
            what,
            meaning,
            next,
            figure: None,
            facts: parts.facts(),
            look: parts.plain("look"),
            button: parts.plain("button"),
            because: parts.plain("because"),
        }
    }
}

/// The notice's values, written as the language writes them.
struct Parts<'a> {
    notice: &'a Notice,
    language: Language,
}

impl Parts<'_> {
    fn say(&self, phrase: &str, args: &Args<'_>) -> String {
        NOTICES.say(self.language, phrase, args)
    }

    fn plain(&self, phrase: &str) -> String {
        NOTICES.plain(self.language, phrase)
    }

    fn range(&self, first: &str, last: &str) -> String {
        self.say("range", &args!["first" => first, "last" => last])
    }

    fn number(&self, value: u64) -> String {
        locale::number(self.language, value)
    }

    /// How many facts.
    fn facts_count(&self) -> String {
        self.number(self.notice.facts)
    }

    fn moment(&self, instant: Timestamp) -> String {
        format!("{} UTC", locale::moment(self.language, instant, &TimeZone::UTC))
    }

    /// An instant that was checked when the message came.
    fn moment_of(&self, wire: Option<&prost_types::Timestamp>) -> String {
        instant(wire, "at").ok().flatten().map_or_else(|| "?".to_owned(), |at| self.moment(at))
    }

    fn on_moment(&self, instant: Timestamp) -> String {
        format!("{} UTC", locale::on_moment(self.language, instant, &TimeZone::UTC))
    }

    fn on_moment_of(&self, wire: Option<&prost_types::Timestamp>) -> String {
        instant(wire, "at").ok().flatten().map_or_else(|| "?".to_owned(), |at| self.on_moment(at))
    }

    /// When the facts were found.
    fn found(&self) -> String {
        let (first, last) = (self.moment(self.notice.first_at), self.moment(self.notice.last_at));
        if first == last { first } else { self.range(&first, &last) }
    }

    fn period(&self, period: Option<&v1::Period>) -> String {
        let at = |wire| self.moment_of(wire);
        let start = at(period.and_then(|period| period.start.as_ref()));
        self.range(&start, &at(period.and_then(|period| period.end.as_ref())))
    }

    /// `120 to 180`, or `120`; `120 and later` if no end is known, `?` if nothing is.
    fn ids(&self, gap: &v1::SourceGap) -> String {
        match (gap.first_execution_id.as_str(), gap.last_execution_id.as_str()) {
            ("", "") => "?".to_owned(),
            ("", last) => self.range("?", last),
            (first, "") => self.say("range_without_end", &args!["first" => first]),
            (first, last) if first == last => first.to_owned(),
            (first, last) => self.range(first, last),
        }
    }

    fn gap_reason(&self, reason: v1::GapReason) -> String {
        use v1::GapReason::{EpochEnded, OpenExecutionVanished, PrunedBeforeSeen, Unspecified};
        self.plain(match reason {
            OpenExecutionVanished => "gap_reason.vanished",
            PrunedBeforeSeen => "gap_reason.pruned",
            EpochEnded => "gap_reason.epoch_ended",
            Unspecified => "gap_reason.unspecified",
        })
    }

    fn failure_reason(&self, reason: v1::FailureReason) -> String {
        self.plain(&format!("failure_reason.{}", sentences::failure_cause(reason)))
    }

    fn refusals(&self, refused: &RefusedMail) -> Vec<(&'static str, String)> {
        let count = ("label_mails", self.facts_count());
        let listed = refused.refusals.iter();
        let listed =
            listed.map(|refusal| ("label_recipient", format!("{}: {}", refusal.recipient, refusal.reason)));
        std::iter::once(count).chain(listed).collect()
    }

    /// The table below the sentences.
    fn facts(&self) -> Vec<phrases::Fact> {
        let mut facts = match &self.notice.fact {
            Fact::Gap(gap) => vec![
                ("label_source", gap.source_id.clone()),
                ("label_gaps", self.facts_count()),
                ("label_executions", self.ids(gap)),
                ("label_reason", self.gap_reason(gap.reason())),
            ],
            Fact::Failing(failing) => vec![
                ("label_source", failing.source_id.clone()),
                ("label_reason", self.failure_reason(failing.reason())),
                ("label_since", self.moment_of(failing.failing_since.as_ref())),
                ("label_attempts", self.number(failing.consecutive_failures.into())),
            ],
            Fact::Recovered(failing) => vec![
                ("label_source", failing.source_id.clone()),
                ("label_reason", self.failure_reason(failing.reason())),
                ("label_since", self.moment_of(failing.failing_since.as_ref())),
                ("label_until", self.moment(self.notice.first_at)),
            ],
            Fact::Loss(synced) => vec![
                ("label_source", synced.source_id.clone()),
                ("label_expected", self.moment_of(synced.loss_expected_at.as_ref())),
            ],
            Fact::Dead(dead_letter) => vec![
                ("label_service", dead_letter.service.clone()),
                ("label_messages", self.facts_count()),
                ("label_subject", dead_letter.original_subject.clone()),
            ],
            Fact::Report(failed) => vec![
                ("label_tenant", failed.tenant_id.clone()),
                ("label_reports", self.facts_count()),
                ("label_identifier", failed.identifier.clone()),
                ("label_period", self.period(failed.period.as_ref())),
            ],
            Fact::Drift(drift) => vec![
                ("label_tenant", drift.tenant_id.clone()),
                ("label_billable", self.number(drift.billable)),
                ("label_stripe", self.number(drift.stripe_total)),
                ("label_period", self.period(drift.period.as_ref())),
            ],
            Fact::Loop(detected) => vec![
                ("label_tenant", detected.tenant_id.clone()),
                ("label_loops", self.facts_count()),
                ("label_workflow", detected.workflow_id.clone()),
                ("label_per_minute", self.number(detected.runs_per_minute)),
                ("label_usual", self.number(detected.usual_runs_per_minute)),
            ],
            Fact::Contradicted(found) => vec![
                ("label_source", found.source_id.clone()),
                ("label_executions", self.number(found.executions)),
                ("label_example", found.execution_id.clone()),
            ],
            Fact::Clock(synced) => {
                vec![("label_source", synced.source_id.clone()), ("label_skew", skew(synced))]
            }
            Fact::SharedToken(synced) => {
                vec![
                    ("label_source", synced.source_id.clone()),
                    ("label_instances", synced.instances.join(", ")),
                ]
            }
            Fact::CountedTwice(synced) => vec![
                ("label_source", synced.source_id.clone()),
                ("label_other_sources", synced.same_instance_sources.join(", ")),
            ],
            Fact::Refused(refused) => self.refusals(refused),
        };
        if !matches!(&self.notice.fact, Fact::Failing(_) | Fact::Recovered(_)) {
            facts.push(("label_found", self.found()));
        }
        facts.into_iter().map(|(label, value)| phrases::Fact { label: self.plain(label), value }).collect()
    }
}

/// `+5m`, `-1m 30s`: how far a source's clock is ahead of ours.
fn skew(synced: &v1::SourceSynced) -> String {
    let skew_ms = synced.clock_skew_ms.unwrap_or_default();
    let sign = if skew_ms < 0 { '-' } else { '+' };
    format!("{sign}{}", skew_span(synced))
}

/// The same without its sign, in whole seconds.
fn skew_span(synced: &v1::SourceSynced) -> String {
    let seconds = synced.clock_skew_ms.unwrap_or_default().unsigned_abs() / 1_000;
    format!("{:#}", SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)))
}
