//! The text of a verdict for a person, in the tenant's language and time zone.

use catalog::{
    Language, Tenant,
    locale::{number, on_instant, time_zone},
};
use jiff::Timestamp;
use locales::{ADMISSION, args};

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
    let args = args![
        "used" => figure(figures.used, "?"),
        "limit" => figure(figures.limit, "-"),
        "until" => on_instant(language, figures.resets_at, &zone),
        "again" => on_instant(language, figures.retry_at.unwrap_or(figures.resets_at), &zone),
    ];
    let phrase = match reason {
        Reason::MeteringStale if figures.allowed => "metering_stale_allowed",
        reason => reason.as_str(),
    };
    ADMISSION.say(language, phrase, &args)
}

/// When runs may start again after a refusal.
pub fn hint(tenant: &Tenant, retry_at: Timestamp) -> String {
    let again = on_instant(tenant.language, retry_at, &time_zone(tenant.calendar.time_zone_name()));
    ADMISSION.say(tenant.language, "hint", &args!["again" => again])
}

/// The message of a client that refuses a run because the limit check cannot be reached.
pub fn unavailable(language: Language) -> String {
    ADMISSION.plain(language, "unavailable")
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

    #[test]
    fn every_sentence_reads_well() {
        for (name, language) in
            [("english_sentences", Language::English), ("spanish_sentences", Language::Spanish)]
        {
            let tenant = tenant(language.as_str(), "Europe/Madrid");
            let mut shown = vec![unavailable(language), hint(&tenant, refused().resets_at)];
            for reason in Reason::ALL {
                let allowed = Figures { allowed: true, ..refused() };
                let unknown = Figures { used: None, limit: None, retry_at: None, ..refused() };
                for figures in [refused(), allowed, unknown] {
                    shown.push(format!("{}: {}", reason.as_str(), sentence(&tenant, *reason, figures)));
                }
            }
            shown.dedup();
            insta::assert_snapshot!(name, shown.join("\n"));
        }
    }
}
