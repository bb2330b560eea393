//! JSON from outside, read so that one bad element does not cost the others.

use std::borrow::Cow;

use serde::de::DeserializeOwned;

/// What some proxies put before UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// The first unit of a pair of surrogates, and the second.
const HIGH: std::ops::RangeInclusive<u16> = 0xd800..=0xdbff;
const LOW: std::ops::RangeInclusive<u16> = 0xdc00..=0xdfff;

/// The length of `\uXXXX`, and what replaces half of a pair.
const ESCAPE_BYTES: usize = 6;
const REPLACEMENT: &[u8; ESCAPE_BYTES] = b"\\ufffd";

/// Reads JSON, and repairs halves of surrogate pairs and bytes that are not UTF-8: JavaScript cuts text
/// between units and writes such halves, and a whole page or push would be lost for one letter of one name.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    serde_json::from_slice(bytes).or_else(|error| match repaired(bytes) {
        Some(repaired) => serde_json::from_str(&repaired),
        None => Err(error),
    })
}

/// The text with U+FFFD for each half of a pair and for what is not UTF-8; `None` if there is neither.
fn repaired(bytes: &[u8]) -> Option<String> {
    let mut text = match String::from_utf8_lossy(bytes) {
        Cow::Borrowed(_) => None,
        Cow::Owned(text) => Some(text.into_bytes()),
    };
    let places = halves(text.as_deref().unwrap_or(bytes));
    if text.is_none() && places.is_empty() {
        return None;
    }
    let text = text.get_or_insert_with(|| bytes.to_vec());
    for place in places {
        if let Some(escape) = text.get_mut(place..place + ESCAPE_BYTES) {
            escape.copy_from_slice(REPLACEMENT);
        }
    }
    String::from_utf8(std::mem::take(text)).ok()
}

/// The positions of escapes that are half of a pair. A backslash only occurs within strings, so strings need
/// not be distinguished from the rest.
fn halves(text: &[u8]) -> Vec<usize> {
    let mut halves = Vec::new();
    let mut place = 0;
    while let Some(step) = text.get(place..).and_then(|rest| rest.iter().position(|byte| *byte == b'\\')) {
        place += step;
        match unit(text, place) {
            Some(unit) if HIGH.contains(&unit) => {
                if self::unit(text, place + ESCAPE_BYTES).is_some_and(|next| LOW.contains(&next)) {
                    place += ESCAPE_BYTES;
                } else {
                    halves.push(place);
                }
                place += ESCAPE_BYTES;
            }
            Some(unit) => {
                if LOW.contains(&unit) {
                    halves.push(place);
                }
                place += ESCAPE_BYTES;
            }
            // Also `\\`: the second one begins no escape.
            None => place += 2,
        }
    }
    halves
}

/// The unit of the escape `\uXXXX` at this position.
fn unit(text: &[u8], place: usize) -> Option<u16> {
    let digits = text.get(place..place + ESCAPE_BYTES)?.strip_prefix(b"\\u")?;
    let digits =
        std::str::from_utf8(digits).ok().filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()))?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn half_of_a_pair_is_replaced_and_the_rest_stays() {
        for (text, value) in [
            (r#"["Order sync \ud83e"]"#, json!(["Order sync \u{fffd}"])),
            (r#"["\ud83e\ud83e\uddfe\uDDFE"]"#, json!(["\u{fffd}🧾\u{fffd}"])),
            (r#"["\\ud83e", "\"\ud83ex", "\u00e9\n"]"#, json!(["\\ud83e", "\"\u{fffd}x", "é\n"])),
            ("\u{feff}[1]", json!([1])),
        ] {
            assert_eq!(read::<Value>(text.as_bytes()).unwrap(), value, "{text}");
        }
        assert_eq!(read::<Value>(b"[\"caf\xe9\"]").unwrap(), json!(["caf\u{fffd}"]));
    }

    #[test]
    fn invalid_json_stays_invalid() {
        for bad in ["", "{", r#"["\ud83e"#, r#"["\ud8"]"#, "[\"\u{0}\"]"] {
            assert!(read::<Value>(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
