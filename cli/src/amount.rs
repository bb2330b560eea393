//! Amounts of money in answers.

use std::fmt;

use metering::{Currency, amount_text};

/// An amount as people write it: `HUF 1,234.56`.
pub struct Amount<'a> {
    /// In the currency's minor unit.
    pub minor: i64,
    /// ISO 4217, lower case.
    pub currency: &'a str,
    /// As the gateway sends it; for an older gateway that does not, our own table decides.
    pub exponent: Option<u32>,
}

impl fmt::Display for Amount<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = || Currency::parse(self.currency).ok().map(|currency| currency.exponent());
        match self.exponent.or_else(known) {
            Some(exponent) => f.write_str(&amount_text(self.currency, self.minor, exponent)),
            None => write!(f, "{} {}", self.minor, self.currency),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gateways_exponent_wins_and_ours_is_the_fallback() {
        let shown = |currency, exponent| Amount { minor: 123_456, currency, exponent }.to_string();
        assert_eq!(shown("huf", Some(2)), "HUF 1,234.56");
        assert_eq!(shown("clf", None), "CLF 12.3456");
        assert_eq!(shown("new", Some(3)), "NEW 123.456");
    }
}
