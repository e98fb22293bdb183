//! From source text to tokens.
//!
//! The tokens are CEL's, less those that no filter needs. What is left out is refused here by name, with what to write
//! instead; so are the slips of people who come from SQL (`=`) or type with a Chinese keyboard (`“`, `＝`). Positions are
//! counted in characters, because that is what an editor shows. Numbers keep their source text: nothing goes through f64.

use crate::error::{FilterError, quoted};

/// One token and where it begins.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    /// 0-based position in characters.
    pub(crate) at: usize,
    pub(crate) kind: TokenKind,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum TokenKind {
    /// A name or a word of the language (`in`, `true`).
    Name(String),
    /// A text literal, its escapes resolved.
    Text(String),
    /// A number literal as it was written, without a sign.
    Number(String),
    /// An operator or a bracket.
    Symbol(&'static str),
    /// The end of the source.
    End,
}

impl TokenKind {
    /// The token as a message shows it.
    pub(crate) fn shown(&self) -> String {
        match self {
            Self::Name(text) | Self::Number(text) => quoted(text),
            Self::Text(text) => quoted(&format!("\"{text}\"")),
            Self::Symbol(symbol) => format!("`{symbol}`"),
            Self::End => "the end".into(),
        }
    }
}

/// Longer symbols stand before those they begin with.
const SYMBOLS: [&str; 15] = ["&&", "||", "==", "!=", "<=", ">=", "<", ">", "!", "(", ")", "[", "]", ",", "."];

/// Splits a source into tokens, the last of which is [`TokenKind::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<Token>, FilterError> {
    let mut lexer = Lexer { chars: source.chars().collect(), at: 0 };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blanks_and_comments();
        let at = lexer.at;
        let kind = lexer.token()?;
        let last = kind == TokenKind::End;
        tokens.push(Token { at, kind });
        if last {
            return Ok(tokens);
        }
    }
}

struct Lexer {
    chars: Vec<char>,
    at: usize,
}

impl Lexer {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn peeks(&self, text: &str) -> bool {
        text.chars().enumerate().all(|(ahead, c)| self.peek(ahead) == Some(c))
    }

    fn peeks_digit(&self, ahead: usize) -> bool {
        self.peek(ahead).is_some_and(|c| c.is_ascii_digit())
    }

    /// Takes characters while they fit.
    fn take_while(&mut self, fits: impl Fn(char) -> bool) -> String {
        let taken: String = self.chars.iter().skip(self.at).take_while(|c| fits(**c)).collect();
        self.at += taken.chars().count();
        taken
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            self.take_while(|c| matches!(c, ' ' | '\t' | '\n' | '\r' | '\u{c}'));
            if !self.peeks("//") {
                return;
            }
            self.take_while(|c| c != '\n');
        }
    }

    fn token(&mut self) -> Result<TokenKind, FilterError> {
        let Some(first) = self.peek(0) else {
            return Ok(TokenKind::End);
        };
        if first == '"' || first == '\'' {
            return self.text(first).map(TokenKind::Text);
        }
        if first.is_ascii_digit() || (first == '.' && self.peeks_digit(1)) {
            return self.number().map(TokenKind::Number);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            return self.name().map(TokenKind::Name);
        }
        if first == '-' {
            self.at += 1;
            return Ok(TokenKind::Symbol("-"));
        }
        match SYMBOLS.into_iter().find(|symbol| self.peeks(symbol)) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(TokenKind::Symbol(symbol))
            }
            None => Err(FilterError::at(self.at, refused(first))),
        }
    }

    fn name(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        let name = self.take_while(|c| c.is_ascii_alphanumeric() || c == '_');
        let quote_follows = matches!(self.peek(0), Some('"' | '\''));
        match name.to_ascii_lowercase().as_str() {
            "r" if quote_follows => {
                Err(FilterError::at(start, "raw text is not supported; write \\\\ for a backslash"))
            }
            "b" | "br" | "rb" if quote_follows => {
                Err(FilterError::at(start, "bytes are not supported; write text"))
            }
            _ => Ok(name),
        }
    }

    /// `5`, `5.25`, `.5`, `5e3`, `2.5E-2`.
    fn number(&mut self) -> Result<String, FilterError> {
        let start = self.at;
        let mut number = self.take_while(|c| c.is_ascii_digit());
        if self.peek(0) == Some('.') && self.peeks_digit(1) {
            self.at += 1;
            number.push('.');
            number.push_str(&self.take_while(|c| c.is_ascii_digit()));
        }
        if matches!(self.peek(0), Some('e' | 'E')) {
            let sign = self.peek(1).filter(|c| matches!(c, '+' | '-'));
            let digits = 1 + usize::from(sign.is_some());
            if self.peeks_digit(digits) {
                self.at += digits;
                number.push('e');
                number.extend(sign);
                number.push_str(&self.take_while(|c| c.is_ascii_digit()));
            }
        }
        match self.peek(0) {
            Some(next) if next.is_ascii_alphanumeric() || next == '_' => Err(FilterError::at(
                start,
                format!(
                    "a number ends before `{next}`; numbers are decimal and have no suffix: 5, -29.85, 1e6"
                ),
            )),
            _ => Ok(number),
        }
    }

    fn text(&mut self, quote: char) -> Result<String, FilterError> {
        let start = self.at;
        self.at += 1;
        if self.peek(0) == Some(quote) && self.peek(1) == Some(quote) {
            return Err(FilterError::at(
                start,
                "triple quotes are not supported; write \\n for a line break",
            ));
        }
        let mut text = String::new();
        loop {
            let at = self.at;
            let next = self.peek(0);
            self.at += 1;
            match next {
                Some(c) if c == quote => return Ok(text),
                None | Some('\n' | '\r') => {
                    return Err(FilterError::at(
                        start,
                        format!("text that begins here has no closing {quote}"),
                    ));
                }
                // PostgreSQL cannot hold it in text, so no record has it.
                Some('\0') => return Err(FilterError::at(at, "text cannot hold the character U+0000")),
                Some('\\') => text.push(self.escape(at)?),
                Some(c) => text.push(c),
            }
        }
    }

    /// The character that the escape beginning at `at` stands for; its `\` is taken already.
    fn escape(&mut self, at: usize) -> Result<char, FilterError> {
        let escaped = self.peek(0);
        self.at += 1;
        let code = match escaped {
            Some(c @ ('\\' | '"' | '\'' | '`' | '?')) => return Ok(c),
            Some('a') => return Ok('\u{7}'),
            Some('b') => return Ok('\u{8}'),
            Some('f') => return Ok('\u{c}'),
            Some('n') => return Ok('\n'),
            Some('r') => return Ok('\r'),
            Some('t') => return Ok('\t'),
            Some('v') => return Ok('\u{b}'),
            Some('x' | 'X') => self.digits(2, 16),
            Some('u') => self.digits(4, 16),
            Some('U') => self.digits(8, 16),
            Some('0'..='3') => {
                self.at -= 1;
                self.digits(3, 8)
            }
            _ => None,
        };
        match code.map(char::from_u32) {
            Some(Some('\0')) => Err(FilterError::at(at, "text cannot hold the character U+0000")),
            Some(Some(c)) => Ok(c),
            Some(None) => Err(FilterError::at(at, "this escape is not a Unicode character")),
            None => Err(FilterError::at(
                at,
                "unknown escape; known are \\\\ \\\" \\' \\n \\r \\t and \\u with four hexadecimal digits",
            )),
        }
    }

    fn digits(&mut self, count: usize, radix: u32) -> Option<u32> {
        let mut number = 0u32;
        for _ in 0..count {
            let digit = self.peek(0)?.to_digit(radix)?;
            number = number.checked_mul(radix)?.checked_add(digit)?;
            self.at += 1;
        }
        Some(number)
    }
}

/// Why a character does not belong in a filter, and what to write instead.
fn refused(c: char) -> String {
    match c {
        '=' => "`=` is written `==`".into(),
        '&' | '|' => format!("`{c}` is written `{c}{c}`"),
        '+' | '*' | '/' | '%' => format!("`{c}`: filters do not calculate; write the value itself"),
        '?' | ':' => format!("`{c}`: there is no `? :`; combine conditions with && and ||"),
        '{' | '}' => format!("`{c}`: maps are not supported; a list stands in [ ]"),
        '`' => "names are not quoted; text stands in \" \"".into(),
        '“' | '”' | '„' | '＂' | '「' | '」' => {
            format!("`{c}` is not a quotation mark here; write \"")
        }
        '‘' | '’' | '＇' => format!("`{c}` is not a quotation mark here; write '"),
        '。' => "`。` is written .".into(),
        '、' => "`、` is written ,".into(),
        // Full-width forms stand in the same order as ASCII.
        '！'..='～' => match char::from_u32(u32::from(c) - 0xFEE0) {
            Some(half) => format!("`{c}` is the full-width form; write {half}"),
            None => format!("unexpected character {}", quoted(&c.to_string())),
        },
        c if c.is_alphabetic() => {
            format!(
                "unexpected character {}; field names are ASCII, and text stands in \" \"",
                quoted(&c.to_string())
            )
        }
        c => format!("unexpected character {}", quoted(&c.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(source: &str) -> Vec<TokenKind> {
        tokens(source).unwrap().into_iter().map(|token| token.kind).collect()
    }

    fn text(source: &str) -> String {
        match kinds(source).swap_remove(0) {
            TokenKind::Text(text) => text,
            other => panic!("{other:?} is not text"),
        }
    }

    fn error(source: &str) -> (usize, String) {
        let error = tokens(source).unwrap_err();
        (error.column, error.message)
    }

    #[test]
    fn positions_count_characters_not_bytes() {
        let tokens = tokens("\"杭州\" == city").unwrap();
        assert_eq!(tokens.iter().map(|token| token.at).collect::<Vec<_>>(), [0, 5, 8, 12]);
    }

    #[test]
    fn numbers_keep_their_source_text() {
        for number in
            ["0", "007", "29.85", ".5", "1e6", "0.10000000000000000000000001", "99999999999999999999999"]
        {
            assert_eq!(kinds(number), [TokenKind::Number(number.into()), TokenKind::End]);
        }
        assert_eq!(kinds("2.5E-2"), [TokenKind::Number("2.5e-2".into()), TokenKind::End]);
        assert_eq!(error("a == 5u").0, 6);
        assert_eq!(error("0x1F").0, 1);
        assert_eq!(error("1e").0, 1);
    }

    #[test]
    fn escapes_are_those_of_cel() {
        assert_eq!(text(r#""a\"b\\c\n\t\u676d\U0001F980\x41\101""#), "a\"b\\c\n\t杭🦀AA");
        assert_eq!(text("'o\\'hara'"), "o'hara");
        assert_eq!(error(r#"x == "a\qb""#).0, 8);
        assert_eq!(error(r#""\ud800""#), (2, "this escape is not a Unicode character".into()));
        assert_eq!(error(r#""\u67""#).0, 2);
        assert_eq!(error(r#""\x00""#), (2, "text cannot hold the character U+0000".into()));
        assert_eq!(error("\"a\0\"").0, 3);
    }

    #[test]
    fn text_without_an_end_is_shown_where_it_begins() {
        assert_eq!(error("a == \"杭州"), (6, "text that begins here has no closing \"".into()));
        assert_eq!(error("a == 'x\n'").0, 6);
        assert_eq!(error("a == \"x\\").0, 8);
        assert_eq!(error("r'x'").0, 1);
        assert_eq!(error("b\"x\"").0, 1);
        assert_eq!(error("'''x'''").0, 1);
    }

    #[test]
    fn comments_and_line_breaks_are_blanks() {
        assert_eq!(kinds("a // note\n.b"), kinds("a.b"));
        assert_eq!(kinds("// only a note"), [TokenKind::End]);
    }

    #[test]
    fn slips_are_met_with_what_to_write() {
        assert_eq!(error("a = 1"), (3, "`=` is written `==`".into()));
        assert_eq!(error("a & b").1, "`&` is written `&&`");
        assert_eq!(error("a == “杭州”"), (6, "`“` is not a quotation mark here; write \"".into()));
        assert_eq!(error("（a）").1, "`（` is the full-width form; write (");
        assert_eq!(
            error("城市 == 1").1,
            "unexpected character `城`; field names are ASCII, and text stands in \" \""
        );
        assert_eq!(error("a + 1").1, "`+`: filters do not calculate; write the value itself");
        assert_eq!(error("\u{1}").1, "unexpected character `\\u{1}`");
    }
}
