//! Reads bodies as their schema says. Serde's own derive differs in two ways: it also takes an array with a
//! struct's fields in order, which no caller means, and which an added field would make mean something else; and
//! it refuses `5.0` for an integer, as some programs write it.

use std::fmt;

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, Unexpected,
    Visitor,
};

/// The value of this JSON.
pub fn read<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let value = T::deserialize(Strict::around(&mut deserializer))?;
    deserializer.end()?;
    Ok(value)
}

/// The largest whole number up to which a floating-point number has no gaps: 2^53.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// What is being read, where it makes a difference.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Struct,
    Integer,
    Other,
}

/// Passes everything through to `inner`, except an array for a struct and a whole number with a point.
struct Strict<T> {
    inner: T,
    wanted: Wanted,
}

impl<T> Strict<T> {
    fn around(inner: T) -> Self {
        Self { inner, wanted: Wanted::Other }
    }
}

macro_rules! forward {
    ($wanted:ident: $($method:ident)*) => {
        $(
            fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
                self.inner.$method(Strict { inner: visitor, wanted: Wanted::$wanted })
            }
        )*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    forward! {
        Integer: deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
    }

    forward! {
        Other: deserialize_any deserialize_bool deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string
        deserialize_bytes deserialize_byte_buf deserialize_option deserialize_unit deserialize_seq
        deserialize_map deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_struct(name, fields, Strict { inner: visitor, wanted: Wanted::Struct })
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, Strict::around(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_newtype_struct(name, Strict::around(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple(len, Strict::around(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_tuple_struct(name, len, Strict::around(visitor))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_enum(name, variants, Strict::around(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

macro_rules! visit {
    ($($method:ident: $of:ty,)*) => {
        $(
            fn $method<E: Error>(self, value: $of) -> Result<V::Value, E> {
                self.inner.$method(value)
            }
        )*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    type Value = V::Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(formatter)
    }

    visit! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128, visit_f32: f32,
        visit_char: char, visit_str: &str, visit_borrowed_str: &'de str,
        visit_string: String, visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>,
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<V::Value, E> {
        if self.wanted == Wanted::Integer && value.fract() == 0.0 && value.abs() <= EXACT_MAX {
            #[allow(clippy::cast_possible_truncation, reason = "it is whole, and far from the bounds")]
            let whole = value as i64;
            return match u64::try_from(whole) {
                Ok(whole) => self.inner.visit_u64(whole),
                Err(_) => self.inner.visit_i64(whole),
            };
        }
        self.inner.visit_f64(value)
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_some(Strict::around(deserializer))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, deserializer: D) -> Result<V::Value, D::Error> {
        self.inner.visit_newtype_struct(Strict::around(deserializer))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<V::Value, A::Error> {
        if self.wanted == Wanted::Struct {
            return Err(A::Error::invalid_type(Unexpected::Seq, &"an object"));
        }
        self.inner.visit_seq(Strict::around(seq))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<V::Value, A::Error> {
        self.inner.visit_map(Strict::around(map))
    }

    // A variant of our bodies holds no value, so there is nothing to look into.
    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<V::Value, A::Error> {
        self.inner.visit_enum(data)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.inner.next_element_seed(Strict::around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.inner.next_value_seed(Strict::around(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.inner.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<S::Value, D::Error> {
        self.inner.deserialize(Strict::around(deserializer))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Inner {
        number: u64,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        Plain,
    }

    #[derive(Debug, PartialEq, Eq, Deserialize)]
    struct Outer {
        name: String,
        kind: Kind,
        inner: Option<Inner>,
        list: Vec<Inner>,
    }

    #[test]
    fn a_struct_is_an_object_and_a_whole_number_may_have_a_point() {
        let good = r#"{"name": "a", "kind": "plain", "inner": {"number": 1}, "list": [{"number": 2}]}"#;
        let expected = Outer {
            name: "a".to_owned(),
            kind: Kind::Plain,
            inner: Some(Inner { number: 1 }),
            list: vec![Inner { number: 2 }],
        };
        assert_eq!(read::<Outer>(good.as_bytes()).unwrap(), expected);
        for bad in [
            r#"["a", "plain", null, []]"#,
            r#"{"name": "a", "kind": "plain", "inner": [1], "list": []}"#,
            r#"{"name": "a", "kind": "plain", "inner": null, "list": [[2]]}"#,
        ] {
            assert!(serde_json::from_str::<Outer>(bad).is_ok(), "serde itself takes {bad}");
            let error = read::<Outer>(bad.as_bytes()).unwrap_err();
            assert!(error.is_data() && error.to_string().contains("expected an object"), "{bad}: {error}");
        }
        assert_eq!(read::<Inner>(br#"{"number": 5.0}"#).unwrap(), Inner { number: 5 });
        for bad in ["5.5", "-5.0", "1e300", "\"5\""] {
            let json = format!(r#"{{"number": {bad}}}"#);
            assert!(read::<Inner>(json.as_bytes()).is_err(), "{bad}");
        }
        assert!(read::<Outer>(format!("{good} x").as_bytes()).is_err(), "nothing may follow");
    }
}
