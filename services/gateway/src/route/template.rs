//! Path templates of `google.api.http`: `/v1/customers/{customer.id}:merge`. Only what the contract uses: literal
//! segments, variables of one segment, and a verb at the end; anything else is refused at start, not misread.
use std::fmt;

/// A path template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Template {
    text: String,
    segments: Vec<Segment>,
    verb: Option<String>,
}

/// One segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Segment {
    /// Stands for itself.
    Literal(String),
    /// Fills the field with this dotted name.
    Variable(String),
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let path = text.strip_prefix('/').ok_or_else(|| format!("`{text}` does not begin with a slash"))?;
        let (path, verb) = match path.rsplit_once(':') {
            Some((path, verb)) if !verb.contains(['/', '}']) => (path, Some(verb.to_owned())),
            _ => (path, None),
        };
        let segments =
            path.split('/').map(|segment| Segment::parse(segment, text)).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), segments, verb })
    }

    /// As the contract writes it.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    /// The segments, in order.
    pub(crate) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The verb after the colon.
    pub(crate) fn verb(&self) -> Option<&str> {
        self.verb.as_deref()
    }

    /// The names of the variables, in order.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.segments.iter().filter_map(|segment| match segment {
            Segment::Variable(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        })
    }

    /// The last segment, where it is literal: what a downloaded file is called.
    pub(crate) fn file_name(&self) -> Option<&str> {
        match self.segments.last()? {
            Segment::Literal(name) if name.contains('.') => Some(name),
            _ => None,
        }
    }

    /// As it stands in the contract.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl Segment {
    fn parse(segment: &str, template: &str) -> Result<Self, String> {
        if let Some(variable) = segment.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
            let name = variable.strip_suffix("=*").unwrap_or(variable);
            return match name.contains(['=', '*', '{']) || name.is_empty() {
                true => Err(format!("`{template}`: variables are `{{field}}`, one segment each")),
                false => Ok(Self::Variable(name.to_owned())),
            };
        }
        match segment.is_empty() || segment.contains(['{', '}', '*', ':']) {
            true => Err(format!("`{template}`: `{segment}` is neither a word nor a variable `{{field}}`")),
            false => Ok(Self::Literal(segment.to_owned())),
        }
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_words_variables_and_a_verb() {
        let template = Template::parse("/v1/customers/{customer.id}:merge").unwrap();
        assert_eq!(template.verb(), Some("merge"));
        assert_eq!(template.variables().collect::<Vec<_>>(), ["customer.id"]);
        assert_eq!(template.segments().len(), 3);
        assert_eq!(Template::parse("/v1/a/{id=*}").unwrap().variables().collect::<Vec<_>>(), ["id"]);
        assert_eq!(Template::parse("/v1/imports/{id}/issues.csv").unwrap().file_name(), Some("issues.csv"));
    }

    #[test]
    fn what_cannot_be_routed_is_refused() {
        for wrong in
            ["v1/a", "/v1//a", "/v1/{name=shelves/*}", "/v1/**", "/v1/{}", "/v1/a{id}", "/v1/{id}:a:b"]
        {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
