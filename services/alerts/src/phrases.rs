//! What a mail says, in the tenant's language. Both forms of the mail are made from these phrases, so they cannot
//! say different things.

use catalog::locale;
use locales::{ALERTS, Args, args};

use crate::{Alert, alert::AtLimit};

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub label: String,
    /// How much, or when.
    pub value: String,
}

/// The words of one mail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Phrases {
    /// The language's code, for screen readers.
    pub language: &'static str,
    /// The subject, and the headline.
    pub subject: String,
    /// What happened.
    pub what: String,
    /// What it means.
    pub meaning: String,
    /// What comes next: when the period ends, or what is to be done.
    pub next: String,
    /// The figure at the bar, if there is one: `8,012 of 10,000 executions`.
    pub figure: Option<String>,
    /// The rest, in detail.
    pub facts: Vec<Fact>,
    /// Where to look.
    pub look: String,
    /// On the button.
    pub button: String,
    /// Why the recipient gets this mail.
    pub because: String,
}

impl Phrases {
    /// The words for an alert.
    pub fn of(alert: &Alert) -> Self {
        let language = alert.language;
        let args = values(alert);
        let say = |part: &str| ALERTS.say(language, &format!("alert.{part}"), &args);
        let what = [Some(say("what")), passed(alert)].into_iter().flatten().collect::<Vec<_>>();
        Self {
            language: language.as_str(),
            subject: say("subject"),
            what: what.join(" "),
            meaning: at_limit(alert),
            next: say("next"),
            figure: Some(say("figure")),
            facts: facts(alert),
            look: say("look"),
            button: say("button"),
            because: say("because"),
        }
    }
}

/// The alert's values, as they stand in sentences.
fn values(alert: &Alert) -> Args<'_> {
    let (language, zone) = (alert.language, &alert.time_zone);
    args![
        "name" => &alert.tenant_name,
        "percent" => alert.percent.to_string(),
        "used" => alert.used,
        "limit" => alert.limit,
        "of_period" => locale::of_period(language, alert.period, zone),
        "crossed" => locale::on_moment(language, alert.crossed_at, zone),
        "ends" => locale::on_moment(language, alert.period.end, zone),
        "zone" => zone.iana_name().unwrap_or("UTC"),
    ]
}

/// The table below the sentences.
fn facts(alert: &Alert) -> Vec<Fact> {
    let (language, zone) = (alert.language, &alert.time_zone);
    let facts = [
        ("label_remaining", locale::number(language, alert.remaining())),
        ("label_threshold", alert.percent.to_string()),
        ("label_reached", locale::moment(language, alert.crossed_at, zone)),
        ("label_period", locale::period(language, alert.period, zone)),
        ("label_ends", locale::moment(language, alert.period.end, zone)),
        ("label_zone", zone.iana_name().unwrap_or("UTC").to_owned()),
    ];
    facts.into_iter().map(|(label, value)| Fact { label: ALERTS.plain(language, label), value }).collect()
}

/// Thresholds that no other mail names, in a sentence.
fn passed(alert: &Alert) -> Option<String> {
    let shares: Vec<String> = alert.folded.iter().map(|percent| format!("{percent} %")).collect();
    let shares = match shares.as_slice() {
        [] => return None,
        [only] => only.clone(),
        [first @ .., last] => {
            ALERTS.say(alert.language, "shares", &args!["first" => first.join(", "), "last" => last])
        }
    };
    Some(ALERTS.say(alert.language, "alert.passed", &args!["shares" => shares]))
}

/// What a crossing means: what happens at the limit under the plan.
fn at_limit(alert: &Alert) -> String {
    let at_limit = alert.at_limit();
    let (phrase, args) = match at_limit {
        AtLimit::Refuses => ("refuses", Args::new()),
        AtLimit::RefusesAfter(grace) => {
            ("refuses_after", args!["grace" => locale::length(alert.language, grace)])
        }
        AtLimit::Watches => ("watches", Args::new()),
        AtLimit::Overage => ("overage", Args::new()),
        AtLimit::OverageOf(most) => ("overage_of", args!["most" => most]),
    };
    let part = match at_limit {
        _ if !alert.limit_reached() => "ahead",
        AtLimit::OverageOf(most) if alert.used >= alert.limit.saturating_add(most) => "used",
        _ => "reached",
    };
    ALERTS.say(alert.language, &format!("{phrase}.{part}"), &args)
}
