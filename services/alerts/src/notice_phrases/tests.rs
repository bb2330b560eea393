//! Every mail to the operator, in both languages, as it is read.

use catalog::Language;
use proto::v1;

use crate::{
    Fact, MailBody, Notice,
    fact::samples::{all, behind, failing, gap, looping_refused, looping_watched, report},
    notice::samples::{notice, notice_of_many},
    phrases::Phrases,
};

fn shown(notice: &Notice) -> String {
    let body = MailBody::notice(notice).unwrap();
    format!("Subject: {}\n\n{}", body.subject, body.text)
}

/// A mail of each kind, and of each sentence that only some have.
fn all_mails(language: Language) -> Vec<Notice> {
    let many: Vec<Notice> = all().into_iter().map(|fact| notice_of_many(fact, language)).collect();
    let loops = [looping_refused(), looping_watched()].map(Fact::Loop);
    let correction = v1::ReportFailed { quantity: -5, ..report() };
    let others = loops.into_iter().chain([Fact::Clock(behind()), Fact::Report(correction)]);
    let others = others.chain(all_gaps()).chain(all_failures());
    all().into_iter().chain(others).map(|fact| notice(fact, language)).chain(many).collect()
}

fn all_gaps() -> impl Iterator<Item = Fact> {
    use v1::GapReason::{EpochEnded, OpenExecutionVanished, Unspecified};
    let reasons = [EpochEnded, OpenExecutionVanished, Unspecified].into_iter();
    reasons.map(|reason| Fact::Gap(v1::SourceGap { reason: reason.into(), ..gap("7", "9") }))
}

fn all_failures() -> impl Iterator<Item = Fact> {
    use v1::FailureReason::{
        Internal, RateLimited, SecretUnreadable, TooLarge, Unauthorized, Unreachable, Unreadable, Unspecified,
    };
    let reasons = [
        Unreachable,
        Unauthorized,
        RateLimited,
        Unreadable,
        TooLarge,
        SecretUnreadable,
        Internal,
        Unspecified,
    ];
    let failing = |reason: v1::FailureReason| v1::SourceFailing {
        reason: reason.into(),
        detail: String::new(),
        ..failing()
    };
    reasons.into_iter().map(move |reason| Fact::Failing(failing(reason)))
}

#[test]
fn every_mail_reads_well() {
    for (name, language) in [("english_notices", Language::English), ("spanish_notices", Language::Spanish)] {
        let mails: Vec<String> = all_mails(language).iter().map(shown).collect();
        insta::assert_snapshot!(name, mails.join("\n\n=====\n\n"));
    }
}

#[test]
fn a_range_may_have_no_end() {
    for (first, last, english, spanish) in
        [("181", "", "181 and later", "181 y posteriores"), ("", "", "?", "?"), ("7", "7", "7", "7")]
    {
        for (language, text) in [(Language::English, english), (Language::Spanish, spanish)] {
            let phrases = Phrases::of_notice(&notice(Fact::Gap(gap(first, last)), language));
            assert!(phrases.facts.iter().any(|fact| fact.value == text), "{phrases:?}");
        }
    }
}

#[test]
fn both_bodies_say_the_same() {
    for notice in [all_mails(Language::English), all_mails(Language::Spanish)].concat() {
        let (body, phrases) = (MailBody::notice(&notice).unwrap(), Phrases::of_notice(&notice));
        let facts = phrases.facts.iter().flat_map(|fact| [fact.label.as_str(), fact.value.as_str()]);
        let sentences = [
            &phrases.subject,
            &phrases.what,
            &phrases.meaning,
            &phrases.next,
            &phrases.look,
            &phrases.because,
        ];
        for phrase in facts.chain(sentences.map(String::as_str)) {
            assert!(body.text.contains(phrase), "the text does not say {phrase:?}");
            let escaped = phrase.replace('\'', "&#39;");
            assert!(body.html.contains(&escaped), "the HTML does not say {phrase:?}");
        }
        assert!(!body.html.contains("width=\"0%\""), "there is no bar without a limit");
    }
}

#[test]
fn what_comes_from_outside_is_escaped() {
    let hostile = notice(Fact::Gap(gap("<img src=x>", "2")), Language::English);
    assert!(!MailBody::notice(&hostile).unwrap().html.contains("<img"));
}
