//! Money in minor units, and what usage costs.

use std::fmt;

/// A currency by its ISO 4217 code, lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

/// The text is not a currency code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a currency: use three lower-case letters, as in `eur`")]
pub struct InvalidCurrency(String);

impl Currency {
    /// Reads a currency code.
    pub fn parse(text: &str) -> Result<Self, InvalidCurrency> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_lowercase) => Ok(Self(code)),
            _ => Err(InvalidCurrency(text.chars().take(16).collect())),
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???")
    }

    /// Digits after the decimal point, by ISO 4217, for showing an amount.
    pub fn decimals(&self) -> u32 {
        match self.as_str() {
            "bif" | "clp" | "djf" | "gnf" | "isk" | "jpy" | "kmf" | "krw" | "pyg" | "rwf" | "ugx" | "vnd"
            | "vuv" | "xaf" | "xof" | "xpf" => 0,
            "bhd" | "iqd" | "jod" | "kwd" | "lyd" | "omr" | "tnd" => 3,
            _ => 2,
        }
    }
}

/// An amount of money in its currency's minor unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    /// In cents, or what the currency's smallest unit is.
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.currency.as_str().to_ascii_uppercase();
        let decimals = self.currency.decimals();
        let sign = if self.amount_minor < 0 { "-" } else { "" };
        let amount = self.amount_minor.unsigned_abs();
        let scale = 10_u64.pow(decimals);
        match decimals {
            0 => write!(f, "{sign}{amount} {code}"),
            _ => {
                let width = usize::try_from(decimals).unwrap_or(2);
                write!(f, "{sign}{}.{:0width$} {code}", amount / scale, amount % scale)
            }
        }
    }
}

/// What a plan charges for a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// The currency of all amounts.
    pub currency: Currency,
    /// Charged whatever the usage.
    pub base_fee_minor: i64,
    /// Executions that the base fee covers.
    pub included_executions: u64,
    /// For each 1,000 executions past the included ones, pro rata.
    pub overage_per_thousand_minor: i64,
}

impl Price {
    /// What a period with `counted` executions costs, rounded half up to the minor unit. An estimate: the
    /// invoice is Stripe's.
    pub fn cost(&self, counted: u64) -> Money {
        let overage = i128::from(counted.saturating_sub(self.included_executions));
        let thousandths = overage * i128::from(self.overage_per_thousand_minor);
        let rounded = (thousandths + 500).div_euclid(1_000);
        let total = rounded + i128::from(self.base_fee_minor);
        let amount_minor = i64::try_from(total).unwrap_or(if total < 0 { i64::MIN } else { i64::MAX });
        Money { amount_minor, currency: self.currency }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price() -> Price {
        Price {
            currency: Currency::parse("eur").unwrap(),
            base_fee_minor: 2_000,
            included_executions: 2_500,
            overage_per_thousand_minor: 150,
        }
    }

    #[test]
    fn the_base_fee_covers_the_included_executions() {
        assert_eq!(price().cost(0).to_string(), "20.00 EUR");
        assert_eq!(price().cost(2_500).to_string(), "20.00 EUR");
    }

    #[test]
    fn overage_is_pro_rata_and_rounds_half_up() {
        assert_eq!(price().cost(3_500).to_string(), "21.50 EUR");
        // 10 executions are 1.5 cents.
        assert_eq!(price().cost(2_510).amount_minor, 2_002);
        assert_eq!(price().cost(u64::MAX).amount_minor, 2_767_011_611_056_434_367);
    }

    #[test]
    fn amounts_show_the_decimals_of_their_currency() {
        let yen = Currency::parse("jpy").unwrap();
        assert_eq!(Money { amount_minor: 1_234, currency: yen }.to_string(), "1234 JPY");
        let euro = Currency::parse("eur").unwrap();
        assert_eq!(Money { amount_minor: -5, currency: euro }.to_string(), "-0.05 EUR");
        assert!(Currency::parse("EUR").is_err());
    }
}
