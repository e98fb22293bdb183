//! Finding customers by three characters of a name in Latin script, two in Han, digits of a phone, or an e-mail (P61).
use rapport_kernel::{Ctx, Error};
use rapport_store::{Resource as _, TenantTx, database};
use unicode_normalization::UnicodeNormalization as _;
use uuid::Uuid;

use super::Customer;

/// How names are compared: full-width forms folded (NFKC), lower case, blanks single.
pub(super) fn normal(text: &str) -> String {
    let folded: String = text.nfkc().collect::<String>().to_lowercase();
    folded.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The pairs of neighbouring Han characters, without repetition.
pub(super) fn bigrams(normal: &str) -> Vec<String> {
    let characters: Vec<char> = normal.chars().collect();
    let mut pairs: Vec<String> = characters
        .windows(2)
        .filter(|pair| pair.iter().all(|c| is_han(*c)))
        .map(|pair| pair.iter().collect())
        .collect();
    pairs.sort();
    pairs.dedup();
    pairs
}

/// CJK unified ideographs with their extensions, compatibility ideographs, and the zero 〇.
fn is_han(c: char) -> bool {
    matches!(c, '\u{3007}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{323af}')
}

/// The digits of a telephone number.
pub(super) fn digits(number: &str) -> String {
    number.nfkc().filter(char::is_ascii_digit).collect()
}

/// What to look for, by kind of text; at least one is there.
#[derive(Debug, PartialEq, Eq)]
struct Terms {
    name: Option<String>,
    bigrams: Option<Vec<String>>,
    email: Option<String>,
    digits: Option<String>,
}

impl Terms {
    /// # Errors
    /// `Invalid` when the text is too short to look for, or only in fields that the caller may not read.
    fn parse(ctx: &Ctx, query: &str) -> Result<Self, Error> {
        let text = normal(query);
        let may_read = |field: &str| ctx.field_rights.may_read(Customer::KIND, field);
        let pairs = bigrams(&text);
        let latin = text.chars().filter(|c| !is_han(*c) && c.is_alphanumeric()).count() >= 3;
        let number = digits(&text);
        let is_number =
            number.len() >= 4 && text.chars().all(|c| c.is_ascii_digit() || "+-() ./".contains(c));
        let by_name = (latin || !pairs.is_empty()) && may_read("display_name");
        let terms = Self {
            bigrams: (by_name && !pairs.is_empty()).then_some(pairs),
            name: by_name.then(|| text.clone()),
            email: (text.contains('@') && text.len() >= 4 && may_read("emails")).then(|| text.clone()),
            digits: (is_number && may_read("phones")).then_some(number),
        };
        if terms.name.is_none() && terms.email.is_none() && terms.digits.is_none() {
            let problem = "is too short: at least three letters or two Han characters of a name, four digits of a \
                           phone, or part of an e-mail address with its `@`";
            return Err(Error::invalid("query", problem));
        }
        Ok(terms)
    }
}

/// The ids of what was found, the likeliest first.
async fn ids(tx: &mut TenantTx, terms: &Terms, limit: i32) -> Result<Vec<Uuid>, Error> {
    sqlx::query_scalar("SELECT id FROM rapport.search_customers($1, $2, $3, $4, $5)")
        .bind(
            terms
                .name
                .as_deref()
                .map(|name| if terms.bigrams.is_some() { name.to_owned() } else { like(name) }),
        )
        .bind(&terms.bigrams)
        .bind(terms.email.as_deref().map(like))
        .bind(&terms.digits)
        .bind(limit)
        .fetch_all(tx.conn().await?)
        .await
        .map_err(database)
}

/// Finds customers that the caller sees.
pub(super) async fn search(tx: &mut TenantTx, query: &str, page_size: i32) -> Result<Vec<Customer>, Error> {
    let terms = Terms::parse(tx.ctx(), query)?;
    let limit = if page_size == 0 { 20 } else { page_size.min(50) };
    let ids = ids(tx, &terms, limit).await?;
    let mut found = tx.get_many::<Customer>(&ids).await?;
    found.sort_by_key(|customer| ids.iter().position(|id| *id == customer.uuid()));
    Ok(found)
}

/// A pattern that LIKE takes as it stands.
fn like(text: &str) -> String {
    text.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rapport_kernel::{Clock, Id};

    fn terms(query: &str) -> Result<Terms, Error> {
        Terms::parse(&Ctx::system(Id::new(Uuid::nil()), Clock::system()), query)
    }

    #[test]
    fn han_names_are_found_by_pairs() {
        assert_eq!(bigrams(&normal("杭州 Alibaba 西湖")), ["杭州", "西湖"]);
        assert_eq!(terms("西湖").unwrap().bigrams, Some(vec!["西湖".to_owned()]));
        assert!(terms("西").is_err());
    }

    #[test]
    fn latin_names_need_three_letters() {
        assert_eq!(terms("ＡＣＭ").unwrap().name.as_deref(), Some("acm"));
        assert!(terms("ac").is_err());
    }

    #[test]
    fn phones_are_found_by_digits_however_typed() {
        assert_eq!(terms("0571-8765").unwrap().digits.as_deref(), Some("05718765"));
        assert!(terms("12").is_err());
        assert_eq!(terms("li@example.com").unwrap().email.as_deref(), Some("li@example.com"));
    }
}
