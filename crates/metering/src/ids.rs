//! Typed ids. Each is parsed once, at the edge; whoever holds one knows that it is well formed. Cloning
//! copies no text.

use std::{fmt, sync::Arc};

use crate::is_unsafe;

/// The text is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a {kind}: use {rule}")]
pub struct InvalidId {
    kind: &'static str,
    rule: &'static str,
    text: String,
}

/// Chosen by the operator; becomes one token of a subject, so it may hold no dot, space or wildcard.
const CHOSEN_RULE: &str = "1 to 64 lower-case letters, digits, `-` or `_`, a letter or digit first";

/// Given by the source; kept as it came.
const GIVEN_RULE: &str = "1 to 128 printable characters without spaces";

fn is_chosen(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_')
}

fn is_given(text: &str) -> bool {
    (1..=128).contains(&text.chars().count()) && text.chars().all(|c| !c.is_whitespace() && !is_unsafe(c))
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $check:ident, $rule:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            #[doc = concat!("Reads a ", $kind, ".")]
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                if $check(text) {
                    Ok(Self(text.into()))
                } else {
                    let text = text.chars().take(80).collect();
                    Err(InvalidId { kind: $kind, rule: $rule, text })
                }
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::parse(text)
            }
        }
    };
}

id!(
    /// A tenant, by the id that the operator chose.
    TenantId, "tenant id", is_chosen, CHOSEN_RULE
);
id!(
    /// A plan.
    PlanId, "plan id", is_chosen, CHOSEN_RULE
);
id!(
    /// A source: one instance whose executions are collected.
    SourceId, "source id", is_chosen, CHOSEN_RULE
);
id!(
    /// A workflow, unique within its source.
    WorkflowId, "workflow id", is_given, GIVEN_RULE
);
impl WorkflowId {
    /// Stands for the workflows of pushed executions beyond the number kept before a poll has shown them.
    pub fn not_shown() -> Self {
        Self("not-shown-yet".into())
    }
}
id!(
    /// An execution, unique within its source and epoch.
    ExecutionId, "execution id", is_given, GIVEN_RULE
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chosen_id_is_one_subject_token() {
        for good in ["north", "0", "a-b_c", &"x".repeat(64)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "A", "a.b", "a b", "*", ">", "-a", "é", &"x".repeat(65)] {
            assert!(TenantId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_error_says_what_to_use_and_stays_short() {
        let error = SourceId::parse(&"A".repeat(10_000)).unwrap_err().to_string();
        assert!(error.contains("source id") && error.contains("lower-case"), "{error}");
        assert!(error.len() < 250, "{error}");
    }

    #[test]
    fn a_given_id_is_kept_as_it_came() {
        assert_eq!(WorkflowId::parse("M9X5HgovH50n2vBc").unwrap().as_str(), "M9X5HgovH50n2vBc");
        for bad in ["a\nb", "a\0b", "a\u{1b}[0m", "a\u{202e}b"] {
            assert!(WorkflowId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(WorkflowId::parse(&"é".repeat(128)).is_ok(), "characters, not bytes");
        assert!(WorkflowId::parse(&"é".repeat(129)).is_err());
    }
}
