//! The table of routes: a tree by path segment, where a literal wins over a variable. Built once at start; a search
//! allocates nothing but the list of variables' values.
use std::collections::{BTreeMap, HashMap};

use http::Method;
use percent_encoding::percent_decode_str;

use super::template::{Segment, Template};

/// Routes by path and HTTP method.
#[derive(Debug)]
pub(crate) struct Table<T> {
    root: Node<T>,
    templates: BTreeMap<String, Template>,
}

#[derive(Debug)]
struct Node<T> {
    literals: HashMap<String, Node<T>>,
    variable: Option<Box<Node<T>>>,
    ends: Vec<End<T>>,
}

#[derive(Debug)]
struct End<T> {
    verb: Option<String>,
    method: Method,
    template: String,
    route: T,
}

/// What a search found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found<'t, T> {
    /// The route, and the values of its variables, decoded.
    Route(&'t T, Vec<String>),
    /// The path exists for other methods.
    OtherMethods(Vec<Method>),
    /// The path does not exist.
    Nothing,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { root: Node::default(), templates: BTreeMap::new() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), variable: None, ends: Vec::new() }
    }
}

impl<T> Table<T> {
    /// Adds a route.
    ///
    /// # Errors
    /// Another route answers the same method at the same paths.
    pub(crate) fn insert(&mut self, method: Method, template: &Template, route: T) -> Result<(), String> {
        let mut node = &mut self.root;
        for segment in template.segments() {
            node = match segment {
                Segment::Literal(word) => node.literals.entry(word.clone()).or_default(),
                Segment::Variable(_) => node.variable.get_or_insert_default(),
            };
        }
        let verb = template.verb().map(str::to_owned);
        if let Some(taken) = node.ends.iter().find(|end| end.verb == verb && end.method == method) {
            return Err(format!("{method} {template} and {method} {} are the same path", taken.template));
        }
        node.ends.push(End { verb, method, template: template.to_string(), route });
        self.templates.insert(template.to_string(), template.clone());
        Ok(())
    }

    /// Searches the route for a request. The path is as it came, percent-encoded: an encoded colon is part of a value.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Found<'_, T> {
        let Some(path) = path.strip_prefix('/') else { return Found::Nothing };
        let (path, verb) = split_verb(path);
        let segments: Vec<_> = path.split('/').collect();
        let mut search = Search { method, verb, values: Vec::new(), others: Vec::new() };
        match search.walk(&self.root, &segments) {
            Some(end) => match search.values.into_iter().map(decode).collect() {
                Some(values) => Found::Route(&end.route, values),
                None => Found::Nothing,
            },
            None if search.others.is_empty() => Found::Nothing,
            None => Found::OtherMethods(search.others),
        }
    }

    /// Up to three templates that look like `path`, the likeliest first.
    pub(crate) fn near(&self, path: &str) -> Vec<&str> {
        let (path, verb) = split_verb(path.trim_matches('/'));
        let segments: Vec<_> = path.split('/').collect();
        let mut scored: Vec<_> = self
            .templates
            .values()
            .map(|t| (likeness(t, &segments, verb), t.as_str()))
            .filter(|(s, _)| *s > 0.6)
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        scored.into_iter().take(3).map(|(_, template)| template).collect()
    }
}

/// The verb stands after the last colon of the last segment.
fn split_verb(path: &str) -> (&str, Option<&str>) {
    match path.rsplit_once(':') {
        Some((path, verb)) if !verb.contains('/') => (path, Some(verb)),
        _ => (path, None),
    }
}

fn decode(value: &str) -> Option<String> {
    percent_decode_str(value).decode_utf8().ok().map(|text| text.into_owned())
}

struct Search<'s> {
    method: &'s Method,
    verb: Option<&'s str>,
    values: Vec<&'s str>,
    others: Vec<Method>,
}

impl<'s> Search<'s> {
    fn walk<'t, T>(&mut self, node: &'t Node<T>, segments: &[&'s str]) -> Option<&'t End<T>> {
        let Some((first, rest)) = segments.split_first() else { return self.end(node) };
        if let Some(found) = node.literals.get(*first).and_then(|child| self.walk(child, rest)) {
            return Some(found);
        }
        let child = node.variable.as_deref().filter(|_| !first.is_empty())?;
        self.values.push(first);
        let found = self.walk(child, rest);
        if found.is_none() {
            self.values.pop();
        }
        found
    }

    fn end<'t, T>(&mut self, node: &'t Node<T>) -> Option<&'t End<T>> {
        let here = || node.ends.iter().filter(|end| end.verb.as_deref() == self.verb);
        let found = here().find(|end| end.method == *self.method);
        if found.is_none() {
            let others: Vec<_> = here().map(|end| end.method.clone()).collect();
            self.others.extend(others);
        }
        found
    }
}

/// How much a path looks like a template, from 0 to 1: one segment that is quite another makes it another path.
fn likeness(template: &Template, segments: &[&str], verb: Option<&str>) -> f64 {
    let pairs = template.segments().iter().zip(segments);
    let alike: f64 = pairs
        .map(|(segment, given)| match segment {
            Segment::Literal(word) => strsim::jaro_winkler(word, given),
            Segment::Variable(_) => 0.9,
        })
        .product();
    let verbs = match (template.verb(), verb) {
        (None, None) => 1.0,
        (Some(word), Some(given)) => strsim::jaro_winkler(word, given),
        _ => 0.5,
    };
    let missing = template.segments().len().abs_diff(segments.len());
    alike * verbs * [1.0, 0.7].get(missing).unwrap_or(&0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(routes: &[(&'static str, Method)]) -> Table<&'static str> {
        let mut table = Table::default();
        for (template, method) in routes {
            table.insert(method.clone(), &Template::parse(template).unwrap(), *template).unwrap();
        }
        table
    }

    #[test]
    fn a_literal_wins_over_a_variable() {
        let table = table(&[
            ("/v1/users/{id}", Method::GET),
            ("/v1/users/me", Method::GET),
            ("/v1/{a}/x", Method::GET),
        ]);
        assert_eq!(table.find(&Method::GET, "/v1/users/me"), Found::Route(&"/v1/users/me", vec![]));
        assert_eq!(
            table.find(&Method::GET, "/v1/users/7"),
            Found::Route(&"/v1/users/{id}", vec!["7".into()])
        );
        assert_eq!(
            table.find(&Method::GET, "/v1/users/x"),
            Found::Route(&"/v1/users/{id}", vec!["x".into()])
        );
        assert_eq!(table.find(&Method::GET, "/v1/units/x"), Found::Route(&"/v1/{a}/x", vec!["units".into()]));
    }

    #[test]
    fn a_literal_for_another_method_does_not_hide_the_variable() {
        let table = table(&[("/v1/users/{id}", Method::DELETE), ("/v1/users/me", Method::GET)]);
        assert_eq!(
            table.find(&Method::DELETE, "/v1/users/me"),
            Found::Route(&"/v1/users/{id}", vec!["me".into()])
        );
    }

    #[test]
    fn verbs_are_part_of_the_route() {
        let table =
            table(&[("/v1/a", Method::GET), ("/v1/a:b", Method::POST), ("/v1/a/{id}:b", Method::POST)]);
        assert_eq!(table.find(&Method::POST, "/v1/a:b"), Found::Route(&"/v1/a:b", vec![]));
        assert_eq!(
            table.find(&Method::POST, "/v1/a/1%3A2%20:b"),
            Found::Route(&"/v1/a/{id}:b", vec!["1:2 ".into()])
        );
        assert_eq!(table.find(&Method::POST, "/v1/a/1:c"), Found::Nothing);
        assert_eq!(table.find(&Method::GET, "/v1/a:b"), Found::OtherMethods(vec![Method::POST]));
        assert_eq!(table.find(&Method::GET, "/v1/a/"), Found::Nothing);
        assert_eq!(table.find(&Method::POST, "/v1/a/%FF:b"), Found::Nothing);
    }

    #[test]
    fn the_same_path_twice_is_refused() {
        let mut table = table(&[("/v1/a/{id}", Method::GET)]);
        let again =
            table.insert(Method::GET, &Template::parse("/v1/a/{name}").unwrap(), "again").unwrap_err();
        assert_eq!(again, "GET /v1/a/{name} and GET /v1/a/{id} are the same path");
        assert!(table.insert(Method::PATCH, &Template::parse("/v1/a/{name}").unwrap(), "other").is_ok());
    }

    #[test]
    fn near_paths_are_offered() {
        let table = table(&[
            ("/v1/customers", Method::GET),
            ("/v1/customers/{id}:undelete", Method::POST),
            ("/v1/customers:search", Method::GET),
            ("/v1/units", Method::GET),
        ]);
        assert_eq!(table.near("/v1/customer"), ["/v1/customers"]);
        assert_eq!(table.near("/v1/customers:serach"), ["/v1/customers:search"]);
        assert_eq!(table.near("/v1/customers/7:undo"), ["/v1/customers/{id}:undelete"]);
        assert_eq!(table.near("/wp-admin/setup.php"), [""; 0]);
    }
}
