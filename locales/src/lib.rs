//! The phrases for people. Translators work in the Fluent files of `en/` and `es/`, one file for each area; the
//! services fill in the values.
//!
//! Files are embedded when this crate is built. Tests, not a service at run time, find a phrase that is missing, has
//! another argument in one language, or is not used any more.

use std::sync::LazyLock;

use catalog::{Language, locale};
use fluent_bundle::{FluentResource, FluentValue, concurrent::FluentBundle};

pub use fluent_bundle::FluentArgs as Args;

/// The values of a phrase, by their names: `args!["used" => used, "limit" => limit]`.
#[macro_export]
macro_rules! args {
    ($($name:literal => $value:expr),* $(,)?) => {{
        let mut args = $crate::Args::new();
        $(args.set($name, $value);)*
        args
    }};
}

macro_rules! area {
    ($file:literal) => {
        LazyLock::new(|| {
            Phrases::new(
                include_str!(concat!("../en/", $file, ".ftl")),
                include_str!(concat!("../es/", $file, ".ftl")),
            )
        })
    };
}

/// What the limit check answers.
pub static ADMISSION: LazyLock<Phrases> = area!("admission");

/// Mails to a tenant's recipients.
pub static ALERTS: LazyLock<Phrases> = area!("alerts");

/// Mails to the operator.
pub static NOTICES: LazyLock<Phrases> = area!("notices");

/// The phrases of one area, in every language.
pub struct Phrases {
    english: Bundle,
    spanish: Bundle,
}

type Bundle = FluentBundle<FluentResource>;

impl Phrases {
    fn new(english: &str, spanish: &str) -> Self {
        Self { english: bundle(Language::English, english), spanish: bundle(Language::Spanish, spanish) }
    }

    /// The phrase `id`, or the part `id.part` of it, with these values. Counts are numbers, so that a phrase can
    /// choose its plural; they are written in groups of three digits.
    ///
    /// An unknown phrase or a missing value fails a debug build. A release shows the name in its place: a person
    /// must still get the rest of the mail.
    pub fn say(&self, language: Language, id: &str, args: &Args<'_>) -> String {
        let bundle = match language {
            Language::English => &self.english,
            Language::Spanish => &self.spanish,
        };
        let message = bundle.get_message(id.split_once('.').map_or(id, |(id, _)| id));
        let pattern = message.and_then(|message| match id.split_once('.') {
            Some((_, part)) => message.get_attribute(part).map(|part| part.value()),
            None => message.value(),
        });
        let Some(pattern) = pattern else {
            debug_assert!(false, "there is no phrase {id} in {language:?}");
            return id.to_owned();
        };
        let mut errors = Vec::new();
        let text = bundle.format_pattern(pattern, Some(args), &mut errors).into_owned();
        debug_assert!(errors.is_empty(), "{id} in {language:?}: {errors:?}");
        text
    }

    /// A phrase without values.
    pub fn plain(&self, language: Language, id: &str) -> String {
        self.say(language, id, &Args::new())
    }
}

/// What a file contains; parts that cannot be read are left out. A test finds those.
fn bundle(language: Language, text: &str) -> Bundle {
    let resource = FluentResource::try_new(text.to_owned()).unwrap_or_else(|(resource, _)| resource);
    let locale = language.as_str().parse().unwrap_or_default();
    let mut bundle = FluentBundle::new_concurrent(vec![locale]);
    // Marks around values would be seen in logs, subjects and terminals. Both languages run from left to right.
    bundle.set_use_isolating(false);
    bundle.set_formatter(Some(match language {
        Language::English => |value, _| grouped(Language::English, value),
        Language::Spanish => |value, _| grouped(Language::Spanish, value),
    }));
    bundle.add_resource_overriding(resource);
    bundle
}

/// Counts are written as everywhere else; anything else as Fluent does.
fn grouped(language: Language, value: &FluentValue<'_>) -> Option<String> {
    match value {
        FluentValue::Number(number) => {
            number.as_string().parse().ok().map(|count| locale::number(language, count))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phrases() -> Phrases {
        let english = "gaps = { $count ->\n    [one] a gap at { $source }\n   *[other] { $count } gaps at { $source }\n}\n    \
                       .next = Look.\n";
        let spanish = "gaps = { $count ->\n    [one] un hueco en { $source }\n   *[other] { $count } huecos en { $source }\n}\n    \
                       .next = Mire.\n";
        Phrases::new(english, spanish)
    }

    #[test]
    fn a_count_chooses_the_plural_and_is_grouped() {
        let said = |language, count: u64| {
            phrases().say(language, "gaps", &args!["count" => count, "source" => "north"])
        };
        assert_eq!(said(Language::English, 1), "a gap at north");
        assert_eq!(said(Language::English, 1_234), "1,234 gaps at north");
        assert_eq!(said(Language::Spanish, 1_000_000), "1.000.000 huecos en north");
        assert_eq!(phrases().plain(Language::Spanish, "gaps.next"), "Mire.");
    }

    #[test]
    #[should_panic(expected = "there is no phrase gone")]
    fn an_unknown_phrase_fails_a_test() {
        phrases().plain(Language::English, "gone");
    }

    #[test]
    #[should_panic(expected = "gaps in English")]
    fn a_missing_value_fails_a_test() {
        phrases().say(Language::English, "gaps", &args!["count" => 2]);
    }
}
