//! The mail's subject and its two bodies.

use askama::Template;

use crate::{Alert, Notice, Topic, phrases::Phrases};

/// A mail without its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MailBody {
    /// The subject line.
    pub subject: String,
    /// For mail programs that show HTML.
    pub html: String,
    /// For all others; says the same.
    pub text: String,
}

#[derive(Template)]
#[template(path = "alert.html")]
struct Html<'a> {
    phrases: &'a Phrases,
    color: &'static str,
    /// How full the limit is, as a picture: 1 to 100, because a bar of no width would look like a mistake.
    bar_percent: u64,
    dashboard_url: &'a str,
}

#[derive(Template)]
#[template(path = "alert.txt")]
struct Text<'a> {
    phrases: &'a Phrases,
    dashboard_url: &'a str,
}

/// All are dark enough on white to be read by everybody (contrast above 4.5).
const AMBER: &str = "#b45309";
const RED: &str = "#b91c1c";
const GREEN: &str = "#15803d";

impl MailBody {
    /// The mail about an alert.
    pub fn of(alert: &Alert) -> Result<Self, askama::Error> {
        let color = if alert.limit_reached() { RED } else { AMBER };
        let percent = alert.used.saturating_mul(100).checked_div(alert.limit).unwrap_or(100);
        Self::written(Phrases::of(alert), color, percent.clamp(1, 100), &alert.dashboard_url)
    }

    /// The mail about a notice.
    pub fn notice(notice: &Notice) -> Result<Self, askama::Error> {
        let color = match notice.fact.topic() {
            Topic::Recovered => GREEN,
            Topic::Loss | Topic::Drift | Topic::Loop | Topic::Clock => AMBER,
            Topic::Gap
            | Topic::Failing
            | Topic::Dead
            | Topic::Report
            | Topic::Contradicted
            | Topic::SharedToken
            | Topic::CountedTwice
            | Topic::Refused => RED,
        };
        Self::written(Phrases::of_notice(notice), color, 0, &notice.sealed.dashboard_url)
    }

    fn written(
        phrases: Phrases,
        color: &'static str,
        bar_percent: u64,
        dashboard_url: &str,
    ) -> Result<Self, askama::Error> {
        let html = Html { phrases: &phrases, color, bar_percent, dashboard_url }.render()?;
        let text = Text { phrases: &phrases, dashboard_url }.render()?;
        Ok(Self { subject: phrases.subject, html, text })
    }
}

#[cfg(test)]
mod tests {
    use catalog::{Language, LimitKind};

    use super::*;
    use crate::alert::samples::{north, south};

    fn shown(alert: &Alert) -> String {
        let body = MailBody::of(alert).unwrap();
        format!("Subject: {}\n\n{}", body.subject, body.text)
    }

    #[test]
    fn english_at_80_percent_of_a_hard_limit() {
        insta::assert_snapshot!(shown(&north()));
        insta::assert_snapshot!("english_html", MailBody::of(&north()).unwrap().html);
    }

    #[test]
    fn spanish_at_a_soft_limit() {
        insta::assert_snapshot!(shown(&south()));
        insta::assert_snapshot!("spanish_html", MailBody::of(&south()).unwrap().html);
    }

    #[test]
    fn the_meaning_follows_the_limit() {
        let grace = Some(std::time::Duration::from_secs(86_400));
        let mut meanings = Vec::new();
        for language in [Language::English, Language::Spanish] {
            for limit_kind in [LimitKind::Hard, LimitKind::Soft] {
                for used in [80, 100] {
                    let alert = Alert { language, limit_kind, used, limit: 100, ..north() };
                    meanings.push(Phrases::of(&alert).meaning);
                }
            }
            for (limit_kind, shadow, grace, overage_max) in [
                (LimitKind::Hard, true, grace, None),
                (LimitKind::Hard, false, grace, None),
                (LimitKind::Soft, false, None, Some(1_000)),
                (LimitKind::Soft, true, None, Some(1_000)),
            ] {
                for used in [80, 100, 1_100] {
                    let terms = Alert { limit_kind, shadow, grace, overage_max, ..north() };
                    meanings.push(Phrases::of(&Alert { language, used, limit: 100, ..terms }).meaning);
                }
            }
        }
        insta::assert_snapshot!(meanings.join("\n"));
    }

    #[test]
    fn a_plan_that_refuses_nothing_never_says_that_runs_are_refused() {
        for language in [Language::English, Language::Spanish] {
            for limit_kind in [LimitKind::Hard, LimitKind::Soft] {
                for used in [80, 100, 300] {
                    let watching = Alert { shadow: true, overage_max: Some(50), ..north() };
                    let alert = Alert { language, limit_kind, used, limit: 100, ..watching };
                    let text = MailBody::of(&alert).unwrap().text;
                    assert!(!text.contains("refused") && !text.contains("se rechaza"), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_mail_names_the_thresholds_whose_mails_it_replaces() {
        let english = MailBody::of(&Alert { folded: vec![50, 60, 70], ..north() }).unwrap().text;
        assert!(english.contains("On the way it also passed 50 %, 60 % and 70 %."), "{english}");
        let spanish = MailBody::of(&Alert { folded: vec![80], ..south() }).unwrap().text;
        assert!(spanish.contains("Antes pasó también por el 80 %."), "{spanish}");
    }

    #[test]
    fn both_bodies_say_the_same() {
        for alert in [north(), south()] {
            let (body, phrases) = (MailBody::of(&alert).unwrap(), Phrases::of(&alert));
            let facts = phrases.facts.iter().flat_map(|fact| [fact.label.as_str(), fact.value.as_str()]);
            let all = [
                phrases.subject.as_str(),
                phrases.what.as_str(),
                &phrases.meaning,
                phrases.next.as_str(),
                phrases.figure.as_deref().unwrap_or_default(),
                phrases.look.as_str(),
                phrases.because.as_str(),
                alert.dashboard_url.as_str(),
            ];
            for phrase in facts.chain(all) {
                assert!(body.text.contains(phrase), "the text does not say {phrase:?}");
                assert!(body.html.contains(phrase), "the HTML does not say {phrase:?}");
            }
        }
    }

    #[test]
    fn what_comes_from_outside_is_escaped() {
        let alert = Alert {
            tenant_name: "<img src=x onerror=alert(1)> & \"sons\"".into(),
            dashboard_url: "https://usage.example.com/?a=\"><script>".into(),
            ..north()
        };
        let html = MailBody::of(&alert).unwrap().html;
        assert!(!html.contains("<img") && !html.contains("<script") && !html.contains("\"sons\""), "{html}");
        assert!(
            MailBody::of(&alert).unwrap().text.contains("& \"sons\""),
            "plain text has nothing to escape"
        );
    }

    #[test]
    fn nothing_is_loaded_from_elsewhere() {
        let html = MailBody::of(&south()).unwrap().html;
        for loader in ["src=", "url(", "<link", "<style", "<script", "@import"] {
            assert!(!html.contains(loader), "{loader}");
        }
    }

    #[test]
    fn a_limit_of_zero_is_full() {
        let body = MailBody::of(&Alert { used: 1, limit: 0, ..north() }).unwrap();
        assert!(body.html.contains("width=\"100%\""), "{}", body.html);
    }
}
