//! What a mail says, in the tenant's language. Both forms of the mail are made from these phrases, so they cannot
//! say different things.

use std::borrow::Cow;

use catalog::{Language, locale};

use crate::Alert;

mod at_limit;

/// A line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What it is.
    pub label: &'static str,
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
    pub meaning: Cow<'static, str>,
    /// What comes next: when the period ends, or what is to be done.
    pub next: String,
    /// The figure at the bar, if there is one: `8,012 of 10,000 executions`.
    pub figure: Option<String>,
    /// The rest, in detail.
    pub facts: Vec<Fact>,
    /// Where to look.
    pub look: &'static str,
    /// On the button.
    pub button: &'static str,
    /// Why the recipient gets this mail.
    pub because: String,
}

impl Phrases {
    /// The words for an alert.
    pub fn of(alert: &Alert) -> Self {
        match alert.language {
            Language::English => english(alert),
            Language::Spanish => spanish(alert),
        }
    }
}

fn english(alert: &Alert) -> Phrases {
    let parts = Parts::of(alert);
    let passed = passed(alert, "and", |shares| format!(" On the way it also passed {shares}."));
    let Parts { name, percent, used, limit, of_period, crossed, ends, zone, .. } = &parts;
    Phrases {
        language: "en",
        subject: format!("{name} has used {percent} of its executions {of_period}"),
        what: format!(
            "{name} has used {used} of its {limit} executions {of_period}. It reached {percent} {crossed}.{passed}"
        ),
        meaning: at_limit::english(alert),
        next: format!("The period ends {ends} ({zone}); then the count starts again from zero."),
        figure: Some(format!("{used} of {limit} executions")),
        facts: parts.facts(&Labels {
            remaining: "Remaining",
            threshold: "Threshold",
            reached: "Reached",
            period: "Period",
            ends: "Period ends",
            zone: "Time zone",
        }),
        look: "Current usage, workflow by workflow, is on the dashboard.",
        button: "Open the dashboard",
        because: format!(
            "You receive this mail because your address is among those that {name} has chosen for usage alerts."
        ),
    }
}

fn spanish(alert: &Alert) -> Phrases {
    let parts = Parts::of(alert);
    let passed = passed(alert, "y", |shares| format!(" Antes pasó también por {shares}."));
    let Parts { name, percent, used, limit, of_period, crossed, ends, zone, .. } = &parts;
    Phrases {
        language: "es",
        subject: format!("{name} ha usado el {percent} de sus ejecuciones {of_period}"),
        what: format!(
            "{name} ha usado {used} de sus {limit} ejecuciones {of_period}. Alcanzó el {percent} {crossed}.{passed}"
        ),
        meaning: at_limit::spanish(alert),
        next: format!("El período termina {ends} ({zone}); entonces la cuenta vuelve a empezar desde cero."),
        figure: Some(format!("{used} de {limit} ejecuciones")),
        facts: parts.facts(&Labels {
            remaining: "Disponibles",
            threshold: "Umbral",
            reached: "Alcanzado",
            period: "Período",
            ends: "Fin del período",
            zone: "Zona horaria",
        }),
        look: "El uso actual, flujo por flujo, está en el panel.",
        button: "Abrir el panel",
        because: format!(
            "Recibe este correo porque su dirección está entre las que {name} ha elegido para los avisos de uso."
        ),
    }
}

/// Thresholds that no other mail names, in a sentence; empty if there are none.
fn passed(alert: &Alert, and: &str, sentence: impl Fn(String) -> String) -> String {
    let shares: Vec<String> = alert.folded.iter().map(|percent| format!("{percent} %")).collect();
    match shares.as_slice() {
        [] => String::new(),
        [only] => sentence(only.clone()),
        [first @ .., last] => sentence(format!("{} {and} {last}", first.join(", "))),
    }
}

/// The alert's values, written as the language writes them.
struct Parts<'a> {
    name: &'a str,
    percent: String,
    used: String,
    limit: String,
    remaining: String,
    of_period: String,
    crossed: String,
    ends: String,
    zone: &'a str,
    period_name: String,
    crossed_moment: String,
    ends_moment: String,
}

struct Labels {
    remaining: &'static str,
    threshold: &'static str,
    reached: &'static str,
    period: &'static str,
    ends: &'static str,
    zone: &'static str,
}

impl<'a> Parts<'a> {
    fn of(alert: &'a Alert) -> Self {
        let (language, zone) = (alert.language, &alert.time_zone);
        Self {
            name: &alert.tenant_name,
            percent: alert.percent.to_string(),
            used: locale::number(language, alert.used),
            limit: locale::number(language, alert.limit),
            remaining: locale::number(language, alert.remaining()),
            of_period: locale::of_period(language, alert.period, zone),
            crossed: locale::on_moment(language, alert.crossed_at, zone),
            ends: locale::on_moment(language, alert.period.end, zone),
            zone: zone.iana_name().unwrap_or("UTC"),
            period_name: locale::period(language, alert.period, zone),
            crossed_moment: locale::moment(language, alert.crossed_at, zone),
            ends_moment: locale::moment(language, alert.period.end, zone),
        }
    }

    fn facts(&self, labels: &Labels) -> Vec<Fact> {
        let fact = |label: &'static str, value: &str| Fact { label, value: value.to_owned() };
        vec![
            fact(labels.remaining, &self.remaining),
            fact(labels.threshold, &self.percent),
            fact(labels.reached, &self.crossed_moment),
            fact(labels.period, &self.period_name),
            fact(labels.ends, &self.ends_moment),
            fact(labels.zone, self.zone),
        ]
    }
}
