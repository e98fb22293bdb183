//! Finding the servers on this machine, and refusing those that are too old.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::command;
use crate::error::Error;

const POSTGRES: &str = "PostgreSQL server";
const POSTGRES_NEEDED: u32 = 15;
const POSTGRES_ADVICE: &str = "install the package postgresql (Debian, Ubuntu) or postgresql-server and postgresql-contrib, or run `make tools` as root";

const NATS: &str = "nats-server";
const NATS_NEEDED: (u32, u32) = (2, 14);
const NATS_ADVICE: &str = "run `make tools`";

/// Folders where packages put PostgreSQL without linking it into the search path. `*` is one version.
const POSTGRES_FOLDERS: [(&str, &str, &str); 3] =
    [("/usr/lib/postgresql", "", "bin"), ("/usr", "pgsql-", "bin"), ("/usr/local", "pgsql", "bin")];

/// An installed PostgreSQL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PostgresPrograms {
    /// The folder that holds `postgres`, `initdb`, `pg_dump` and the rest.
    pub(crate) folder: PathBuf,
    /// The major version.
    pub(crate) major: u32,
}

/// Chooses a PostgreSQL: the one in `given`, if any, else the first in the search path that will do, else the newest among
/// the usual folders. Data that exist already want the major version that `made` them.
pub(crate) fn find_postgres(
    given: Option<&Path>,
    data: &Path,
    made: Option<u32>,
) -> Result<PostgresPrograms, Error> {
    let folders = match given {
        Some(folder) => vec![folder.to_owned()],
        None => postgres_folders(),
    };
    let mut found = Vec::new();
    for folder in folders {
        let program = folder.join("postgres");
        if program.is_file() && folder.join("initdb").is_file() {
            let (major, _) = version(&program)?;
            found.push(PostgresPrograms { folder, major });
        }
    }
    let newest = found.iter().max_by_key(|programs| programs.major).cloned();
    let Some(newest) = newest else {
        return Err(Error::Missing { program: POSTGRES, advice: POSTGRES_ADVICE });
    };
    if newest.major < POSTGRES_NEEDED {
        return Err(Error::TooOld {
            program: POSTGRES,
            found: newest.major.to_string(),
            needed: "15",
            path: newest.folder,
            advice: POSTGRES_ADVICE,
        });
    }
    let majors: BTreeSet<String> = found.iter().map(|programs| programs.major.to_string()).collect();
    match made {
        None => Ok(found.into_iter().find(|programs| programs.major >= POSTGRES_NEEDED).unwrap_or(newest)),
        Some(made_by) => {
            found.into_iter().find(|programs| programs.major == made_by).ok_or(Error::OtherVersion {
                folder: data.to_owned(),
                made_by,
                found: majors.into_iter().collect::<Vec<_>>().join(", "),
            })
        }
    }
}

/// Chooses a nats-server: the one in `given`, if any, else the first that is new enough in the search path, beside our own
/// program, or in the `.tools/bin` of the source tree that our program was built in.
pub(crate) fn find_nats(given: Option<&Path>) -> Result<PathBuf, Error> {
    let programs = match given {
        Some(program) => vec![program.to_owned()],
        None => nats_programs(),
    };
    let mut newest: Option<((u32, u32), PathBuf)> = None;
    for path in programs.into_iter().filter(|program| program.is_file()) {
        let found = version(&path)?;
        if found >= NATS_NEEDED {
            return Ok(path);
        }
        if newest.as_ref().is_none_or(|(other, _)| found > *other) {
            newest = Some((found, path));
        }
    }
    match newest {
        None => Err(Error::Missing { program: NATS, advice: NATS_ADVICE }),
        Some(((major, minor), path)) => Err(Error::TooOld {
            program: NATS,
            found: format!("{major}.{minor}"),
            needed: "2.14",
            path,
            advice: NATS_ADVICE,
        }),
    }
}

/// Links are followed, because PostgreSQL looks for its own files from where the program really is.
fn postgres_folders() -> Vec<PathBuf> {
    let in_path = command::all_in_path("initdb")
        .filter_map(|program| fs::canonicalize(program).ok())
        .filter_map(|program| program.parent().map(Path::to_owned));
    let mut folders: Vec<PathBuf> = in_path.collect();
    let mut packaged: Vec<PathBuf> = POSTGRES_FOLDERS
        .iter()
        .flat_map(|(above, prefix, below)| {
            children(Path::new(above), prefix).into_iter().map(move |one| one.join(below))
        })
        .collect();
    packaged.sort();
    folders.extend(packaged.into_iter().rev());
    let mut seen = BTreeSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
    folders
}

fn nats_programs() -> Vec<PathBuf> {
    let ours = std::env::current_exe().and_then(fs::canonicalize).unwrap_or_default();
    let beside = ours.parent().map(|folder| folder.join("nats-server"));
    let in_tree = ours.ancestors().skip(1).map(|folder| folder.join(".tools/bin/nats-server"));
    command::all_in_path("nats-server").chain(beside).chain(in_tree).collect()
}

fn children(folder: &Path, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .collect()
}

fn version(program: &Path) -> Result<(u32, u32), Error> {
    let problem = match command::brief(program, &Account::Ours).arg("--version").output() {
        Err(refused) => refused.to_string(),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            match parse_version(&said) {
                Some(version) => return Ok(version),
                None => format!("it says {:?}", said.trim()),
            }
        }
    };
    Err(Error::Unusable { path: program.to_owned(), problem })
}

/// The first two numbers of `postgres (PostgreSQL) 15.18 (Debian …)`, `nats-server: v2.15.1` or `… 19beta2`.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let start = text.find(|c: char| c.is_ascii_digit())?;
    let mut numbers = text.get(start..)?.split(|c: char| !c.is_ascii_digit());
    let major = numbers.next()?.parse().ok()?;
    let minor = numbers.next().and_then(|number| number.parse().ok()).unwrap_or(0);
    Some((major, minor))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn fake(folder: &Path, name: &str, says: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn versions_are_read_as_each_server_prints_them() {
        assert_eq!(parse_version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some((15, 18)));
        assert_eq!(parse_version("postgres (PostgreSQL) 19beta2"), Some((19, 0)));
        assert_eq!(parse_version("nats-server: v2.15.1"), Some((2, 15)));
        assert_eq!(parse_version("no idea"), None);
    }

    #[test]
    fn a_missing_server_says_what_to_install() {
        let empty = tempfile::tempdir().unwrap();
        let refused = find_postgres(Some(empty.path()), empty.path(), None).unwrap_err().to_string();
        assert!(
            refused.starts_with("no PostgreSQL server was found; install the package postgresql"),
            "{refused}"
        );
        let refused = find_nats(Some(&empty.path().join("nats-server"))).unwrap_err().to_string();
        assert_eq!(refused, "no nats-server was found; run `make tools`");
    }

    #[test]
    fn an_old_server_is_refused_with_what_is_needed() {
        let place = tempfile::tempdir().unwrap();
        let path = fake(place.path(), "nats-server", "nats-server: v2.9.10");
        let refused = find_nats(Some(&path)).unwrap_err().to_string();
        let expected =
            format!("found nats-server 2.9 at {}; 2.14 or later is needed; run `make tools`", path.display());
        assert_eq!(refused, expected);

        fake(place.path(), "postgres", "postgres (PostgreSQL) 14.2");
        fake(place.path(), "initdb", "");
        let refused = find_postgres(Some(place.path()), place.path(), None).unwrap_err();
        assert!(matches!(refused, Error::TooOld { .. }), "{refused}");
    }

    #[test]
    fn data_of_another_major_version_are_not_touched() {
        let place = tempfile::tempdir().unwrap();
        fake(place.path(), "postgres", "postgres (PostgreSQL) 17.1");
        fake(place.path(), "initdb", "");
        let refused =
            find_postgres(Some(place.path()), Path::new("/data"), Some(15)).unwrap_err().to_string();
        assert!(refused.starts_with("/data holds data of PostgreSQL 15"), "{refused}");
        assert_eq!(find_postgres(Some(place.path()), Path::new("/data"), Some(17)).unwrap().major, 17);
    }

    #[test]
    fn a_program_that_is_not_the_server_is_named() {
        let place = tempfile::tempdir().unwrap();
        let path = fake(place.path(), "nats-server", "hello");
        let refused = find_nats(Some(&path)).unwrap_err().to_string();
        assert!(refused.ends_with("does not say its version: it says \"hello\""), "{refused}");
    }
}
