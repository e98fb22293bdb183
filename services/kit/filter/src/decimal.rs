//! Exact decimals: reading literals without a float in between, and comparing with numbers stored as scaled integers.

use rust_decimal::Decimal;

use crate::condition::Op;

/// Reads a number literal (`29.85`, `.5`, `1e6`) exactly, or says why a decimal cannot hold it.
pub(crate) fn exact(text: &str) -> Result<Decimal, String> {
    let too_long = || format!("{} has too many digits; at most 28 are exact", crate::error::quoted(text));
    let (digits, exponent) = match text.split_once('e') {
        Some((digits, exponent)) => (digits, exponent.parse::<i64>().map_err(|_| too_long())?),
        None => (text, 0),
    };
    let digits = Decimal::from_str_exact(digits).map_err(|_| too_long())?.normalize();
    // mantissa × 10^-scale × 10^exponent: shift the point, then make what is left of the exponent zeros.
    let scale = i64::from(digits.scale()).saturating_sub(exponent);
    if digits.is_zero() {
        return Ok(Decimal::ZERO);
    }
    let shifted = match u32::try_from(scale) {
        Ok(scale) => Decimal::try_from_i128_with_scale(digits.mantissa(), scale).ok(),
        Err(_) => u32::try_from(scale.unsigned_abs())
            .ok()
            .and_then(|zeros| 10i128.checked_pow(zeros))
            .and_then(|factor| digits.mantissa().checked_mul(factor))
            .and_then(|mantissa| Decimal::try_from_i128_with_scale(mantissa, 0).ok()),
    };
    shifted.ok_or_else(too_long)
}

/// What a comparison with an exact decimal means for a number stored as an integer, the value times 10^scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scaled {
    /// True for every value that is there.
    Always,
    /// True for none.
    Never,
    /// Compare the stored integer with this one.
    With(Op, i64),
}

/// Translates `value op literal` to the stored integer, exactly: at scale 2, `x < 1.005` is `stored <= 100`, and
/// `x == 1.005` is never true.
pub(crate) fn scaled(op: Op, literal: Decimal, scale: u8) -> Scaled {
    let (floor, whole) = scaled_floor(literal, scale);
    let ceiling = if whole { floor } else { floor.saturating_add(1) };
    let bound = match op {
        Op::Equal | Op::NotEqual if !whole => {
            return if op == Op::Equal { Scaled::Never } else { Scaled::Always };
        }
        Op::Equal | Op::NotEqual | Op::LessEqual | Op::Greater => floor,
        Op::Less | Op::GreaterEqual => ceiling,
    };
    match i64::try_from(bound) {
        Ok(bound) => Scaled::With(op, bound),
        // Beyond every stored integer, so only the direction counts.
        Err(_) => match op {
            Op::NotEqual => Scaled::Always,
            Op::Less | Op::LessEqual if bound > 0 => Scaled::Always,
            Op::Greater | Op::GreaterEqual if bound < 0 => Scaled::Always,
            _ => Scaled::Never,
        },
    }
}

/// The largest integer not above `literal` × 10^scale, and whether it is exactly that. Saturates far outside i64.
fn scaled_floor(literal: Decimal, scale: u8) -> (i128, bool) {
    let mantissa = literal.mantissa();
    let factor = |power: u32| 10i128.checked_pow(power).unwrap_or(i128::MAX);
    let (places, scale) = (literal.scale(), u32::from(scale));
    if scale >= places {
        (mantissa.saturating_mul(factor(scale - places)), true)
    } else {
        let divisor = factor(places - scale);
        (mantissa.div_euclid(divisor), mantissa.rem_euclid(divisor) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dec(text: &str) -> Decimal {
        exact(text).unwrap()
    }

    #[test]
    fn literals_are_read_exactly_or_not_at_all() {
        assert_eq!(dec("0.1000000000000000000000000001").to_string(), "0.1000000000000000000000000001");
        assert_eq!(dec("1e3"), Decimal::from(1000));
        assert_eq!(dec("1.5e-2").to_string(), "0.015");
        assert_eq!(dec("12.50e1"), Decimal::from(125));
        assert_eq!(dec("0e999999999"), Decimal::ZERO);
        assert_eq!(dec("007"), Decimal::from(7));
        assert_eq!(dec("79228162514264337593543950335"), Decimal::MAX);
        for beyond in [
            "79228162514264337593543950336",
            "1e29",
            "1e-29",
            "0.00000000000000000000000000001",
            "1e99999999999999999999",
            "1.00000000000000000000000000001",
        ] {
            assert!(exact(beyond).is_err(), "{beyond}");
        }
    }

    #[test]
    fn rounding_to_the_stored_scale_is_exact() {
        use Op::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        let x = dec("1.005");
        assert_eq!(scaled(Less, x, 2), Scaled::With(Less, 101));
        assert_eq!(scaled(LessEqual, x, 2), Scaled::With(LessEqual, 100));
        assert_eq!(scaled(Greater, x, 2), Scaled::With(Greater, 100));
        assert_eq!(scaled(GreaterEqual, x, 2), Scaled::With(GreaterEqual, 101));
        assert_eq!(scaled(Equal, x, 2), Scaled::Never);
        assert_eq!(scaled(NotEqual, x, 2), Scaled::Always);
        assert_eq!(scaled(Equal, x, 3), Scaled::With(Equal, 1005));
        assert_eq!(scaled(Equal, dec("1.50"), 1), Scaled::With(Equal, 15));
        assert_eq!(scaled(Less, -x, 2), Scaled::With(Less, -100));
        assert_eq!(scaled(Greater, -x, 2), Scaled::With(Greater, -101));
    }

    #[test]
    fn bounds_beyond_every_stored_number_decide_by_direction() {
        let huge = Decimal::MAX;
        for scale in [0, 6, 18, 255] {
            assert_eq!(scaled(Op::Less, huge, scale), Scaled::Always);
            assert_eq!(scaled(Op::GreaterEqual, huge, scale), Scaled::Never);
            assert_eq!(scaled(Op::Greater, -huge, scale), Scaled::Always);
            assert_eq!(scaled(Op::LessEqual, -huge, scale), Scaled::Never);
            assert_eq!(scaled(Op::Equal, huge, scale), Scaled::Never);
            assert_eq!(scaled(Op::NotEqual, huge, scale), Scaled::Always);
        }
        assert_eq!(scaled(Op::Less, dec("9223372036854775807"), 0), Scaled::With(Op::Less, i64::MAX));
        assert_eq!(scaled(Op::Less, dec("9223372036854775807.5"), 0), Scaled::Always);
        assert_eq!(
            scaled(Op::LessEqual, dec("9223372036854775807.5"), 0),
            Scaled::With(Op::LessEqual, i64::MAX)
        );
    }
}
