//! What a crossing means: what happens at the limit under the plan.

use std::borrow::Cow;

use catalog::{Language, locale};

use crate::{Alert, alert::AtLimit};

pub(super) fn english(alert: &Alert) -> Cow<'static, str> {
    let number = |value| locale::number(Language::English, value);
    match (alert.at_limit(), alert.limit_reached()) {
        (AtLimit::Refuses, false) => {
            "The limit is hard: once it is reached, new runs will be refused until the period ends.".into()
        }
        (AtLimit::Refuses, true) => {
            "The limit is hard, and it is reached: new runs are refused until the period ends or the limit is raised."
                .into()
        }
        (AtLimit::RefusesAfter(grace), false) => format!(
            "The limit is hard, with a grace of {}: once it is reached, runs still start for that long. Then new runs will be \
             refused until the period ends.",
            locale::length(Language::English, grace)
        )
        .into(),
        (AtLimit::RefusesAfter(grace), true) => format!(
            "The limit is hard, and it is reached. From the first run at the limit on, runs still start for {}. Then new runs \
             are refused until the period ends or the limit is raised.",
            locale::length(Language::English, grace)
        )
        .into(),
        (AtLimit::Watches, false) => {
            "The plan only watches: once the limit is reached, runs go on. What a hard limit would refuse is recorded."
                .into()
        }
        (AtLimit::Watches, true) => {
            "The limit is reached, and the plan only watches: runs go on. What a hard limit would refuse is recorded."
                .into()
        }
        (AtLimit::Overage, false) => {
            "The limit is soft: runs go on beyond it, and what is beyond it counts as overage.".into()
        }
        (AtLimit::Overage, true) => {
            "The limit is soft, and it is reached: runs go on, and what is beyond it counts as overage.".into()
        }
        (AtLimit::OverageOf(most), false) => format!(
            "The limit is soft: runs go on beyond it, and up to {} more count as overage. Then new runs will be refused until \
             the period ends.",
            number(most)
        )
        .into(),
        (AtLimit::OverageOf(most), true) if alert.used < alert.limit.saturating_add(most) => format!(
            "The limit is soft, and it is reached: runs go on, and up to {} more count as overage. Then new runs are refused \
             until the period ends or the limit is raised.",
            number(most)
        )
        .into(),
        (AtLimit::OverageOf(most), true) => format!(
            "The limit and all {} executions of overage are used: new runs are refused until the period ends or the limit is \
             raised.",
            number(most)
        )
        .into(),
    }
}

pub(super) fn spanish(alert: &Alert) -> Cow<'static, str> {
    let number = |value| locale::number(Language::Spanish, value);
    match (alert.at_limit(), alert.limit_reached()) {
        (AtLimit::Refuses, false) => {
            "El límite es estricto: cuando se alcance, se rechazarán las nuevas ejecuciones hasta que termine el período."
                .into()
        }
        (AtLimit::Refuses, true) => {
            "El límite es estricto y se ha alcanzado: las nuevas ejecuciones se rechazan hasta que termine el período o se \
             amplíe el límite."
                .into()
        }
        (AtLimit::RefusesAfter(grace), false) => format!(
            "El límite es estricto, con un margen de {}: cuando se alcance, las ejecuciones seguirán iniciándose durante ese \
             tiempo. Después se rechazarán hasta que termine el período.",
            locale::length(Language::Spanish, grace)
        )
        .into(),
        (AtLimit::RefusesAfter(grace), true) => format!(
            "El límite es estricto y se ha alcanzado. Desde la primera ejecución en el límite, las ejecuciones siguen \
             iniciándose durante {}. Después se rechazan hasta que termine el período o se amplíe el límite.",
            locale::length(Language::Spanish, grace)
        )
        .into(),
        (AtLimit::Watches, false) => {
            "El plan solo observa: cuando se alcance el límite, las ejecuciones continuarán. Se anota lo que un límite \
             estricto rechazaría."
                .into()
        }
        (AtLimit::Watches, true) => {
            "El límite se ha alcanzado y el plan solo observa: las ejecuciones continúan. Se anota lo que un límite estricto \
             rechazaría."
                .into()
        }
        (AtLimit::Overage, false) => {
            "El límite es flexible: al alcanzarlo las ejecuciones continúan, y las que lo superen cuentan como excedente."
                .into()
        }
        (AtLimit::Overage, true) => {
            "El límite es flexible y se ha alcanzado: las ejecuciones continúan, y las que lo superen cuentan como excedente."
                .into()
        }
        (AtLimit::OverageOf(most), false) => format!(
            "El límite es flexible: al alcanzarlo las ejecuciones continúan, y hasta {} más cuentan como excedente. Después \
             se rechazarán hasta que termine el período.",
            number(most)
        )
        .into(),
        (AtLimit::OverageOf(most), true) if alert.used < alert.limit.saturating_add(most) => format!(
            "El límite es flexible y se ha alcanzado: las ejecuciones continúan, y hasta {} más cuentan como excedente. \
             Después se rechazan hasta que termine el período o se amplíe el límite.",
            number(most)
        )
        .into(),
        (AtLimit::OverageOf(most), true) => format!(
            "Se han usado el límite y las {} ejecuciones de excedente: las nuevas ejecuciones se rechazan hasta que termine \
             el período o se amplíe el límite.",
            number(most)
        )
        .into(),
    }
}
