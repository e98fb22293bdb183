//! Telephone numbers and e-mail addresses: the one way to read them, for compiled and custom fields.
use rlibphonenumber::{PHONE_NUMBER_UTIL, PhoneNumberFormat, enums::Region};

/// A telephone number in E.164, if it is valid: internationally, or in `region` (ISO 3166-1, may be empty).
pub fn e164(number: &str, region: &str) -> Option<String> {
    let region = Region::try_from(region).ok();
    let parsed = PHONE_NUMBER_UTIL.parse(number, region).ok()?;
    PHONE_NUMBER_UTIL
        .is_valid_number(&parsed)
        .then(|| PHONE_NUMBER_UTIL.format(&parsed, PhoneNumberFormat::E164).into_owned())
}

/// An e-mail address as typed, without blanks around it.
///
/// # Errors
/// What is wrong and what would be right.
pub fn email(text: &str) -> Result<String, String> {
    let text = text.trim();
    let options = email_address::Options::default().with_required_tld().without_display_text();
    match email_address::EmailAddress::parse_with_options(text, options) {
        Ok(address) => Ok(address.to_string()),
        Err(_) => Err(format!("`{}` is not an address like `name@example.com`", rapport_kernel::cut(text))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_dialled_from_the_tenants_region() {
        assert_eq!(e164("0571-8765 4321", "CN").as_deref(), Some("+8657187654321"));
        assert_eq!(e164("+86 138 0013 8000", "").as_deref(), Some("+8613800138000"));
        assert_eq!(e164("0571-8765 4321", ""), None);
        assert_eq!(e164("12", "CN"), None);
    }

    #[test]
    fn addresses_are_read_strictly() {
        assert_eq!(email(" Li.Wei@Example.com ").unwrap(), "Li.Wei@Example.com");
        for wrong in
            ["li.wei", "li@", "@example.com", "Li <li@example.com>", "li wei@example.com", "li@localhost"]
        {
            assert!(email(wrong).is_err(), "{wrong}");
        }
    }
}
