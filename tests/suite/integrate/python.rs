//! Programs in Python, as those who integrate run them.
use std::{
    path::{Path, PathBuf},
    process::Stdio,
    sync::LazyLock,
};

use tokio::process::{Child, Command};

/// Where the interpreter is. What stands in PATH may be a script that starts it, slowly.
static PYTHON: LazyLock<PathBuf> = LazyLock::new(|| {
    let asked =
        std::process::Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let said = asked.ok().filter(|said| said.status.success()).expect(
        "python3 does not run: the programs of docs/integrate.md are tested with Python 3.9 or later, so please install it",
    );
    String::from_utf8(said.stdout).unwrap().trim().into()
});

/// A program with its arguments and what it finds in its environment; killed with the test at the latest.
pub(crate) fn start(program: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Child {
    let mut command = Command::new(&*PYTHON);
    command.arg(program).args(arguments).envs(environment.iter().copied());
    command.stdin(Stdio::null()).kill_on_drop(true).spawn().unwrap()
}

/// `kill -9`. It must have been at work until then.
pub(crate) async fn kill(mut child: Child) {
    assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
    child.kill().await.unwrap();
}

/// What a statement of SQL says about a SQLite file, a line for each row; nothing while its tables are not made.
pub(crate) async fn sqlite(file: &Path, sql: &str) -> Vec<String> {
    const ASK: &str = "
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], timeout=60)
try:
    with db:
        for row in db.execute(sys.argv[2]):
            print('|'.join(map(str, row)))
except sqlite3.OperationalError as error:
    if 'no such table' not in str(error):
        raise
";
    let mut command = Command::new(&*PYTHON);
    let asked = command.args(["-c", ASK]).arg(file).arg(sql).env("PYTHONUTF8", "1").output().await.unwrap();
    assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
    String::from_utf8(asked.stdout).unwrap().lines().map(str::to_owned).collect()
}
