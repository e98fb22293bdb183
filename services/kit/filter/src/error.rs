//! The one error of this crate: what is wrong with a filter, and at which character.
//!
//! People type filters into a search box, so an error is a sentence for them, not a code for a program; whoever calls
//! this crate maps it to its own kind of "invalid argument".

/// Why a filter or an order was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {message}")]
pub struct FilterError {
    /// Where: the 1-based position in the source, counted in characters (`杭` is one), line breaks included.
    pub column: usize,
    /// What is wrong and what would be right: lower case, no full stop, safe to show to whoever wrote the filter.
    pub message: String,
}

impl FilterError {
    /// An error at a 0-based character position, which is how the lexer counts.
    pub(crate) fn at(position: usize, message: impl Into<String>) -> Self {
        Self { column: position.saturating_add(1), message: message.into() }
    }
}

/// What somebody typed, made fit to stand in a message: at most 40 characters, control characters escaped.
pub(crate) fn quoted(text: &str) -> String {
    const LONGEST: usize = 40;
    let mut shown: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    // escape_debug also escapes quotes, which are harmless between back-ticks and common in filters.
    format!("`{}`", shown.replace("\\\"", "\"").replace("\\'", "'"))
}

/// `a, b and 3 more`: the first names of a list that may be long.
pub(crate) fn listed<'n>(names: impl IntoIterator<Item = &'n str>) -> String {
    const SHOWN: usize = 12;
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_strange_text_is_cut_and_escaped() {
        assert_eq!(quoted("杭州 \"x\""), "`杭州 \"x\"`");
        assert_eq!(quoted("a\nb\u{0}"), "`a\\nb\\0`");
        assert_eq!(quoted(&"x".repeat(50)), format!("`{}…`", "x".repeat(40)));
    }

    #[test]
    fn a_long_list_says_how_many_more_there_are() {
        assert_eq!(listed(["a", "b"]), "a, b");
        assert_eq!(listed(std::iter::repeat_n("x", 15)), format!("{} and 3 more", ["x"; 12].join(", ")));
    }
}
