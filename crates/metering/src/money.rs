//! Money in minor units, and what usage costs.

use std::fmt;

/// A currency by its ISO 4217 code, lower case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

/// The text is not a currency code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a currency: use the three letters of ISO 4217 in lower case, as in `eur`")]
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

    /// Fails if ISO 4217 has no such currency. Checked when a price is put; a stored price stays readable.
    pub fn check(&self) -> Result<(), InvalidCurrency> {
        let known = iso_currency::Currency::from_code(&self.as_str().to_ascii_uppercase());
        match known {
            // Codes that are not money: tests, metals, funds, "no currency".
            Some(known) if !known.is_special() => Ok(()),
            _ => Err(InvalidCurrency(self.as_str().to_owned())),
        }
    }

    /// Every currency that [`Self::check`] accepts, by code.
    pub fn all() -> Vec<Self> {
        let letters = || b'a'..=b'z';
        let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        codes.map(Self).filter(|currency| currency.check().is_ok()).collect()
    }

    /// The currency's exponent by ISO 4217: a minor unit is 10 to the power of minus this of the currency. How many
    /// digits people usually write is another matter: nobody pays the fillér, yet 123456 of them are HUF 1,234.56.
    pub fn exponent(&self) -> u32 {
        EXPONENTS
            .iter()
            .find(|(_, codes)| codes.contains(&self.as_str()))
            .map_or(2, |(exponent, _)| *exponent)
    }
}

/// ISO 4217's exponents other than 2. Amounts are sent with theirs, so that no reader needs its own list:
/// those of browsers and libraries list the usual digits, and disagree.
const EXPONENTS: [(u32, &[&str]); 3] = [
    (
        0,
        &[
            "bif", "clp", "djf", "gnf", "isk", "jpy", "kmf", "krw", "pyg", "rwf", "ugx", "uyi", "vnd", "vuv",
            "xaf", "xof", "xpf",
        ],
    ),
    (3, &["bhd", "iqd", "jod", "kwd", "lyd", "omr", "tnd"]),
    (4, &["clf", "uyw"]),
];

/// An amount of money in its currency's minor unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Money {
    /// In cents, or whatever the currency's minor unit is.
    pub amount_minor: i64,
    /// The currency.
    pub currency: Currency,
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&amount_text(self.currency.as_str(), self.amount_minor, self.currency.exponent()))
    }
}

/// An amount for people, as the dashboard writes it in English: `HUF 1,234.56`.
pub fn amount_text(currency: &str, amount_minor: i64, exponent: u32) -> String {
    let code = currency.to_ascii_uppercase();
    let sign = if amount_minor < 0 { "-" } else { "" };
    // No currency has more than four; what comes from elsewhere must not overflow.
    let scale = 10_u64.checked_pow(exponent).unwrap_or(u64::MAX);
    let (whole, rest) = (amount_minor.unsigned_abs() / scale, amount_minor.unsigned_abs() % scale);
    match usize::try_from(exponent) {
        Ok(width @ 1..) => format!("{code} {sign}{}.{rest:0width$}", grouped(whole)),
        _ => format!("{code} {sign}{}", grouped(whole)),
    }
}

/// The number with a comma every three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
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
        assert_eq!(price().cost(0).to_string(), "EUR 20.00");
        assert_eq!(price().cost(2_500).to_string(), "EUR 20.00");
    }

    #[test]
    fn overage_is_pro_rata_and_rounds_half_up() {
        assert_eq!(price().cost(3_500).to_string(), "EUR 21.50");
        // 10 executions are 1.5 cents.
        assert_eq!(price().cost(2_510).amount_minor, 2_002);
        assert_eq!(price().cost(u64::MAX).amount_minor, 2_767_011_611_056_434_367);
    }

    #[test]
    fn only_a_currency_of_iso_4217_can_be_charged() {
        let checked = |code: &str| Currency::parse(code).unwrap().check();
        for good in ["eur", "usd", "huf", "clf", "uyu", "kwd", "jpy", "chf"] {
            assert_eq!(checked(good), Ok(()), "{good}");
        }
        for bad in ["xyz", "xxx", "xts", "xau", "eru"] {
            assert!(checked(bad).unwrap_err().to_string().contains(bad), "{bad}");
        }
    }

    #[test]
    fn an_amount_shows_its_currencys_minor_unit() {
        let shown = |code: &str, amount_minor| {
            Money { amount_minor, currency: Currency::parse(code).unwrap() }.to_string()
        };
        for (code, amount) in [
            ("huf", "HUF 1,234.56"),
            ("cop", "COP 1,234.56"),
            ("idr", "IDR 1,234.56"),
            ("mga", "MGA 1,234.56"),
            ("zzz", "ZZZ 1,234.56"),
            ("jpy", "JPY 123,456"),
            ("isk", "ISK 123,456"),
            ("ugx", "UGX 123,456"),
            ("kwd", "KWD 123.456"),
            ("iqd", "IQD 123.456"),
            ("clf", "CLF 12.3456"),
            ("uyw", "UYW 12.3456"),
        ] {
            assert_eq!(shown(code, 123_456), amount);
        }
        assert_eq!(shown("eur", -5), "EUR -0.05");
        assert_eq!(shown("eur", 123_456_789), "EUR 1,234,567.89");
        assert_eq!(shown("jpy", i64::MIN), "JPY -9,223,372,036,854,775,808");
        assert!(Currency::parse("EUR").is_err());
    }
}
