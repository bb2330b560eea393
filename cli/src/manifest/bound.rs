//! A bound: a number, or the word for no bound.

use std::fmt;

use serde::{Deserialize, Deserializer, de};

/// The word for no bound.
const UNLIMITED: &str = "unlimited";

/// A bound as it is written: a number or `unlimited`; a key that is left out also means `unlimited`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bound(pub Option<u64>);

impl<'de> Deserialize<'de> for Bound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl de::Visitor<'_> for Reader {
    type Value = Bound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a whole number, or `{UNLIMITED}`")
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Bound, E> {
        Ok(Bound(Some(number)))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Bound, E> {
        let negative = || E::invalid_value(de::Unexpected::Signed(number), &self);
        u64::try_from(number).map(|number| Bound(Some(number))).map_err(|_| negative())
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bound, E> {
        if text == UNLIMITED {
            Ok(Bound(None))
        } else {
            Err(E::invalid_value(de::Unexpected::Str(text), &self))
        }
    }
}
