//! Text from outside, made safe for a database, a mail header, a log and a terminal.

/// One line of at most `chars_max` characters: whatever breaks a line, ends a string or steers a terminal or the direction
/// of writing becomes a space.
pub(crate) fn plain(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).map(|c| if is_plain(c) { c } else { ' ' }).collect()
}

fn is_plain(c: char) -> bool {
    let breaks_lines = matches!(c, '\u{2028}' | '\u{2029}');
    let turns_text = matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !breaks_lines && !turns_text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_ends_a_line_or_a_string_is_left() {
        assert_eq!(plain("a\0b\r\nBcc: c\u{1b}[2J\u{202e}d\u{2028}", 100), "a b  Bcc: c [2J d ");
        assert_eq!(plain("株式会社 🧾 Ñandú", 4), "株式会社");
    }
}
