//! Output to a terminal or a pipe: names, reasons and payloads come from outside, and a terminal obeys
//! control characters in them.

use std::io::{self, Write};

use metering::is_unsafe;

/// Passes text on, with `\uXXXX` for each character that steers a terminal or changes the direction of the
/// text around it. JSON escapes them the same way, so a program that reads `--json` gets the original text.
/// Line breaks are ours.
pub struct SafeWriter<W> {
    inner: W,
    /// The beginning of a character whose end is still to be written.
    cut: Vec<u8>,
}

impl<W: Write> SafeWriter<W> {
    /// Writes to `inner`.
    pub fn new(inner: W) -> Self {
        Self { inner, cut: Vec::new() }
    }
}

/// The text, safe to be shown.
pub fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !is_unsafe(c) {
            safe.push(c);
        } else {
            // All of them are below U+FFFF.
            safe.extend(['\\', 'u']);
            safe.extend(format!("{:04x}", u32::from(c)).chars());
        }
    }
    safe
}

impl<W: Write> Write for SafeWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.cut.extend_from_slice(bytes);
        let whole = match std::str::from_utf8(&self.cut) {
            Ok(text) => text.len(),
            Err(error) if error.error_len().is_none() => error.valid_up_to(),
            Err(_) => self.cut.len(),
        };
        let rest = self.cut.split_off(whole);
        let text = std::mem::replace(&mut self.cut, rest);
        self.inner.write_all(safe(&String::from_utf8_lossy(&text)).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(parts: &[&[u8]]) -> String {
        let mut writer = SafeWriter::new(Vec::new());
        for part in parts {
            writer.write_all(part).unwrap();
        }
        String::from_utf8(writer.inner).unwrap()
    }

    #[test]
    fn a_name_cannot_steer_the_terminal() {
        let shown = written(&["clear\u{1b}[2J\u{9b}31m \u{202e}exe\r\nok 🧾\n".as_bytes()]);
        assert_eq!(shown, "clear\\u001b[2J\\u009b31m \\u202eexe\\u000d\nok 🧾\n");
    }

    #[test]
    fn json_stays_the_same_json() {
        let value = serde_json::json!({"name": "a\u{1b}\u{7f}\u{9b}\u{202e}z\n\"\\", "\u{2066}": 1});
        let shown = written(&[format!("{value:#}").as_bytes()]);
        assert!(!shown.chars().any(|c| c != '\n' && is_unsafe(c)), "{shown}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).unwrap(), value);
    }

    #[test]
    fn a_character_in_two_parts_is_one() {
        let receipt = "🧾".as_bytes();
        assert_eq!(written(&[&receipt[..2], &receipt[2..], b"\xffx"]), "🧾\u{fffd}x");
    }
}
