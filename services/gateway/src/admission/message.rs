//! The text of a verdict for a person, in the tenant's language and time zone.

use catalog::{
    Language, Tenant,
    locale::{number, on_instant, time_zone},
};
use jiff::Timestamp;

use crate::admission::decision::Reason;

/// The figures that a sentence may contain.
#[derive(Debug, Clone, Copy)]
pub struct Figures {
    /// Whether the run may start.
    pub allowed: bool,
    /// Executions that count against the limit.
    pub used: Option<u64>,
    /// Executions allowed in the period.
    pub limit: Option<u64>,
    /// When the period ends.
    pub resets_at: Timestamp,
    /// When a refusal may end.
    pub retry_at: Option<Timestamp>,
}

/// The sentence for a verdict.
pub fn sentence(tenant: &Tenant, reason: Reason, figures: Figures) -> String {
    let language = tenant.language;
    let zone = time_zone(tenant.calendar.time_zone_name());
    let figure = |value: Option<u64>, missing: &str| {
        value.map_or_else(|| missing.to_owned(), |value| number(language, value))
    };
    let words = Words {
        used: figure(figures.used, "?"),
        limit: figure(figures.limit, "-"),
        until: on_instant(language, figures.resets_at, &zone),
        again: on_instant(language, figures.retry_at.unwrap_or(figures.resets_at), &zone),
    };
    match language {
        Language::English => words.english(reason, figures.allowed),
        Language::Spanish => words.spanish(reason, figures.allowed),
    }
}

/// When runs may start again after a refusal.
pub fn hint(tenant: &Tenant, retry_at: Timestamp) -> String {
    let again = on_instant(tenant.language, retry_at, &time_zone(tenant.calendar.time_zone_name()));
    match tenant.language {
        Language::English => format!("Runs may start again {again}."),
        Language::Spanish => format!("Las ejecuciones podrán volver a iniciarse {again}."),
    }
}

/// The message of a client that refuses a run because the limit check cannot be reached.
pub fn unavailable(language: Language) -> &'static str {
    match language {
        Language::English => "Refused: whether this run is within its limit cannot be checked at the moment.",
        Language::Spanish => {
            "Rechazada: en este momento no se puede comprobar si esta ejecución está dentro de su límite."
        }
    }
}

/// The parts of sentences. Instants are as they follow a verb: `on 1 December 2026 at 00:00 (Europe/Madrid)`.
struct Words {
    used: String,
    limit: String,
    until: String,
    again: String,
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
                "Refused: all {limit} executions of this period are used. The limit begins anew {until}."
            ),
            Reason::LimitUnsettled => format!(
                "Refused for now: some of the last runs may be counted twice until the next update. Try again {again}."
            ),
            Reason::OverageReached => format!(
                "Refused: the limit of {limit} executions and all that is allowed past it are used. The limit begins \
                 anew {until}."
            ),
            Reason::TenantMinuteCap => {
                format!("Refused: too many runs in this minute. Try again {again}.")
            }
            Reason::TenantDayCap => format!("Refused: too many runs in this day. Try again {again}."),
            Reason::TenantConcurrentCap => {
                "Refused: too many runs are under way. Try again when some have ended.".to_owned()
            }
            Reason::WorkflowMinuteCap => {
                format!("Refused: too many runs of this workflow in this minute. Try again {again}.")
            }
            Reason::WorkflowDayCap => {
                format!("Refused: too many runs of this workflow in this day. Try again {again}.")
            }
            Reason::WorkflowConcurrentCap => {
                "Refused: too many runs of this workflow are under way. Try again when some have ended."
                    .to_owned()
            }
            Reason::WorkflowShareUsed => format!(
                "Refused: this workflow has used its part of the limit of {limit} executions. The limit begins anew \
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
                "Rechazada: se han usado las {limit} ejecuciones de este periodo. El límite se renueva {until}."
            ),
            Reason::LimitUnsettled => format!(
                "Rechazada por ahora: puede que algunas de las últimas ejecuciones se cuenten dos veces hasta la próxima \
                 actualización. Inténtelo de nuevo {again}."
            ),
            Reason::OverageReached => format!(
                "Rechazada: se han usado el límite de {limit} ejecuciones y todo lo permitido por encima. El límite se \
                 renueva {until}."
            ),
            Reason::TenantMinuteCap => {
                format!("Rechazada: demasiadas ejecuciones en este minuto. Inténtelo de nuevo {again}.")
            }
            Reason::TenantDayCap => {
                format!("Rechazada: demasiadas ejecuciones en este día. Inténtelo de nuevo {again}.")
            }
            Reason::TenantConcurrentCap => {
                "Rechazada: hay demasiadas ejecuciones en curso. Inténtelo de nuevo cuando terminen algunas.".to_owned()
            }
            Reason::WorkflowMinuteCap => format!(
                "Rechazada: demasiadas ejecuciones de este flujo en este minuto. Inténtelo de nuevo {again}."
            ),
            Reason::WorkflowDayCap => {
                format!("Rechazada: demasiadas ejecuciones de este flujo en este día. Inténtelo de nuevo {again}.")
            }
            Reason::WorkflowConcurrentCap => {
                "Rechazada: hay demasiadas ejecuciones de este flujo en curso. Inténtelo de nuevo cuando terminen \
                 algunas."
                    .to_owned()
            }
            Reason::WorkflowShareUsed => format!(
                "Rechazada: este flujo ha usado su parte del límite de {limit} ejecuciones. El límite se renueva \
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
    use catalog::Entry;
    use proto::v1;

    use super::*;

    fn tenant(language: &str, time_zone: &str) -> Tenant {
        Tenant::from_wire(v1::Tenant {
            tenant_id: "north".to_owned(),
            name: "North".to_owned(),
            plan_id: "pro".to_owned(),
            time_zone: time_zone.to_owned(),
            language: language.to_owned(),
            ..v1::Tenant::default()
        })
        .unwrap()
    }

    fn refused() -> Figures {
        Figures {
            allowed: false,
            used: Some(100_000),
            limit: Some(100_000),
            resets_at: "2026-11-30T23:00:00Z".parse().unwrap(),
            retry_at: Some("2026-11-24T12:00:30Z".parse().unwrap()),
        }
    }

    #[test]
    fn a_refusal_is_in_the_tenants_language_and_time_zone() {
        let english = sentence(&tenant("en", "Europe/Madrid"), Reason::LimitReached, refused());
        assert_eq!(
            english,
            "Refused: all 100,000 executions of this period are used. The limit begins anew on 1 December 2026 at 00:00 \
             (Europe/Madrid)."
        );
        let spanish = sentence(&tenant("es", "America/Bogota"), Reason::LimitReached, refused());
        assert_eq!(
            spanish,
            "Rechazada: se han usado las 100.000 ejecuciones de este periodo. El límite se renueva el 30 de noviembre de 2026 \
             a las 18:00 (America/Bogota)."
        );
        assert_eq!(
            hint(&tenant("es", "Europe/Madrid"), "2026-11-24T12:00:30Z".parse().unwrap()),
            "Las ejecuciones podrán volver a iniciarse el 24 de noviembre de 2026 a las 13:00:30 (Europe/Madrid)."
        );
    }

    #[test]
    fn no_sentence_contains_a_raw_timestamp() {
        for language in ["en", "es"] {
            for reason in Reason::ALL {
                for allowed in [true, false] {
                    let figures = Figures { allowed, ..refused() };
                    let text = sentence(&tenant(language, "Europe/Madrid"), *reason, figures);
                    assert!(!text.contains("Z.") && !text.contains("2026-11"), "{text}");
                    assert!(!text.contains(" el el ") && !text.contains("at on"), "{text}");
                }
            }
        }
    }
}
