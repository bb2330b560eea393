//! Stripe's form encoding: flat pairs whose names spell the nesting, `payload[value]=7`.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::error::StripeError;

/// The parameters of one call, each under its full name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Form(BTreeMap<String, String>);

impl Form {
    /// Reads a body or a query. Nothing is refused here: each endpoint refuses the parameters it does not know.
    pub(crate) fn parse(encoded: &[u8]) -> Self {
        Self(url::form_urlencoded::parse(encoded).into_owned().collect())
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(crate) fn require(&self, name: &str) -> Result<&str, StripeError> {
        self.get(name)
            .filter(|value| !value.is_empty())
            .ok_or_else(|| StripeError::MissingParam(name.to_owned()))
    }

    /// A required text of bounded length.
    pub(crate) fn text(&self, name: &str, max: usize) -> Result<&str, StripeError> {
        let value = self.require(name)?;
        if value.chars().count() > max {
            return Err(StripeError::TooLong { param: name.to_owned(), max });
        }
        Ok(value)
    }

    pub(crate) fn integer(&self, name: &str) -> Result<Option<i64>, StripeError> {
        let parse = |given: &str| {
            given
                .parse()
                .map_err(|_| StripeError::NotAnInteger { param: name.to_owned(), given: given.to_owned() })
        };
        self.get(name).map(parse).transpose()
    }

    /// The members of a map parameter: of `payload`, all `payload[…]`.
    pub(crate) fn map(&self, name: &str) -> BTreeMap<String, String> {
        let member =
            |key: &String| key.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']').map(str::to_owned);
        self.0.iter().filter_map(|(key, value)| Some((member(key)?, value.clone()))).collect()
    }

    /// Refuses a call with parameters the endpoint does not have; every endpoint has `expand`.
    pub(crate) fn allow(&self, known: &[&str]) -> Result<(), StripeError> {
        let base = |name: &str| name.split('[').next().unwrap_or_default().to_owned();
        let unknown = self.0.keys().find(|name| {
            let base = base(name);
            base != "expand" && !known.contains(&base.as_str())
        });
        unknown.map_or(Ok(()), |name| Err(StripeError::UnknownParam(base(name))))
    }

    /// A hash that does not depend on the order of the parameters.
    pub(crate) fn fingerprint(&self, path: &str) -> String {
        let mut hash = Sha256::new();
        for part in self.0.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).chain([path]) {
            hash.update(part.len().to_le_bytes());
            hash.update(part);
        }
        hex::encode(hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_nested_names() {
        let form =
            Form::parse(b"event_name=executions&payload[value]=7&payload%5Bstripe_customer_id%5D=cus_north");
        let payload = form.map("payload");
        assert_eq!(payload.get("value").map(String::as_str), Some("7"));
        assert_eq!(payload.get("stripe_customer_id").map(String::as_str), Some("cus_north"));
    }

    #[test]
    fn the_fingerprint_ignores_the_order() {
        let one = Form::parse(b"a=1&b=2").fingerprint("/v1/x");
        assert_eq!(one, Form::parse(b"b=2&a=1").fingerprint("/v1/x"));
        assert_ne!(one, Form::parse(b"a=1&b=3").fingerprint("/v1/x"));
        assert_ne!(one, Form::parse(b"a=1&b=2").fingerprint("/v1/y"));
    }

    #[test]
    fn unknown_parameters_are_refused_by_their_base_name() {
        let form = Form::parse(b"event_name=x&expand[]=data&colour[dark]=1");
        assert_eq!(form.allow(&["event_name"]), Err(StripeError::UnknownParam("colour".into())));
    }
}
