//! How one setting is read, whatever it came from, and shown in the reference. A section is a setting made of settings,
//! so the tree of sections reads and describes itself; the doc comments of the structs are the text of the reference.
use std::{collections::BTreeMap, fmt::Write as _, net::SocketAddr, path::PathBuf};

use secrecy::SecretString;
use toml::Value;

/// Why a setting was not taken.
pub(super) enum Problem {
    /// There is no setting of this name.
    Unknown,
    /// The value is wrong: what would be right.
    Wrong(String),
}

/// One setting or a group of them.
pub(super) trait Setting {
    /// Takes `value` for the setting at `path` below this one.
    fn set(&mut self, path: &[String], value: &Value) -> Result<(), Problem>;

    /// Adds the dotted names of all settings here; `*` stands for a name that the operator chooses.
    fn list_keys(&self, prefix: &str, keys: &mut Vec<String>);

    /// Writes the setting as it is now, commented out, below its explanation.
    fn describe(&self, path: &str, about: &[&str], text: &mut String);
}

/// A struct whose fields are settings: their types, what they are for and their defaults, said once.
macro_rules! section {
    ($(#[doc = $about:literal])+ pub struct $name:ident {
        $($(#[doc = $doc:literal])+ $field:ident: $kind:ty = $default:expr,)+
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug)]
        pub struct $name {
            $($(#[doc = $doc])+ pub $field: $kind,)+
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default,)+ }
            }
        }

        impl $crate::config::setting::Setting for $name {
            fn set(
                &mut self,
                path: &[String],
                value: &toml::Value,
            ) -> Result<(), $crate::config::setting::Problem> {
                let Some((key, rest)) = path.split_first() else {
                    return Err($crate::config::setting::Problem::Wrong("must be a table of settings".into()));
                };
                match key.as_str() {
                    $(stringify!($field) => self.$field.set(rest, value),)+
                    _ => Err($crate::config::setting::Problem::Unknown),
                }
            }

            fn list_keys(&self, prefix: &str, keys: &mut Vec<String>) {
                $(self.$field.list_keys(&$crate::config::setting::below(prefix, stringify!($field)), keys);)+
            }

            fn describe(&self, path: &str, about: &[&str], text: &mut String) {
                $crate::config::setting::heading(path, about, text);
                $(self.$field.describe(
                    &$crate::config::setting::below(path, stringify!($field)),
                    &[$($doc),+],
                    text,
                );)+
            }
        }
    };
}
pub(super) use section;

/// `prefix.key`, or `key` at the top.
pub(super) fn below(prefix: &str, key: &str) -> String {
    if prefix.is_empty() { key.to_owned() } else { format!("{prefix}.{key}") }
}

/// The explanation and, below the top, the name of a table.
pub(super) fn heading(path: &str, about: &[&str], text: &mut String) {
    if path.is_empty() {
        return;
    }
    text.push('\n');
    comment(about, text);
    let _ = writeln!(text, "[{path}]");
}

fn comment(about: &[&str], text: &mut String) {
    for line in about {
        let _ = writeln!(text, "#{line}");
    }
}

/// A single value.
pub(super) trait Leaf: Sized {
    /// What would be right, for error texts.
    const WANTED: &'static str;
    /// Reads a value of a file; environment and flags give text for every type.
    fn read(value: &Value) -> Option<Self>;
    /// As it stands in a file.
    fn show(&self) -> String;
}

impl<L: Leaf> Setting for L {
    fn set(&mut self, path: &[String], value: &Value) -> Result<(), Problem> {
        if !path.is_empty() {
            return Err(Problem::Unknown);
        }
        *self = L::read(value).ok_or_else(|| Problem::Wrong(format!("must be {}", L::WANTED)))?;
        Ok(())
    }

    fn list_keys(&self, prefix: &str, keys: &mut Vec<String>) {
        keys.push(prefix.to_owned());
    }

    fn describe(&self, path: &str, about: &[&str], text: &mut String) {
        comment(about, text);
        let key = path.rsplit('.').next().unwrap_or(path);
        let _ = writeln!(text, "# {key} = {}", self.show());
    }
}

impl<S: Setting + Default> Setting for BTreeMap<String, S> {
    fn set(&mut self, path: &[String], value: &Value) -> Result<(), Problem> {
        let Some((name, rest)) = path.split_first() else {
            return Err(Problem::Wrong("must be a table, one entry for each name".into()));
        };
        self.entry(name.clone()).or_default().set(rest, value)
    }

    fn list_keys(&self, prefix: &str, keys: &mut Vec<String>) {
        S::default().list_keys(&below(prefix, "*"), keys);
    }

    fn describe(&self, path: &str, about: &[&str], text: &mut String) {
        let (mut keys, example) = (Vec::new(), S::default());
        example.list_keys("", &mut keys);
        if keys == [""] {
            heading(path, about, text);
            example.describe(&below(path, "customer"), &[], text);
        } else {
            example.describe(&below(path, "customer"), about, text);
        }
    }
}

impl Leaf for String {
    const WANTED: &'static str = "text in quotes";
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(Self::from)
    }
    fn show(&self) -> String {
        Value::String(self.clone()).to_string()
    }
}

impl Leaf for bool {
    const WANTED: &'static str = "`true` or `false`";
    fn read(value: &Value) -> Option<Self> {
        value.as_bool().or_else(|| value.as_str()?.parse().ok())
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

macro_rules! whole_number {
    ($($number:ty),+) => {$(
        impl Leaf for $number {
            const WANTED: &'static str = "a whole number like `30`";
            fn read(value: &Value) -> Option<Self> {
                match value {
                    Value::Integer(number) => Self::try_from(*number).ok(),
                    Value::String(text) => text.parse().ok(),
                    _ => None,
                }
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}
whole_number!(u64, u32, usize);

impl Leaf for SocketAddr {
    const WANTED: &'static str = "an address and port like `127.0.0.1:8080`";
    fn read(value: &Value) -> Option<Self> {
        value.as_str()?.parse().ok()
    }
    fn show(&self) -> String {
        self.to_string().show()
    }
}

impl Leaf for PathBuf {
    const WANTED: &'static str = "a path in quotes";
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(Self::from)
    }
    fn show(&self) -> String {
        self.to_string_lossy().into_owned().show()
    }
}

impl Leaf for SecretString {
    const WANTED: &'static str = "text in quotes";
    fn read(value: &Value) -> Option<Self> {
        value.as_str().map(Self::from)
    }
    fn show(&self) -> String {
        String::new().show()
    }
}

impl<L: Leaf> Leaf for Option<L> {
    const WANTED: &'static str = L::WANTED;
    /// The empty text stands for "not set", so that a variable can take back what the file says.
    fn read(value: &Value) -> Option<Self> {
        if value.as_str() == Some("") { Some(None) } else { L::read(value).map(Some) }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(|| String::new().show(), L::show)
    }
}

impl Leaf for Vec<String> {
    const WANTED: &'static str = "a list of texts like `[\"a\", \"b\"]` (in a variable: `a,b`)";
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(
                text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(String::from).collect(),
            ),
            Value::Array(items) => items.iter().map(|item| item.as_str().map(String::from)).collect(),
            _ => None,
        }
    }
    fn show(&self) -> String {
        Value::from(self.clone()).to_string()
    }
}

impl Leaf for Vec<u16> {
    const WANTED: &'static str = "a list of ports like `[443, 8443]` (in a variable: `443,8443`)";
    fn read(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => text.split(',').map(|part| part.trim().parse().ok()).collect(),
            Value::Array(items) => {
                items.iter().map(|item| item.as_integer().and_then(|port| u16::try_from(port).ok())).collect()
            }
            _ => None,
        }
    }
    fn show(&self) -> String {
        Value::from(self.iter().map(|port| i64::from(*port)).collect::<Vec<_>>()).to_string()
    }
}
