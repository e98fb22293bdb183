//! The configuration: one documented struct, read from `rapport.toml`, then from the environment, then from flags; the
//! later one wins. Whatever is not a setting is an error that names the place, the key and the nearest settings.
//!
//! A variable's name is `RAPPORT_` and the key in capitals, `__` for each dot: `RAPPORT_LIMITS__BODY_BYTES`. Names that
//! begin with `RAPPORT_TEST_` are left to tests. This is not serde's reading, because the error has to say from where
//! the wrong value came, and because variables and flags are text whatever the type of the setting is.
mod check;
mod sections;
mod setting;

use std::{collections::BTreeMap, fmt, fs, path::Path};

use toml::{Table, Value};

pub use self::sections::{
    Blobs, Config, Database, Egress, Limits, Log, LogFormat, Nats, Security, Telemetry,
};
use self::setting::{Problem, Setting as _};

const PREFIX: &str = "RAPPORT_";
const RESERVED: &str = "RAPPORT_TEST_";

/// What is wrong with the configuration.
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    /// The file, variable or flag.
    place: String,
    /// The dotted key; empty when it is about the whole file.
    key: String,
    problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.place, self.problem);
        }
        write!(f, "{}: `{}` {}", self.place, self.key, self.problem)
    }
}

impl Config {
    /// Reads the file (when there is one to read), then the variables that begin with `RAPPORT_`, then the flags, which
    /// are pairs of dotted key and value.
    ///
    /// # Errors
    /// When the file cannot be read or is not TOML, a key is unknown, or a value is not of its type or out of range.
    pub fn load(
        path: Option<&Path>,
        env: impl IntoIterator<Item = (String, String)>,
        flags: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut loading = Loading::default();
        if let Some(path) = path {
            loading.file(path)?;
        }
        let env: BTreeMap<_, _> = env.into_iter().collect();
        for (name, value) in env.iter().filter(|(name, _)| !name.starts_with(RESERVED)) {
            if let Some(key) = name.strip_prefix(PREFIX) {
                let key = key.split("__").map(str::to_ascii_lowercase).collect();
                loading.set(&format!("environment variable {name}"), key, &Value::String(value.clone()))?;
            }
        }
        for (key, value) in flags {
            loading.set("flag", key.split('.').map(str::to_owned).collect(), &Value::String(value))?;
        }
        loading.config.check().map_err(|(key, problem)| loading.error(&key, problem))?;
        Ok(loading.config)
    }

    /// A `rapport.toml` with every setting, what it is for, and its default, commented out.
    pub fn reference() -> String {
        let mut text = String::from(HEAD);
        Self::default().describe("", &[], &mut text);
        text
    }
}

const HEAD: &str = "\
# Rapport's settings. Every line that begins with `# key =` shows a default: remove the `# ` to change it.
# A variable of the environment overrides the file: RAPPORT_LIMITS__BODY_BYTES=1048576 for limits.body_bytes.
# A setting that is the empty text is not set.

";

/// A configuration on the way, which remembers where each value came from.
#[derive(Default)]
struct Loading {
    config: Config,
    places: BTreeMap<String, String>,
}

impl Loading {
    fn file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let place = path.display().to_string();
        let whole = |problem| ConfigError { place: place.clone(), key: String::new(), problem };
        let text = fs::read_to_string(path).map_err(|e| whole(format!("cannot be read: {e}")))?;
        let table: Table = toml::from_str(&text).map_err(|e| {
            let before = e.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            whole(format!("line {} is not TOML: {}", before.matches('\n').count() + 1, e.message()))
        })?;
        self.table(&place, &[], table)
    }

    fn table(&mut self, place: &str, above: &[String], table: Table) -> Result<(), ConfigError> {
        for (key, value) in table {
            let path = [above, &[key]].concat();
            match value {
                Value::Table(table) => self.table(place, &path, table)?,
                value => self.set(place, path, &value)?,
            }
        }
        Ok(())
    }

    fn set(&mut self, place: &str, path: Vec<String>, value: &Value) -> Result<(), ConfigError> {
        let key = path.join(".");
        self.places.insert(key.clone(), place.to_owned());
        self.config.set(&path, value).map_err(|problem| match problem {
            Problem::Wrong(problem) => self.error(&key, problem),
            Problem::Unknown => self.error(&key, format!("is not a setting{}", near(&path))),
        })
    }

    /// An error about `key`, with the place that set it, or that set its nearest neighbour.
    fn error(&self, key: &str, problem: String) -> ConfigError {
        let around = std::iter::successors(Some(key), |key| Some(key.rsplit_once('.')?.0));
        let set_at = |near: &str| {
            let below = format!("{near}.");
            self.places.iter().find(|(set, _)| set.as_str() == near || set.starts_with(&below))
        };
        let place = around.filter_map(set_at).map(|(_, place)| place.clone()).next();
        let place = place.unwrap_or_else(|| "the configuration".into());
        ConfigError { place, key: key.to_owned(), problem }
    }
}

/// "; did you mean …" with at most three settings whose names are much like `path`.
fn near(path: &[String]) -> String {
    let mut keys = Vec::new();
    Config::default().list_keys("", &mut keys);
    let wrong = path.join(".");
    let fill = |key: &String| {
        let parts = key.split('.').enumerate();
        let parts =
            parts.map(|(i, part)| if part == "*" { path.get(i).map_or("customer", |p| p) } else { part });
        parts.collect::<Vec<_>>().join(".")
    };
    let mut near: Vec<_> = keys
        .iter()
        .filter(|key| !key.ends_with('*'))
        .map(fill)
        .map(|key| (strsim::normalized_damerau_levenshtein(&key, &wrong), key))
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0));
    let best = near.first().map_or(0.0, |(likeness, _)| *likeness);
    near.retain(|(likeness, _)| *likeness > 0.7 && *likeness > best - 0.1);
    let near: Vec<_> = near.into_iter().take(3).map(|(_, key)| format!("`{key}`")).collect();
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

#[cfg(test)]
mod tests;
