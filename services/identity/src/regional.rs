//! Names that people see, and what depends on where they are: language, time zone, telephone region, currency. Values that
//! are not set stay empty; what stands in for them is said where they are used.
use jiff::tz::TimeZone;
use rapport_kernel::{Error, Money, cut};

/// A name: one line, without blanks around it, 1 to `max` characters.
///
/// # Errors
/// `Invalid` about `field`.
pub(crate) fn name(field: &str, text: &str, max: usize) -> Result<String, Error> {
    let text = text.trim();
    let length = text.chars().count();
    if length == 0 || length > max {
        return Err(Error::invalid(field, format!("has {length} characters; 1 to {max} are allowed")));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(field, "has control characters or more than one line"));
    }
    Ok(text.to_owned())
}

/// A language as BCP 47 writes it, e.g. `zh-CN`; or nothing.
///
/// # Errors
/// `Invalid` about `field`.
pub(crate) fn locale(field: &str, text: &str) -> Result<String, Error> {
    let mut parts = text.split('-');
    let language = parts
        .next()
        .is_some_and(|part| (2..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphabetic()));
    let rest =
        parts.all(|part| (1..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()));
    if text.is_empty() || (language && rest) {
        return Ok(text.to_owned());
    }
    Err(Error::invalid(field, format!("`{}` is not a language like `en` or `zh-CN`", cut(text))))
}

/// An IANA time zone, e.g. `Asia/Shanghai`; or nothing.
///
/// # Errors
/// `Invalid` about `field`.
pub(crate) fn time_zone(field: &str, text: &str) -> Result<String, Error> {
    if text.is_empty() {
        return Ok(String::new());
    }
    match TimeZone::get(text) {
        // The name as the database of zones writes it: `asia/shanghai` is understood, and kept as `Asia/Shanghai`.
        Ok(zone) => Ok(zone.iana_name().unwrap_or(text).to_owned()),
        Err(_) => {
            Err(Error::invalid(field, format!("`{}` is not a time zone like `Asia/Shanghai`", cut(text))))
        }
    }
}

/// A currency by its ISO 4217 code; or nothing.
///
/// # Errors
/// `Invalid` about `field`.
pub(crate) fn currency(field: &str, text: &str) -> Result<String, Error> {
    if text.is_empty() || Money::currencies().any(|(code, _)| code == text) {
        return Ok(text.to_owned());
    }
    Err(Error::invalid(field, format!("`{}` is not a currency like `CNY`", cut(text))))
}

/// A region of telephone numbers by its ISO 3166-1 code; or nothing.
///
/// # Errors
/// `Invalid` about `field`.
pub(crate) fn phone_region(field: &str, text: &str) -> Result<String, Error> {
    if text.is_empty() || (text.len() == 2 && text.bytes().all(|b| b.is_ascii_uppercase())) {
        return Ok(text.to_owned());
    }
    Err(Error::invalid(field, format!("`{}` is not a region like `CN`", cut(text))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_line() {
        assert_eq!(name("n", "  华东 East ", 10).unwrap(), "华东 East");
        for wrong in ["", "   ", "a\nb", "12345678901"] {
            assert!(name("n", wrong, 10).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn regional_values_exist() {
        for good in ["", "en", "zh-CN", "zh-Hans-CN", "sr-Latn-RS"] {
            assert_eq!(locale("l", good).unwrap(), good);
        }
        for wrong in ["e", "english", "zh_CN", "zh-", "中文"] {
            assert!(locale("l", wrong).is_err(), "{wrong}");
        }
        assert_eq!(time_zone("z", "Asia/Shanghai").unwrap(), "Asia/Shanghai");
        assert_eq!(time_zone("z", "").unwrap(), "");
        assert!(time_zone("z", "Mars/Olympus").is_err());
        assert_eq!(currency("c", "CNY").unwrap(), "CNY");
        assert!(currency("c", "XXQ").is_err() && currency("c", "cny").is_err());
        assert!(phone_region("p", "CN").is_ok() && phone_region("p", "cn").is_err());
    }
}
