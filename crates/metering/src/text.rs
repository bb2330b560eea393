//! Text from outside: names, tags, reasons, answers of other programs. It goes into a database that knows no
//! NUL, into mail headers, onto terminals and pages, so it is made safe once, where it enters; whoever holds
//! a [`SafeText`] need not check again.

use std::{fmt, ops::Deref, sync::Arc};

/// Longest name of a workflow, tag or project that is kept, in characters. n8n's own are shorter.
pub const NAME_CHARS_MAX: usize = 200;

/// Stands for a character that must not be passed on.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;

/// Text of bounded length without characters that end a line, steer a terminal or change the direction of the
/// text around them. Cloning copies no text.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SafeText(Arc<str>);

/// Whether a character may end a line, steer a terminal, end a C string or change the order in which its neighbours
/// are shown. The marks for single letters of right-to-left scripts (U+200E, U+200F) only concern themselves.
pub fn is_unsafe(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

impl SafeText {
    /// The text's first `chars_max` characters. A line break or tab becomes a space, any other unsafe
    /// character U+FFFD.
    pub fn clean(text: &str, chars_max: usize) -> Self {
        // Nearly all text is safe: it is copied once.
        if text.len() <= chars_max && !text.chars().any(is_unsafe) {
            return Self(text.into());
        }
        let clean: String = text.chars().take(chars_max).map(cleaned).collect();
        Self(clean.into())
    }

    /// The text, if it is safe as it is and neither empty nor longer than `chars_max`: for text that is
    /// compared with other text, which a changed one could equal by chance.
    pub fn exact(text: &str, chars_max: usize) -> Option<Self> {
        let fits = !text.is_empty() && text.chars().count() <= chars_max && !text.chars().any(is_unsafe);
        fits.then(|| Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `None` if it is empty.
    pub fn non_empty(self) -> Option<Self> {
        (!self.0.is_empty()).then_some(self)
    }
}

fn cleaned(c: char) -> char {
    match c {
        '\t' | '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}' => ' ',
        c if is_unsafe(c) => REPLACEMENT,
        c => c,
    }
}

impl Deref for SafeText {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SafeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for SafeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<SafeText> for String {
    fn from(text: SafeText) -> Self {
        text.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn characters_that_steer_a_terminal_or_end_a_line_are_replaced() {
        for (text, safe) in [
            ("Order\0sync", "Order\u{fffd}sync"),
            ("North\r\nBcc: all@north.example", "North  Bcc: all@north.example"),
            ("\u{1b}[2Jgone\u{9b}31m", "\u{fffd}[2Jgone\u{fffd}31m"),
            ("invoice\u{202e}fdp.exe", "invoice\u{fffd}fdp.exe"),
            ("\u{2066}isolated\u{2069}", "\u{fffd}isolated\u{fffd}"),
            ("Ünï-✓-🧾 שלום\u{200f}", "Ünï-✓-🧾 שלום\u{200f}"),
        ] {
            assert_eq!(SafeText::clean(text, NAME_CHARS_MAX).as_str(), safe);
        }
    }

    #[test]
    fn text_to_compare_is_kept_unchanged_or_not_at_all() {
        assert_eq!(SafeText::exact("south", 5).unwrap().as_str(), "south");
        for bad in ["", "souths", "so\0", "so\u{202e}"] {
            assert_eq!(SafeText::exact(bad, 5), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn clean_text_is_safe_bounded_and_stays_as_it_is(text in any::<String>(), chars_max in 0_usize..50) {
            let clean = SafeText::clean(&text, chars_max);
            prop_assert!(!clean.chars().any(is_unsafe));
            prop_assert!(clean.chars().count() <= chars_max);
            prop_assert_eq!(SafeText::clean(&clean, chars_max), clean);
        }
    }
}
