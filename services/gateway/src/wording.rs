//! What a verdict says to a person, in the tenant's language.

use catalog::Language;
use jiff::Timestamp;

use crate::admission::Reason;

/// The figures that a sentence may name.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Whether the run may start.
    pub allowed: bool,
    /// Executions that stand against the limit.
    pub used: Option<u64>,
    /// Executions allowed in the period.
    pub limit: Option<u64>,
    /// When the period ends.
    pub resets_at: Timestamp,
}

/// The sentence for a verdict.
pub fn sentence(language: Language, reason: Reason, figures: Figures) -> String {
    let used = figures.used.map_or_else(|| "?".to_owned(), |used| used.to_string());
    let limit = figures.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    let until = figures.resets_at;
    match (language, reason) {
        (Language::English, Reason::WithinLimit) => {
            format!("Allowed: {used} of {limit} executions are used.")
        }
        (Language::Spanish, Reason::WithinLimit) => {
            format!("Permitida: se han usado {used} de {limit} ejecuciones.")
        }
        (Language::English, Reason::LimitReached) => {
            format!(
                "Refused: all {limit} executions of this period are used. The limit begins anew at {until}."
            )
        }
        (Language::Spanish, Reason::LimitReached) => format!(
            "Rechazada: se han usado las {limit} ejecuciones de este periodo. El límite se renueva el {until}."
        ),
        (Language::English, Reason::NotCounted) => {
            "Allowed: the plan does not count this kind of run.".to_owned()
        }
        (Language::Spanish, Reason::NotCounted) => {
            "Permitida: el plan no cuenta este tipo de ejecución.".to_owned()
        }
        (Language::English, Reason::NoLimit) => "Allowed: the plan has no limit.".to_owned(),
        (Language::Spanish, Reason::NoLimit) => "Permitida: el plan no tiene límite.".to_owned(),
        (Language::English, Reason::OverSoftLimit) => {
            format!("Allowed, but past the limit: {used} of {limit} executions are used.")
        }
        (Language::Spanish, Reason::OverSoftLimit) => {
            format!("Permitida, pero por encima del límite: se han usado {used} de {limit} ejecuciones.")
        }
        (Language::English, Reason::MeteringStale) if figures.allowed => {
            "Allowed without a check: the usage figures are out of date.".to_owned()
        }
        (Language::English, Reason::MeteringStale) => {
            "Refused: the usage figures are out of date, and the plan then allows no runs.".to_owned()
        }
        (Language::Spanish, Reason::MeteringStale) if figures.allowed => {
            "Permitida sin comprobar: los datos de uso no están al día.".to_owned()
        }
        (Language::Spanish, Reason::MeteringStale) => {
            "Rechazada: los datos de uso no están al día y el plan no permite ejecuciones en ese caso."
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_the_limit_and_its_end_in_both_languages() {
        let figures = Figures {
            allowed: false,
            used: Some(100),
            limit: Some(100),
            resets_at: "2026-12-01T00:00:00Z".parse().unwrap(),
        };
        for language in [Language::English, Language::Spanish] {
            let text = sentence(language, Reason::LimitReached, figures);
            assert!(text.contains("100") && text.contains("2026-12-01T00:00:00Z"), "{text}");
        }
    }
}
