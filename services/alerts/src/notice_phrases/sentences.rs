//! The sentences of each kind of mail: which phrases, and their values.

use locales::{Args, args};
use proto::v1;

use super::{Parts, skew_span};
use crate::{Fact, RefusedMail};

/// The sentences of one mail.
pub(super) struct Sentences {
    pub(super) subject: String,
    pub(super) what: String,
    pub(super) meaning: String,
    pub(super) next: String,
}

/// A mail's phrase with its values: its parts are the sentences.
struct Phrase<'a> {
    parts: &'a Parts<'a>,
    phrase: &'static str,
    args: Args<'a>,
}

impl Phrase<'_> {
    fn say(&self, part: &str) -> String {
        self.parts.say(&format!("{}.{part}", self.phrase), &self.args)
    }

    /// The sentences of a kind that always says the same.
    fn sentences(&self) -> Sentences {
        self.with_next(self.say("next"))
    }

    fn with_next(&self, next: String) -> Sentences {
        Sentences { subject: self.say("subject"), what: self.say("what"), meaning: self.say("meaning"), next }
    }
}

impl Parts<'_> {
    pub(super) fn sentences(&self) -> Sentences {
        let of = |phrase, args| Phrase { parts: self, phrase, args };
        match &self.notice.fact {
            Fact::Gap(gap) => self.gap(gap),
            Fact::Failing(failing) => self.failing(failing),
            Fact::Recovered(failing) => of(
                "recovered",
                args![
                    "source" => &failing.source_id,
                    "since" => self.moment_of(failing.failing_since.as_ref()),
                    "on_since" => self.on_moment_of(failing.failing_since.as_ref()),
                    "on_at" => self.on_moment(self.notice.first_at),
                ],
            )
            .sentences(),
            Fact::Loss(synced) => of(
                "loss",
                args![
                    "source" => &synced.source_id,
                    "at" => self.moment_of(synced.loss_expected_at.as_ref()),
                    "on_at" => self.on_moment_of(synced.loss_expected_at.as_ref()),
                ],
            )
            .sentences(),
            Fact::Contradicted(found) => {
                of("contradicted", args!["source" => &found.source_id, "count" => found.executions])
                    .sentences()
            }
            Fact::Clock(synced) => {
                let is_behind = synced.clock_skew_ms.is_some_and(|skew_ms| skew_ms < 0);
                let phrase = if is_behind { "clock_behind" } else { "clock_ahead" };
                of(phrase, args!["source" => &synced.source_id, "by" => skew_span(synced)]).sentences()
            }
            Fact::SharedToken(synced) => {
                of("shared_token", args!["source" => &synced.source_id, "count" => synced.instances.len()])
                    .sentences()
            }
            Fact::CountedTwice(synced) => {
                let others = synced.same_instance_sources.join(", ");
                of("counted_twice", args!["source" => &synced.source_id, "others" => others]).sentences()
            }
            Fact::Dead(dead_letter) => {
                let count = self.notice.facts;
                let args = args!["service" => &dead_letter.service, "count" => count, "reason" => &dead_letter.reason];
                of("dead", args).sentences()
            }
            Fact::Report(failed) => self.report(failed),
            Fact::Drift(drift) => of(
                "drift",
                args![
                    "tenant" => &drift.tenant_id,
                    "billable" => drift.billable,
                    "stripe" => drift.stripe_total,
                ],
            )
            .sentences(),
            Fact::Loop(detected) => self.looping(detected),
            Fact::Refused(refused) => self.refused_mail(refused),
        }
    }

    fn gap(&self, gap: &v1::SourceGap) -> Sentences {
        let args = args!["source" => &gap.source_id, "count" => self.notice.facts, "ids" => self.ids(gap)];
        let phrase = Phrase { parts: self, phrase: "gap", args };
        let next = match gap.reason() {
            v1::GapReason::PrunedBeforeSeen => "next_pruned",
            v1::GapReason::OpenExecutionVanished => "next_vanished",
            v1::GapReason::EpochEnded => "next_epoch_ended",
            v1::GapReason::Unspecified => "next_unspecified",
        };
        phrase.with_next(phrase.say(next))
    }

    fn failing(&self, failing: &v1::SourceFailing) -> Sentences {
        let args = args![
            "source" => &failing.source_id,
            "since" => self.moment_of(failing.failing_since.as_ref()),
            "on_since" => self.on_moment_of(failing.failing_since.as_ref()),
            "cause" => failure_cause(failing.reason()),
            "reason" => self.failure_reason(failing.reason()),
        ];
        let phrase = Phrase { parts: self, phrase: "failing", args };
        let advice = phrase.say("next");
        if failing.detail.is_empty() {
            return phrase.with_next(advice);
        }
        let args = args!["advice" => advice, "detail" => &failing.detail];
        phrase.with_next(self.say("failing.next_with_detail", &args))
    }

    fn report(&self, failed: &v1::ReportFailed) -> Sentences {
        let args = args![
            "tenant" => &failed.tenant_id,
            "count" => self.notice.facts,
            "quantity" => failed.quantity.to_string(),
        ];
        let phrase = Phrase { parts: self, phrase: "report", args };
        let sentences = phrase.with_next(failed.reason.clone());
        let is_correction = self.notice.facts == 1 && failed.quantity < 0;
        if is_correction { Sentences { what: phrase.say("what_correction"), ..sentences } } else { sentences }
    }

    fn refused_mail(&self, refused: &RefusedMail) -> Sentences {
        let first = refused.refusals.first().map_or("?", |refusal| refusal.recipient.as_str());
        let args = args!["first" => first, "count" => self.notice.facts];
        Phrase { parts: self, phrase: "refused_mail", args }.sentences()
    }

    fn looping(&self, detected: &v1::LoopDetected) -> Sentences {
        let args = args![
            "tenant" => &detected.tenant_id,
            "workflow" => &detected.workflow_id,
            "count" => self.notice.facts,
            "asked" => detected.runs_per_minute,
            "usual" => detected.usual_runs_per_minute,
            "most" => detected.usual_most,
            "started" => detected.started,
            "since" => self.moment_of(detected.detected_at.as_ref()),
            "on_since" => self.on_moment_of(detected.detected_at.as_ref()),
        ];
        let phrase = Phrase { parts: self, phrase: "loop", args };
        let mut what = vec![phrase.say("what")];
        // Missing in messages of an earlier version.
        if detected.usual_most > 0 {
            what.push(phrase.say("what_most"));
            if detected.refusing {
                what.push(phrase.say("what_refusing"));
            }
        }
        let meaning = match (detected.refusing, detected.shadow) {
            (true, _) => "meaning_refusing",
            (false, true) => "meaning_shadow",
            (false, false) => "meaning_counted",
        };
        Sentences {
            subject: phrase.say("subject"),
            what: what.join(" "),
            meaning: phrase.say(meaning),
            next: phrase.say(if detected.refusing { "next_refusing" } else { "next" }),
        }
    }
}

/// The name of a failure's reason in the phrases.
pub(super) fn failure_cause(reason: v1::FailureReason) -> &'static str {
    use v1::FailureReason::{
        Internal, RateLimited, SecretUnreadable, TooLarge, Unauthorized, Unreachable, Unreadable, Unspecified,
    };
    match reason {
        Unreachable => "unreachable",
        Unauthorized => "unauthorized",
        RateLimited => "rate_limited",
        Unreadable => "unreadable",
        TooLarge => "too_large",
        SecretUnreadable => "secret_unreadable",
        Internal => "internal",
        Unspecified => "unspecified",
    }
}
