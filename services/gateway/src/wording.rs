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
    /// When a refusal may end.
    pub retry_at: Option<Timestamp>,
}

/// The sentence for a verdict.
pub fn sentence(language: Language, reason: Reason, figures: Figures) -> String {
    let used = figures.used.map_or_else(|| "?".to_owned(), |used| used.to_string());
    let limit = figures.limit.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
    let words =
        Words { used, limit, until: figures.resets_at, again: figures.retry_at.unwrap_or(figures.resets_at) };
    match language {
        Language::English => words.english(reason, figures.allowed),
        Language::Spanish => words.spanish(reason, figures.allowed),
    }
}

/// What sentences name.
struct Words {
    used: String,
    limit: String,
    until: Timestamp,
    again: Timestamp,
}

impl Words {
    fn english(&self, reason: Reason, allowed: bool) -> String {
        let Self { used, limit, until, again } = self;
        match reason {
            Reason::WithinLimit => format!("Allowed: {used} of {limit} executions are used."),
            Reason::NoLimit => "Allowed: the plan has no limit.".to_owned(),
            Reason::OverSoftLimit => {
                format!("Allowed, but past the limit: {used} of {limit} executions are used.")
            }
            Reason::Grace => {
                format!(
                    "Allowed for a while: all {limit} executions of this period are used. Soon runs are refused."
                )
            }
            Reason::NotCounted => "Allowed: the plan does not count this kind of run.".to_owned(),
            Reason::ErrorWorkflow => "Allowed: a run of an error workflow is never refused.".to_owned(),
            Reason::Shadow => {
                "Allowed: the plan only watches. Otherwise the run would be refused.".to_owned()
            }
            Reason::MeteringStale if allowed => {
                "Allowed without a check: the usage figures are out of date.".to_owned()
            }
            Reason::MeteringStale => {
                "Refused: the usage figures are out of date, and the plan then allows no runs.".to_owned()
            }
            Reason::LimitReached => format!(
                "Refused: all {limit} executions of this period are used. The limit begins anew at {until}."
            ),
            Reason::LimitUnsettled => format!(
                "Refused for now: some of the last runs may be counted twice until the next update. Try again at {again}."
            ),
            Reason::OverageReached => format!(
                "Refused: the limit of {limit} executions and all that is allowed past it are used. The limit begins \
                 anew at {until}."
            ),
            Reason::TenantMinuteCap => {
                format!("Refused: too many runs in this minute. Try again at {again}.")
            }
            Reason::TenantDayCap => format!("Refused: too many runs in this day. Try again at {again}."),
            Reason::TenantConcurrentCap => {
                "Refused: too many runs are under way. Try again when some have ended.".to_owned()
            }
            Reason::WorkflowMinuteCap => {
                format!("Refused: too many runs of this workflow in this minute. Try again at {again}.")
            }
            Reason::WorkflowDayCap => {
                format!("Refused: too many runs of this workflow in this day. Try again at {again}.")
            }
            Reason::WorkflowConcurrentCap => {
                "Refused: too many runs of this workflow are under way. Try again when some have ended."
                    .to_owned()
            }
            Reason::WorkflowShareUsed => format!(
                "Refused: this workflow has used its part of the limit of {limit} executions. The limit begins anew at \
                 {until}."
            ),
            Reason::LoopDetected => {
                "Refused: this workflow starts far more often than usual, as if it started itself.".to_owned()
            }
        }
    }

    fn spanish(&self, reason: Reason, allowed: bool) -> String {
        let Self { used, limit, until, again } = self;
        match reason {
            Reason::WithinLimit => format!("Permitida: se han usado {used} de {limit} ejecuciones."),
            Reason::NoLimit => "Permitida: el plan no tiene límite.".to_owned(),
            Reason::OverSoftLimit => {
                format!("Permitida, pero por encima del límite: se han usado {used} de {limit} ejecuciones.")
            }
            Reason::Grace => format!(
                "Permitida por un tiempo: se han usado las {limit} ejecuciones de este periodo. Pronto se rechazarán."
            ),
            Reason::NotCounted => "Permitida: el plan no cuenta este tipo de ejecución.".to_owned(),
            Reason::ErrorWorkflow => {
                "Permitida: una ejecución de un flujo de error nunca se rechaza.".to_owned()
            }
            Reason::Shadow => "Permitida: el plan solo observa. Si no, la ejecución se rechazaría.".to_owned(),
            Reason::MeteringStale if allowed => {
                "Permitida sin comprobar: los datos de uso no están al día.".to_owned()
            }
            Reason::MeteringStale => {
                "Rechazada: los datos de uso no están al día y el plan no permite ejecuciones en ese caso.".to_owned()
            }
            Reason::LimitReached => format!(
                "Rechazada: se han usado las {limit} ejecuciones de este periodo. El límite se renueva el {until}."
            ),
            Reason::LimitUnsettled => format!(
                "Rechazada por ahora: puede que algunas de las últimas ejecuciones se cuenten dos veces hasta la próxima \
                 actualización. Inténtelo de nuevo a las {again}."
            ),
            Reason::OverageReached => format!(
                "Rechazada: se han usado el límite de {limit} ejecuciones y todo lo permitido por encima. El límite se \
                 renueva el {until}."
            ),
            Reason::TenantMinuteCap => {
                format!("Rechazada: demasiadas ejecuciones en este minuto. Inténtelo de nuevo el {again}.")
            }
            Reason::TenantDayCap => {
                format!("Rechazada: demasiadas ejecuciones en este día. Inténtelo de nuevo el {again}.")
            }
            Reason::TenantConcurrentCap => {
                "Rechazada: hay demasiadas ejecuciones en curso. Inténtelo de nuevo cuando terminen algunas.".to_owned()
            }
            Reason::WorkflowMinuteCap => format!(
                "Rechazada: demasiadas ejecuciones de este flujo en este minuto. Inténtelo de nuevo el {again}."
            ),
            Reason::WorkflowDayCap => {
                format!("Rechazada: demasiadas ejecuciones de este flujo en este día. Inténtelo de nuevo el {again}.")
            }
            Reason::WorkflowConcurrentCap => {
                "Rechazada: hay demasiadas ejecuciones de este flujo en curso. Inténtelo de nuevo cuando terminen \
                 algunas."
                    .to_owned()
            }
            Reason::WorkflowShareUsed => format!(
                "Rechazada: este flujo ha usado su parte del límite de {limit} ejecuciones. El límite se renueva el \
                 {until}."
            ),
            Reason::LoopDetected => {
                "Rechazada: este flujo se inicia mucho más de lo habitual, como si se iniciara a sí mismo.".to_owned()
            }
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
            retry_at: None,
        };
        for language in [Language::English, Language::Spanish] {
            let text = sentence(language, Reason::LimitReached, figures);
            assert!(text.contains("100") && text.contains("2026-12-01T00:00:00Z"), "{text}");
        }
    }
}
