//! What a password may be: long, and not to be guessed from what everybody knows. No rules about kinds of characters, which
//! make passwords worse (NIST SP 800-63B); instead zxcvbn estimates how many guesses it would take.
use zxcvbn::Score;

/// What everybody may know of whose password it is.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    /// Their e-mail address.
    pub(crate) email: String,
    /// Their name.
    pub(crate) name: String,
}

/// # Errors
/// What is wrong with the password, and what would be right.
pub(super) fn check(password: &str, owner: &Owner) -> Result<(), String> {
    let length = password.chars().count();
    if !(12..=200).contains(&length) {
        return Err(format!("has {length} characters; 12 to 200 are allowed"));
    }
    let plain = password.to_lowercase();
    if plain == owner.email.to_lowercase() || plain == owner.name.to_lowercase() {
        return Err("is your e-mail address or your name; choose something that nobody knows".into());
    }
    let known: Vec<&str> =
        owner.email.split(['@', '.']).chain(owner.name.split_whitespace()).chain(["rapport"]).collect();
    if zxcvbn::zxcvbn(password, &known).score() < Score::Two {
        return Err("is easy to guess; several unrelated words make a good one".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner() -> Owner {
        Owner { email: "li.wei@example.com".into(), name: "Elizabeth Wei".into() }
    }

    #[test]
    fn long_and_unforeseeable_is_good() {
        for good in ["a quiet river at night", "正确的马电池订书钉海洋天空", "xK9#mQ2$vL5w"] {
            assert_eq!(check(good, &owner()), Ok(()), "{good}");
        }
    }

    #[test]
    fn short_known_or_guessable_is_refused() {
        for (bad, why) in [
            ("short", "has 5 characters"),
            ("正确的马电池", "has 6 characters"),
            (&"x".repeat(201), "has 201 characters"),
            ("Li.Wei@example.com", "your e-mail address"),
            ("elizabeth wei", "your name"),
            ("password1234", "easy to guess"),
            ("aaaaaaaaaaaaaa", "easy to guess"),
            ("123456789012", "easy to guess"),
            ("qwertyuiop[]", "easy to guess"),
            ("elizabethwei1", "easy to guess"),
        ] {
            let problem = check(bad, &owner()).unwrap_err();
            assert!(problem.contains(why), "{bad}: {problem}");
        }
    }
}
