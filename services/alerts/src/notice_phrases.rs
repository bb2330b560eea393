//! What a mail to the operator says. Instants are in UTC, and say so.

mod english;
mod spanish;
#[cfg(test)]
mod tests;

use catalog::{Language, locale};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use proto::{instant, v1};

use crate::{
    Fact, Notice, RefusedMail,
    phrases::{self, Phrases},
};

/// The sentences of one mail.
struct Sentences {
    subject: String,
    what: String,
    meaning: &'static str,
    next: String,
}

/// The words of one language.
struct Words {
    code: &'static str,
    look: &'static str,
    button: &'static str,
    because: &'static str,
    /// `{}` to `{}`, of ids and of instants.
    to: &'static str,
    /// After an id, if no end is known.
    and_later: &'static str,
    source: &'static str,
    service: &'static str,
    tenant: &'static str,
    gaps: &'static str,
    executions: &'static str,
    reason: &'static str,
    found: &'static str,
    since: &'static str,
    until: &'static str,
    attempts: &'static str,
    expected: &'static str,
    messages: &'static str,
    subject: &'static str,
    reports: &'static str,
    identifier: &'static str,
    period: &'static str,
    billable: &'static str,
    stripe: &'static str,
    workflow: &'static str,
    loops: &'static str,
    per_minute: &'static str,
    usual: &'static str,
    example: &'static str,
    skew: &'static str,
    instances: &'static str,
    other_sources: &'static str,
    mails: &'static str,
    recipient: &'static str,
}

impl Phrases {
    /// The words for a notice.
    pub fn of_notice(notice: &Notice) -> Self {
        let parts = Parts { notice, language: notice.told.language };
        let (words, sentences) = match notice.told.language {
            Language::English => (&english::WORDS, english::sentences(&parts)),
            Language::Spanish => (&spanish::WORDS, spanish::sentences(&parts)),
        };
        Self {
            language: words.code,
            subject: sentences.subject,
            what: sentences.what,
            meaning: sentences.meaning.into(),
            next: sentences.next,
            figure: None,
            facts: parts.facts(words),
            look: words.look,
            button: words.button,
            because: words.because.to_owned(),
        }
    }
}

/// The notice's values, written as the language writes them.
struct Parts<'a> {
    notice: &'a Notice,
    language: Language,
}

impl Parts<'_> {
    fn number(&self, value: u64) -> String {
        locale::number(self.language, value)
    }

    /// How many facts.
    fn facts_count(&self) -> String {
        self.number(self.notice.facts)
    }

    fn is_one(&self) -> bool {
        self.notice.facts == 1
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
    fn found(&self, words: &Words) -> String {
        let (first, last) = (self.moment(self.notice.first_at), self.moment(self.notice.last_at));
        if first == last { first } else { format!("{first} {} {last}", words.to) }
    }

    fn period(&self, period: Option<&v1::Period>, words: &Words) -> String {
        let at = |wire| self.moment_of(wire);
        let start = at(period.and_then(|period| period.start.as_ref()));
        format!("{start} {} {}", words.to, at(period.and_then(|period| period.end.as_ref())))
    }

    fn refusals(&self, refused: &RefusedMail, words: &Words) -> Vec<(&'static str, String)> {
        let count = (words.mails, self.facts_count());
        let listed = refused.refusals.iter();
        let listed =
            listed.map(|refusal| (words.recipient, format!("{}: {}", refusal.recipient, refusal.reason)));
        std::iter::once(count).chain(listed).collect()
    }

    /// The table below the sentences.
    fn facts(&self, words: &Words) -> Vec<phrases::Fact> {
        let mut facts = match &self.notice.fact {
            Fact::Gap(gap) => vec![
                (words.source, gap.source_id.clone()),
                (words.gaps, self.facts_count()),
                (words.executions, ids(gap, words)),
                (words.reason, gap_reason(self.language, gap.reason()).to_owned()),
            ],
            Fact::Failing(failing) => vec![
                (words.source, failing.source_id.clone()),
                (words.reason, failure_reason(self.language, failing.reason()).to_owned()),
                (words.since, self.moment_of(failing.failing_since.as_ref())),
                (words.attempts, self.number(failing.consecutive_failures.into())),
            ],
            Fact::Recovered(failing) => vec![
                (words.source, failing.source_id.clone()),
                (words.reason, failure_reason(self.language, failing.reason()).to_owned()),
                (words.since, self.moment_of(failing.failing_since.as_ref())),
                (words.until, self.moment(self.notice.first_at)),
            ],
            Fact::Loss(synced) => vec![
                (words.source, synced.source_id.clone()),
                (words.expected, self.moment_of(synced.loss_expected_at.as_ref())),
            ],
            Fact::Dead(letter) => vec![
                (words.service, letter.service.clone()),
                (words.messages, self.facts_count()),
                (words.subject, letter.original_subject.clone()),
            ],
            Fact::Report(failed) => vec![
                (words.tenant, failed.tenant_id.clone()),
                (words.reports, self.facts_count()),
                (words.identifier, failed.identifier.clone()),
                (words.period, self.period(failed.period.as_ref(), words)),
            ],
            Fact::Drift(drift) => vec![
                (words.tenant, drift.tenant_id.clone()),
                (words.billable, self.number(drift.billable)),
                (words.stripe, self.number(drift.stripe_total)),
                (words.period, self.period(drift.period.as_ref(), words)),
            ],
            Fact::Loop(detected) => vec![
                (words.tenant, detected.tenant_id.clone()),
                (words.loops, self.facts_count()),
                (words.workflow, detected.workflow_id.clone()),
                (words.per_minute, self.number(detected.runs_per_minute)),
                (words.usual, self.number(detected.usual_runs_per_minute)),
            ],
            Fact::Contradicted(found) => vec![
                (words.source, found.source_id.clone()),
                (words.executions, self.number(found.executions)),
                (words.example, found.execution_id.clone()),
            ],
            Fact::Clock(synced) => vec![(words.source, synced.source_id.clone()), (words.skew, skew(synced))],
            Fact::SharedToken(synced) => {
                vec![(words.source, synced.source_id.clone()), (words.instances, synced.instances.join(", "))]
            }
            Fact::CountedTwice(synced) => vec![
                (words.source, synced.source_id.clone()),
                (words.other_sources, synced.same_instance_sources.join(", ")),
            ],
            Fact::Refused(refused) => self.refusals(refused, words),
        };
        if !matches!(&self.notice.fact, Fact::Failing(_) | Fact::Recovered(_)) {
            facts.push((words.found, self.found(words)));
        }
        facts.into_iter().map(|(label, value)| phrases::Fact { label, value }).collect()
    }
}

/// `120 to 180`, or `120`; `120 and later` if no end is known, `?` if nothing is.
fn ids(gap: &v1::SourceGap, words: &Words) -> String {
    match (gap.first_execution_id.as_str(), gap.last_execution_id.as_str()) {
        ("", "") => "?".to_owned(),
        ("", last) => format!("? {} {last}", words.to),
        (first, "") => format!("{first} {}", words.and_later),
        (first, last) if first == last => first.to_owned(),
        (first, last) => format!("{first} {} {last}", words.to),
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

fn is_behind(synced: &v1::SourceSynced) -> bool {
    synced.clock_skew_ms.is_some_and(|skew_ms| skew_ms < 0)
}

fn gap_reason(language: Language, reason: v1::GapReason) -> &'static str {
    use v1::GapReason::{EpochEnded, OpenExecutionVanished, PrunedBeforeSeen, Unspecified};
    match (language, reason) {
        (Language::English, OpenExecutionVanished) => "was running, and is gone",
        (Language::English, PrunedBeforeSeen) => "pruned before they were seen",
        (Language::English, EpochEnded) => "the database was restored or replaced",
        (Language::English, Unspecified) => "several, or not known",
        (Language::Spanish, OpenExecutionVanished) => "estaba en curso y ya no está",
        (Language::Spanish, PrunedBeforeSeen) => "borradas antes de verlas",
        (Language::Spanish, EpochEnded) => "la base de datos se restauró o se sustituyó",
        (Language::Spanish, Unspecified) => "varios, o desconocido",
    }
}

fn failure_reason(language: Language, reason: v1::FailureReason) -> &'static str {
    use v1::FailureReason::{
        Internal, RateLimited, SecretUnreadable, TooLarge, Unauthorized, Unreachable, Unreadable, Unspecified,
    };
    match (language, reason) {
        (Language::English, Unreachable) => "it does not answer",
        (Language::English, Unauthorized) => "it refuses the API key",
        (Language::English, RateLimited) => "it answers that there are too many requests",
        (Language::English, Unreadable) => "its answer is not understood",
        (Language::English, TooLarge) => "its answer is too large",
        (Language::English, SecretUnreadable) => "the stored API key cannot be opened",
        (Language::English, Internal) => "Flowmeter's own broker or database does not answer",
        (Language::English, Unspecified) => "the reason is not known",
        (Language::Spanish, Unreachable) => "no responde",
        (Language::Spanish, Unauthorized) => "rechaza la clave de API",
        (Language::Spanish, RateLimited) => "responde que hay demasiadas peticiones",
        (Language::Spanish, Unreadable) => "su respuesta no se entiende",
        (Language::Spanish, TooLarge) => "su respuesta es demasiado grande",
        (Language::Spanish, SecretUnreadable) => "la clave de API guardada no se puede abrir",
        (Language::Spanish, Internal) => "no responde el bróker o la base de datos del propio Flowmeter",
        (Language::Spanish, Unspecified) => "no se conoce el motivo",
    }
}
