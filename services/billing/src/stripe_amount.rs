//! Amounts as Stripe's API writes them.
//!
//! Stripe counts in ISO 4217's minor unit, with exceptions (<https://docs.stripe.com/currencies>):
//!
//! - `mga` has no decimals, although ISO gives it two.
//! - `isk` and `ugx` are sent with two decimals, although ISO gives them none, and those two must be zeros.
//! - Of `bhd`, `jod`, `kwd`, `omr` and `tnd` the last of the three digits must be zero.
//! - A payout in `huf` or `twd` must be of whole units, although a charge may have two decimals.
//! - `clf`, `iqd`, `lyd`, `uyi` and `uyw` are not accepted.
//!
//! Usage is reported as quantities and the prices are at Stripe, so nothing here sends an amount today.
//! Anything that does (an invoice item, a price made from a plan) must use [`amount_for`].

use metering::{Currency, Money};

/// What the money is sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A price, an invoice item, a payment, a refund.
    Charge,
    /// Money that goes to a bank account.
    Payout,
}

/// Stripe would refuse the amount. It is never rounded here: the figure on an invoice would differ from ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotForStripe {
    /// Stripe has no such currency.
    #[error("Stripe accepts no amounts in {0}")]
    Currency(String),
    /// It accepts fewer decimals than the amount has.
    #[error("Stripe refuses {amount}: it must be a multiple of {step}")]
    Step {
        /// What was to be sent.
        amount: String,
        /// The smallest amount of this currency and purpose.
        step: String,
    },
    /// Larger than 64 bits.
    #[error("{0} is too large")]
    TooLarge(String),
}

/// The `amount` of a request.
pub fn amount_for(purpose: Purpose, money: Money) -> Result<i64, NotForStripe> {
    let code = money.currency.as_str();
    let ours = money.currency.exponent();
    let (theirs, step) = match (code, purpose) {
        ("clf" | "iqd" | "lyd" | "uyi" | "uyw", _) => {
            return Err(NotForStripe::Currency(code.to_uppercase()));
        }
        ("mga", _) => (0, 1),
        ("isk" | "ugx", _) => (2, 100),
        ("bhd" | "jod" | "kwd" | "omr" | "tnd", _) => (3, 10),
        ("huf" | "twd", Purpose::Payout) => (2, 100),
        _ => (ours, 1),
    };
    // In units of the finer of the two exponents, everything is whole.
    let finest = ours.max(theirs);
    let amount = i128::from(money.amount_minor) * 10_i128.pow(finest - ours);
    let unit = 10_i128.pow(finest - theirs);
    if amount % (unit * step) != 0 {
        return Err(NotForStripe::Step {
            amount: money.to_string(),
            step: smallest(money.currency, unit * step, finest - ours),
        });
    }
    i64::try_from(amount / unit).map_err(|_| NotForStripe::TooLarge(money.to_string()))
}

fn smallest(currency: Currency, finest_units: i128, shift: u32) -> String {
    let minor = finest_units / 10_i128.pow(shift);
    Money { amount_minor: i64::try_from(minor).unwrap_or(i64::MAX), currency }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn money(code: &str, amount_minor: i64) -> Money {
        Money { amount_minor, currency: Currency::parse(code).unwrap() }
    }

    #[test]
    fn most_amounts_are_sent_unchanged() {
        for (code, minor) in [("eur", 123_456), ("huf", 123_456), ("twd", 1), ("jpy", 123_456), ("eur", -5)] {
            assert_eq!(amount_for(Purpose::Charge, money(code, minor)), Ok(minor), "{code}");
        }
    }

    #[test]
    fn amounts_that_stripe_counts_differently_are_converted() {
        assert_eq!(amount_for(Purpose::Charge, money("isk", 5)), Ok(500));
        assert_eq!(amount_for(Purpose::Charge, money("ugx", 123_456)), Ok(12_345_600));
        assert_eq!(amount_for(Purpose::Charge, money("mga", 500)), Ok(5));
        assert_eq!(amount_for(Purpose::Charge, money("kwd", 5_120)), Ok(5_120));
        assert_eq!(amount_for(Purpose::Payout, money("huf", 1_000)), Ok(1_000));
    }

    #[test]
    fn an_amount_that_stripe_would_refuse_is_refused_and_never_rounded() {
        for (purpose, code, minor, error) in [
            (Purpose::Charge, "kwd", 5_124, "Stripe refuses KWD 5.124: it must be a multiple of KWD 0.010"),
            (Purpose::Charge, "mga", 123, "Stripe refuses MGA 1.23: it must be a multiple of MGA 1.00"),
            (Purpose::Payout, "huf", 1_045, "Stripe refuses HUF 10.45: it must be a multiple of HUF 1.00"),
            (Purpose::Payout, "twd", 150, "Stripe refuses TWD 1.50: it must be a multiple of TWD 1.00"),
            (Purpose::Charge, "clf", 10_000, "Stripe accepts no amounts in CLF"),
            (Purpose::Charge, "ugx", i64::MAX, "UGX 9,223,372,036,854,775,807 is too large"),
        ] {
            assert_eq!(amount_for(purpose, money(code, minor)).unwrap_err().to_string(), error);
        }
    }
}
