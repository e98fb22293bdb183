//! The order of a list: one field, ascending or descending.

use std::fmt::{self, Display, Formatter};
use std::sync::Arc;

use crate::catalogue::{Catalogue, Field};
use crate::error::{FilterError, listed, quoted};
use crate::parse::MAX_SOURCE_BYTES;

/// An order that a list can have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The field to sort by; it is sortable.
    pub field: Arc<Field>,
    /// Whether the largest comes first.
    pub descending: bool,
}

impl Order {
    /// Reads `name`, `name asc` or `name desc`. `None` if the source is blank, which asks for the list's own order.
    ///
    /// # Errors
    /// Says which fields there are, or which of them can be sorted by.
    pub fn parse(source: &str, catalogue: &Catalogue) -> Result<Option<Self>, FilterError> {
        if source.len() > MAX_SOURCE_BYTES {
            let message =
                format!("an order may be {MAX_SOURCE_BYTES} bytes long; this one has {}", source.len());
            return Err(FilterError::at(0, message));
        }
        let words = words(source);
        let Some((name_at, name)) = words.first().copied() else {
            return Ok(None);
        };
        if let Some(comma) = source.chars().position(|c| c == ',') {
            return Err(FilterError::at(comma, "a list is sorted by one field"));
        }
        let Some(field) = catalogue.field(name) else {
            return Err(FilterError::at(name_at, catalogue.unknown(name)));
        };
        if !field.sortable {
            let sortable = catalogue.fields().filter(|field| field.sortable);
            let message = match listed(sortable.map(|field| field.name.as_str())) {
                none if none.is_empty() => format!("`{name}` cannot be sorted by, nor can any other field"),
                others => format!("`{name}` cannot be sorted by; sortable are {others}"),
            };
            return Err(FilterError::at(name_at, message));
        }
        let descending = match words.get(1) {
            None | Some((_, "asc")) => false,
            Some((_, "desc")) => true,
            Some((at, other)) => {
                return Err(FilterError::at(
                    *at,
                    format!("{} is no direction; write asc or desc", quoted(other)),
                ));
            }
        };
        match words.get(2) {
            None => Ok(Some(Self { field: Arc::clone(field), descending })),
            Some((at, other)) => {
                Err(FilterError::at(*at, format!("{} follows the direction", quoted(other))))
            }
        }
    }
}

impl Display for Order {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.field.name, if self.descending { "desc" } else { "asc" })
    }
}

/// The words of a source, each with its 0-based position in characters.
fn words(source: &str) -> Vec<(usize, &str)> {
    source
        .split_whitespace()
        .map(|word| {
            // Both are slices of one text, so their distance is the word's place in it.
            let bytes = word.as_ptr().addr() - source.as_ptr().addr();
            (source.get(..bytes).unwrap_or_default().chars().count(), word)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::{Kind, Source};

    fn catalogue() -> Catalogue {
        [
            Field::new("name", Kind::Text, Source::Column("name")).sortable(),
            Field::new("create_time", Kind::Instant, Source::Column("create_time")).sortable(),
            Field::new("tags", Kind::TextList(None), Source::Column("tags")),
        ]
        .into_iter()
        .collect()
    }

    fn parsed(source: &str) -> String {
        Order::parse(source, &catalogue()).unwrap().unwrap().to_string()
    }

    fn error(source: &str) -> (usize, String) {
        let error = Order::parse(source, &catalogue()).unwrap_err();
        (error.column, error.message)
    }

    #[test]
    fn an_order_is_a_field_and_a_direction() {
        assert_eq!(parsed("name"), "name asc");
        assert_eq!(parsed("  create_time   desc "), "create_time desc");
        assert_eq!(Order::parse(" \n", &catalogue()), Ok(None));
    }

    #[test]
    fn what_is_no_order_is_refused_with_what_there_is() {
        assert_eq!(error("nmae"), (1, "unknown field `nmae`; did you mean name".into()));
        assert_eq!(error(" tags"), (2, "`tags` cannot be sorted by; sortable are create_time, name".into()));
        assert_eq!(error("name down"), (6, "`down` is no direction; write asc or desc".into()));
        assert_eq!(error("name desc please"), (11, "`please` follows the direction".into()));
        assert_eq!(error("name, tags"), (5, "a list is sorted by one field".into()));
        assert_eq!(error("名称").0, 1);
    }
}
