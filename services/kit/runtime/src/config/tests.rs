use std::io::Write as _;

use secrecy::ExposeSecret as _;

use super::*;

const NO: [(String, String); 0] = [];

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn file(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

fn wrong_file(text: &str) -> String {
    let file = file(text);
    let error = Config::load(Some(file.path()), NO, NO).unwrap_err().to_string();
    error.strip_prefix(&file.path().display().to_string()).unwrap().to_owned()
}

#[test]
fn flags_win_over_variables_and_variables_over_the_file() {
    let file = file(
        "listen = \"0.0.0.0:80\"\n[limits]\nbody_bytes = 2048\nin_flight = 10\ntenant_queue = 7\n\
         [databases.customer]\nurl = \"postgres://u:p@h/d\"\n[security]\nallowed_origins = [\"https://a\", \"https://b\"]",
    );
    let env = pairs(&[
        ("RAPPORT_LIMITS__BODY_BYTES", "4096"),
        ("RAPPORT_LIMITS__IN_FLIGHT", "11"),
        ("RAPPORT_DATABASES__CUSTOMER__POOL_SIZE", "3"),
        ("RAPPORT_TEST_ANYTHING", "left to tests"),
        ("PATH", "/bin"),
    ]);
    let config = Config::load(Some(file.path()), env, pairs(&[("limits.in_flight", "12")])).unwrap();
    assert_eq!(config.listen.to_string(), "0.0.0.0:80");
    assert_eq!(
        (config.limits.body_bytes, config.limits.in_flight, config.limits.tenant_queue),
        (4096, 12, 7)
    );
    let customer = config.databases.get("customer").unwrap();
    assert_eq!((customer.url.expose_secret(), customer.pool_size), ("postgres://u:p@h/d", 3));
    assert_eq!(config.security.allowed_origins, ["https://a", "https://b"]);
    let list = pairs(&[("RAPPORT_SECURITY__ALLOWED_ORIGINS", "https://c, https://d")]);
    assert_eq!(Config::load(None, list, NO).unwrap().security.allowed_origins, ["https://c", "https://d"]);
}

#[test]
fn an_unknown_key_is_refused_with_its_place_and_the_nearest_settings() {
    assert_eq!(
        wrong_file("[limits]\nbody_byte = 1"),
        ": `limits.body_byte` is not a setting; did you mean `limits.body_bytes`?"
    );
    assert_eq!(
        wrong_file("[databases.customer]\nurk = \"\""),
        ": `databases.customer.urk` is not a setting; did you mean `databases.customer.url`?"
    );
    let error = Config::load(None, pairs(&[("RAPPORT_LIMITS__CONCURENCY", "1")]), NO).unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable RAPPORT_LIMITS__CONCURENCY: `limits.concurency` is not a setting; \
         did you mean `limits.concurrency`?"
    );
    let error = Config::load(None, NO, pairs(&[("zzz", "1")])).unwrap_err();
    assert_eq!(error.to_string(), "flag: `zzz` is not a setting");
    assert!(wrong_file("[limits.body_bytes]\nx = 1").contains("`limits.body_bytes.x` is not a setting"));
}

#[test]
fn a_wrong_value_is_refused_with_what_would_be_right() {
    assert_eq!(wrong_file("limits = 3"), ": `limits` must be a table of settings");
    assert_eq!(
        wrong_file("[limits]\nin_flight = \"many\""),
        ": `limits.in_flight` must be a whole number like `30`"
    );
    assert_eq!(
        wrong_file("[limits]\nin_flight = -1"),
        ": `limits.in_flight` must be a whole number like `30`"
    );
    assert_eq!(
        wrong_file("[limits]\nin_flight = 0"),
        ": `limits.in_flight` is 0; it must be from 1 to 100000"
    );
    assert_eq!(
        wrong_file("[telemetry]\nlog_format = \"xml\""),
        ": `telemetry.log_format` must be `text` or `json`"
    );
    assert_eq!(wrong_file("listen = 80"), ": `listen` must be an address and port like `127.0.0.1:8080`");
    assert_eq!(
        wrong_file("[services]\ncustmer = \"http://h:1\""),
        ": `services.custmer` names no service; there are customer, identity"
    );
    assert_eq!(
        wrong_file("[databases.customer]\npool_size = 1"),
        ": `databases.customer.url` must be an address like `postgres://…` or `postgresql://…`"
    );
    assert!(wrong_file("a = 1\nb = = 2").starts_with(": line 2 is not TOML: "));
    let missing = Config::load(Some(Path::new("/nowhere/rapport.toml")), NO, NO).unwrap_err().to_string();
    assert!(missing.starts_with("/nowhere/rapport.toml: cannot be read: "), "{missing}");
}

#[test]
fn the_empty_text_takes_a_setting_back() {
    let file = file("[telemetry]\notlp_endpoint = \"http://127.0.0.1:4317\"");
    let env = pairs(&[("RAPPORT_TELEMETRY__OTLP_ENDPOINT", "")]);
    assert_eq!(Config::load(Some(file.path()), env, NO).unwrap().telemetry.otlp_endpoint, None);
}

#[test]
fn secrets_are_not_shown() {
    let secret = "a-secret-of-at-least-32-characters";
    let flags = pairs(&[
        ("security.internal_secret", secret),
        ("databases.customer.url", "postgres://u:hunter2@h/d"),
        ("blobs.secret_access_key", "hunter2"),
    ]);
    let config = Config::load(None, NO, flags).unwrap();
    let shown = format!("{config:?}");
    assert!(!shown.contains(secret) && !shown.contains("hunter2"), "{shown}");
    let short =
        Config::load(None, NO, pairs(&[("security.internal_secret", "hunter2")])).unwrap_err().to_string();
    assert_eq!(short, "flag: `security.internal_secret` must have at least 32 characters");
}

#[test]
fn the_reference_beside_the_readme_is_the_reference() {
    let kept = include_str!("../../rapport.toml");
    assert!(kept == Config::reference(), "rapport.toml is stale; it should be:\n{}", Config::reference());
}

#[test]
fn the_reference_taken_literally_is_the_default() {
    let mut keys = Vec::new();
    Config::default().list_keys("", &mut keys);
    let is_setting = |line: &&str| {
        line.strip_prefix("# ").is_some_and(|l| l.split(" = ").next().unwrap().parse::<Key>().is_ok())
    };
    let reference = Config::reference();
    assert_eq!(reference.lines().filter(is_setting).count(), keys.len());
    let literal: Vec<_> = reference
        .lines()
        .map(|line| if is_setting(&line) { line.trim_start_matches("# ") } else { line })
        .collect();
    let literal = literal
        .join("\n")
        .replace("customer = \"\"", "customer = \"http://h:1\"")
        .replace("\nurl = \"\"\n# As the owner", "\nurl = \"postgres://h/d\"\n# As the owner");
    let file = file(&literal);
    let mut config = Config::load(Some(file.path()), NO, NO).unwrap();
    assert_eq!(config.services.remove("customer").unwrap(), "http://h:1");
    config.databases.remove("customer").unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", Config::default()));
}

/// A key as it stands before ` = `: lower-case words and underscores.
struct Key;

impl std::str::FromStr for Key {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let word = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
        if word { Ok(Self) } else { Err(()) }
    }
}
