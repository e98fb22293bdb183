//! Exact numbers: decimals with a fixed number of places, and money in the smallest unit of its currency.
use std::{fmt, str::FromStr as _};

use iso_currency::{Currency, IntoEnumIterator as _};
pub use rust_decimal::Decimal;

use crate::Error;

/// Reads a decimal number without exponent that has at most `scale` places and whose scaled value fits a `bigint`.
///
/// The message of the error says what would be right.
pub fn decimal(text: &str, scale: u32) -> Result<Decimal, String> {
    let plain = text.strip_prefix('-').unwrap_or(text);
    let shape = plain.split('.').count() <= 2
        && plain.split('.').all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    let number = if shape { Decimal::from_str(text).ok() } else { None };
    let number = number
        .ok_or_else(|| format!("`{}` is not a decimal number like `1234.5`", crate::cut(text)))?
        .normalize();
    if number.scale() > scale {
        return Err(format!(
            "`{}` has {} decimal places; {scale} are allowed",
            crate::cut(text),
            number.scale()
        ));
    }
    let mut number = number;
    number.rescale(scale);
    if number.scale() != scale || i64::try_from(number.mantissa()).is_err() {
        return Err(format!("`{}` is too large", crate::cut(text)));
    }
    Ok(number)
}

/// An amount of money: minor units (fen, cents) and an ISO 4217 currency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Money {
    minor: i64,
    currency: Currency,
}

impl Money {
    /// Reads amount and currency that came in the field `field`.
    pub fn parse(field: &str, amount: &str, currency: &str) -> Result<Self, Error> {
        let code = currency;
        let currency = Currency::from_code(code).ok_or_else(|| {
            let problem = format!("`{}` is not an ISO 4217 code like `CNY`", crate::cut(code));
            Error::invalid(format!("{field}.currency"), problem)
        })?;
        let amount = decimal(amount, places(currency))
            .map_err(|problem| Error::invalid(format!("{field}.amount"), problem))?;
        let minor = i64::try_from(amount.mantissa())
            .map_err(|_| Error::invalid(format!("{field}.amount"), "is too large"))?;
        Ok(Self { minor, currency })
    }

    /// From what the database keeps; `None` if the code is not ISO 4217.
    pub fn from_minor(minor: i64, code: &str) -> Option<Self> {
        Some(Self { minor, currency: Currency::from_code(code)? })
    }

    /// Every ISO 4217 code with its decimal places.
    pub fn currencies() -> impl Iterator<Item = (&'static str, u8)> {
        Currency::iter().map(|currency| (currency.code(), u8::try_from(places(currency)).unwrap_or(2)))
    }

    /// The amount in minor units.
    pub const fn minor(self) -> i64 {
        self.minor
    }

    /// The ISO 4217 code.
    pub fn code(self) -> &'static str {
        self.currency.code()
    }

    /// The amount as a decimal number with the currency's places.
    pub fn amount(self) -> Decimal {
        Decimal::new(self.minor, places(self.currency))
    }
}

/// Decimal places of a currency: 2 of CNY, 0 of JPY; 2 where ISO 4217 names none.
fn places(currency: Currency) -> u32 {
    currency.exponent().map_or(2, u32::from)
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.amount(), self.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_has_the_places_of_its_currency() {
        assert_eq!(Money::parse("price", "12.5", "CNY").unwrap().to_string(), "12.50 CNY");
        assert_eq!(Money::parse("price", "12", "JPY").unwrap().minor(), 12);
        let wrong = Money::parse("price", "12.5", "JPY").unwrap_err();
        assert_eq!(wrong.to_string(), "price.amount: `12.5` has 1 decimal places; 0 are allowed");
        assert!(Money::parse("price", "1", "XXZ").is_err());
    }

    #[test]
    fn decimals_are_exact_and_bounded() {
        assert_eq!(decimal("29.85", 2).unwrap().to_string(), "29.85");
        assert_eq!(decimal("-0.5", 3).unwrap().to_string(), "-0.500");
        assert_eq!(decimal("7.10", 1).unwrap().to_string(), "7.1");
        for wrong in ["", "1e3", "1.", ".5", "+1", "1,5", "0x1", "NaN", "9223372036854775808", "１"] {
            assert!(decimal(wrong, 0).is_err(), "{wrong}");
        }
    }
}
