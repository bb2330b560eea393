//! In Spanish.

use proto::v1;

use super::{Parts, Sentences, Words, failure_reason, ids, is_behind, skew_span};
use crate::{Fact, RefusedMail};

pub(super) const WORDS: Words = Words {
    code: "es",
    look: "Los orígenes, y hasta dónde están completas las cifras, se ven en el panel.",
    button: "Abrir el panel",
    because: "Recibe este correo porque su dirección está entre las del operador en la configuración de Flowmeter.",
    to: "a",
    and_later: "y posteriores",
    source: "Origen",
    service: "Servicio",
    tenant: "Cliente",
    gaps: "Huecos",
    executions: "Ejecuciones",
    reason: "Motivo",
    found: "Hallado",
    since: "Falla desde",
    until: "Leído de nuevo",
    attempts: "Intentos",
    expected: "Previsto",
    messages: "Mensajes",
    subject: "El primero, de",
    reports: "Informes",
    identifier: "Primer identificador",
    period: "Período",
    billable: "Facturables",
    stripe: "Contadas por Stripe",
    workflow: "Primer flujo",
    loops: "Bucles",
    per_minute: "Inicios en el minuto hasta ahora",
    usual: "Habitual en un minuto",
    example: "Una de ellas",
    skew: "Desfase del reloj",
    instances: "Instancias de n8n",
    other_sources: "Otros orígenes",
    mails: "Destinatarios",
    recipient: "Destinatario",
};

pub(super) fn sentences(parts: &Parts<'_>) -> Sentences {
    match &parts.notice.fact {
        Fact::Gap(gap) => missing(parts, gap),
        Fact::Failing(failing) => Sentences {
            subject: format!("No se puede leer {}", failing.source_id),
            what: format!(
                "{} falla desde {}: {}.",
                failing.source_id,
                parts.on_moment_of(failing.failing_since.as_ref()),
                failure_reason(parts.language, failing.reason())
            ),
            meaning: "Lo que ejecute entretanto se contará cuando se vuelva a leer, en la medida en que aún lo muestre.",
            next: what_to_do(failing),
        },
        Fact::Recovered(failing) => Sentences {
            subject: format!("{} se lee de nuevo", failing.source_id),
            what: format!(
                "{} fallaba desde {}. Una lectura terminó bien {}.",
                failing.source_id,
                parts.on_moment_of(failing.failing_since.as_ref()),
                parts.on_moment(parts.notice.first_at)
            ),
            meaning: "Lo que ejecutó entretanto se está contando.",
            next: "De las ejecuciones que ya no muestre se avisará como hueco.".into(),
        },
        Fact::Loss(synced) => Sentences {
            subject: format!("{} está a punto de perder ejecuciones", synced.source_id),
            what: format!(
                "Al ritmo actual, {} borrará ejecuciones antes de que la próxima lectura las vea, hacia {}.",
                synced.source_id,
                parts.on_moment_of(synced.loss_expected_at.as_ref())
            ),
            meaning: "Lo que se borra antes de verlo no se cuenta nunca.",
            next: "Haga que n8n conserve más ejecuciones (EXECUTIONS_DATA_PRUNE_MAX_COUNT), léalo más a menudo \
                   (poll_interval) o haga que envíe lo que ejecuta."
                .into(),
        },
        Fact::Contradicted(found) => Sentences {
            subject: format!("{} no muestra lo que se envió por él", found.source_id),
            what: format!(
                "Hoy se enviaron {} ejecuciones de {} de otra forma que como las muestra su propia lista: con otro flujo, modo, \
                 estado o final.",
                parts.number(found.executions),
                found.source_id
            ),
            meaning: "Las cifras siguen a la lista, así que son correctas. Alguien puede tener el token de envío del origen.",
            next: format!(
                "Cree un token nuevo (`flowmeter sources push-token {}`) y póngalo donde ningún flujo pueda leerlo: el README \
                 del hook explica cómo. `flowmeter source audit {}` compara la lista entera.",
                found.source_id, found.source_id
            ),
        },
        Fact::Clock(synced) => clock(synced),
        Fact::SharedToken(synced) => Sentences {
            subject: format!("Varios n8n envían como {}", synced.source_id),
            what: format!(
                "{} instancias de n8n envían sus ejecuciones con el token de {}.",
                parts.number(u64::try_from(synced.instances.len()).unwrap_or(u64::MAX)),
                synced.source_id
            ),
            meaning: "Usan los mismos identificadores, así que las ejecuciones de todas menos una se toman por repetidas y no se cuentan.",
            next: "Cree un origen para cada n8n y un token para cada origen (`flowmeter sources push-token`). n8n muestra el \
                   identificador de su instancia en About n8n."
                .into(),
        },
        Fact::CountedTwice(synced) => Sentences {
            subject: format!("El n8n de {} se mide más de una vez", synced.source_id),
            what: format!(
                "El n8n de {} envía sus ejecuciones también por {}.",
                synced.source_id,
                synced.same_instance_sources.join(", ")
            ),
            meaning: "Cada ejecución cuenta una vez por cada uno de esos orígenes, y así se factura.",
            next: "Conserve un origen, elimine los demás y compártalo con atribuciones (por flujo, etiqueta o proyecto).".into(),
        },
        Fact::Dead(letter) => dead(parts, letter),
        Fact::Report(failed) => report(parts, failed),
        Fact::Drift(drift) => Sentences {
            subject: format!("Stripe cuenta otra cosa de {}", drift.tenant_id),
            what: format!(
                "De {} son facturables {} ejecuciones de un período, y Stripe ha contado {}.",
                drift.tenant_id,
                parts.number(drift.billable),
                parts.number(drift.stripe_total)
            ),
            meaning: "La factura sigue la cifra de Stripe.",
            next: "Busque eventos de medición que otro haya enviado o anulado, antes de que la factura sea definitiva."
                .into(),
        },
        Fact::Loop(detected) => looping(parts, detected),
        Fact::Refused(refused) => refused_mail(parts, refused),
    }
}

fn clock(synced: &v1::SourceSynced) -> Sentences {
    let (source, by) = (&synced.source_id, skew_span(synced));
    let (way, meaning) = if is_behind(synced) {
        (
            "atrasado",
            "Una ejecución cerca del final de un período cuenta en el anterior, o como tardía si ya se cerró.",
        )
    } else {
        ("adelantado", "Una ejecución cerca del final de un período cuenta en el siguiente.")
    };
    Sentences {
        subject: format!("El reloj de {source} va {way} {by}"),
        what: format!("El reloj del n8n de {source} va {way} {by} respecto al de Flowmeter."),
        meaning,
        next: "Ponga en hora esa máquina con NTP. Si recibe este correo por todos los orígenes, el reloj equivocado es el de Flowmeter."
            .into(),
    }
}

fn missing(parts: &Parts<'_>, gap: &v1::SourceGap) -> Sentences {
    let (source, ids, count) = (&gap.source_id, ids(gap, &WORDS), parts.facts_count());
    let next = match gap.reason() {
        v1::GapReason::PrunedBeforeSeen => {
            "Haga que n8n conserve más ejecuciones (EXECUTIONS_DATA_PRUNE_MAX_COUNT, EXECUTIONS_DATA_MAX_AGE), o léalo \
             más a menudo (poll_interval)."
                .to_owned()
        }
        v1::GapReason::OpenExecutionVanished => {
            "Alguien la borró, o su flujo no guarda las ejecuciones que terminan así.".to_owned()
        }
        v1::GapReason::EpochEnded => {
            "Lo ejecutado entre la última lectura y la restauración no se puede ver. Las lecturas siguen con la base de \
             datos nueva."
                .to_owned()
        }
        v1::GapReason::Unspecified => format!("`flowmeter sources gaps {source}` los muestra."),
    };
    Sentences {
        subject: if parts.is_one() {
            format!("{source} tiene un hueco en sus ejecuciones")
        } else {
            format!("{source} tiene {count} huecos en sus ejecuciones")
        },
        what: if parts.is_one() {
            format!("{source} ya no muestra lo que ejecutó como {ids}, y nunca se recogió.")
        } else {
            format!(
                "Se hallaron {count} huecos en {source} (ejecuciones {ids}): ya no muestra lo que ejecutó allí, y \
                     nunca se recogió."
            )
        },
        meaning: "Lo que falta no está en ninguna cifra ni en ninguna factura: el consumo real puede ser mayor.",
        next,
    }
}

fn dead(parts: &Parts<'_>, letter: &v1::DeadLetter) -> Sentences {
    let (service, count) = (&letter.service, parts.facts_count());
    Sentences {
        subject: if parts.is_one() {
            format!("{service} no pudo tratar un mensaje")
        } else {
            format!("{service} no pudo tratar {count} mensajes")
        },
        what: if parts.is_one() {
            format!("Un mensaje se ha apartado: {}.", letter.reason)
        } else {
            format!("Se han apartado {count} mensajes. El motivo del primero: {}.", letter.reason)
        },
        meaning: "No se pierde nada: los mensajes apartados se conservan 30 días. Lo que dicen no está aún en ninguna cifra.",
        next: "`flowmeter dead list` los muestra. Resuelta la causa, `flowmeter dead replay` los envía de nuevo.".into(),
    }
}

fn report(parts: &Parts<'_>, failed: &v1::ReportFailed) -> Sentences {
    let (tenant, count) = (&failed.tenant_id, parts.facts_count());
    Sentences {
        subject: if parts.is_one() {
            format!("Ha fallado un informe a Stripe sobre {tenant}")
        } else {
            format!("Han fallado {count} informes a Stripe sobre {tenant}")
        },
        what: match (parts.is_one(), failed.quantity) {
            (true, quantity @ ..0) => {
                format!("No se pudo comunicar a Stripe una corrección de {quantity} ejecuciones de {tenant}.")
            }
            (true, quantity) => {
                format!("No se pudieron comunicar a Stripe {quantity} ejecuciones de {tenant}.")
            }
            (false, quantity) => format!(
                "No se pudo comunicar a Stripe todo lo que ha usado {tenant}; el primer informe tiene {quantity} \
                 ejecuciones."
            ),
        },
        meaning: "No están en ninguna factura hasta que alguien lo resuelva.",
        next: failed.reason.clone(),
    }
}

fn refused_mail(parts: &Parts<'_>, refused: &RefusedMail) -> Sentences {
    let first = refused.refusals.first().map_or("?", |refusal| refusal.recipient.as_str());
    let count = parts.facts_count();
    Sentences {
        subject: if parts.is_one() {
            format!("No se puede entregar correo a {first}")
        } else {
            format!("No se puede entregar correo a {count} destinatarios")
        },
        what: if parts.is_one() {
            format!("Un correo a {first} se rechazó y no se enviará de nuevo.")
        } else {
            format!(
                "Se rechazaron correos a {count} destinatarios, entre ellos {first}, y no se enviarán de nuevo."
            )
        },
        meaning: "Estos destinatarios no reciben los avisos de Flowmeter.",
        next: "Corrija las direcciones (alert_recipients de un cliente u operator_recipients) y, mientras tanto, avíseles por otra vía.".into(),
    }
}

fn looping(parts: &Parts<'_>, detected: &v1::LoopDetected) -> Sentences {
    let (tenant, workflow, count) = (&detected.tenant_id, &detected.workflow_id, parts.facts_count());
    let (asked, usual) =
        (parts.number(detected.runs_per_minute), parts.number(detected.usual_runs_per_minute));
    let mut what = format!(
        "El flujo {workflow} de {tenant} quiso iniciarse {asked} veces en un minuto; lo habitual son {usual}."
    );
    if detected.usual_most > 0 {
        what += &format!(" Más de {} se toman por un bucle.", parts.number(detected.usual_most));
        if detected.refusing {
            let since = parts.moment_of(detected.detected_at.as_ref());
            let started = parts.number(detected.started);
            what += &format!(
                " En ese minuto se habían iniciado {started}. Sus ejecuciones se rechazan desde entonces: {since}."
            );
        }
    }
    Sentences {
        subject: if parts.is_one() {
            format!("Un flujo de {tenant} parece iniciarse a sí mismo")
        } else {
            format!("Hay flujos de {tenant} que parecen iniciarse a sí mismos ({count} veces)")
        },
        what,
        meaning: if detected.refusing {
            "Sus ejecuciones se rechazan hasta que pare durante un minuto o las pida menos a menudo. Un ritmo que dura cerca de \
             un cuarto de hora pasa a ser el habitual y ya no se rechaza. Lo que ya se inició cuenta."
        } else if detected.shadow {
            "El plan solo observa: sus ejecuciones se inician y cuentan. Si no, ahora se rechazarían."
        } else {
            "No se rechaza nada por ello: sus ejecuciones se inician y cuentan como las demás."
        },
        next: if detected.refusing {
            "Revise qué inicia el flujo.".into()
        } else {
            "Revise qué inicia el flujo. Un plan puede rechazar esas ejecuciones (admission.loop_rule: refuse).".into()
        },
    }
}

/// What ends a failure, by its reason: the collector's own sentence is English.
fn what_to_do(failing: &v1::SourceFailing) -> String {
    use v1::FailureReason::{
        Internal, RateLimited, SecretUnreadable, TooLarge, Unauthorized, Unreachable, Unreadable, Unspecified,
    };
    let advice = match failing.reason() {
        Unreachable => "Compruebe que n8n funciona y que Flowmeter puede llegar a su dirección.",
        Unauthorized => "Cree una clave de API en n8n (Settings, n8n API) y póngala en el origen.",
        RateLimited => "Suba el límite de la clave en n8n, o haga que el origen se lea con menos frecuencia.",
        Unreadable => "Compruebe que la dirección del origen es la de un n8n, y qué hay delante de él.",
        TooLarge => "Haga que n8n borre sus ejecuciones antiguas, o bórrelas a mano.",
        SecretUnreadable => "Ponga otra vez la clave de API del origen.",
        Internal => "El origen no tiene la culpa: revise el bróker y la base de datos de Flowmeter.",
        Unspecified => "Revise el origen.",
    };
    match failing.detail.as_str() {
        "" => advice.to_owned(),
        detail => format!("{advice} Detalle, en inglés: «{detail}»"),
    }
}
