//! A `rapport up` of a test's own.
use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rapport_local::Scratch;
use serde_json::Value;

/// The program under test.
pub(crate) const RAPPORT: &str = env!("CARGO_BIN_EXE_rapport");

/// A running installation.
pub(crate) struct Installation {
    pub(crate) folder: PathBuf,
    process: Child,
}

impl Installation {
    /// Starts one in `folder` and waits until it says that it is ready.
    pub(crate) fn start(folder: &Path) -> Self {
        Self::start_with(folder, None)
    }

    /// The same with this configuration.
    pub(crate) fn start_with(folder: &Path, config: Option<&Path>) -> Self {
        let config = config.map(|config| [OsStr::new("--config"), config.as_os_str()]);
        let mut process = Command::new(RAPPORT)
            .args(["up", "--data-dir"])
            .arg(folder)
            .args(config.into_iter().flatten())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert!(line.starts_with("Rapport is ready"), "it said: {line}");
        Self { folder: folder.to_owned(), process }
    }

    /// What it wrote down for whoever wants in.
    pub(crate) fn demo(&self) -> Value {
        serde_json::from_slice(&fs::read(self.folder.join("demo.json")).unwrap()).unwrap()
    }

    /// A text of `demo.json`.
    pub(crate) fn text(&self, key: &str) -> String {
        self.demo()[key].as_str().unwrap().to_owned()
    }

    /// Sends SIGINT, as Ctrl-C does, and waits for the end.
    pub(crate) fn stop(mut self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let begun = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(30), "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(self.process.wait().unwrap().success());
    }

    /// Ends it as a power cut would.
    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// GET with the demo's key, as JSON.
pub(crate) fn get(installation: &Installation, path: &str) -> Value {
    let output = Command::new("curl")
        .args([
            "-sS",
            "--fail-with-body",
            "-H",
            &format!("Authorization: Bearer {}", installation.text("apiKey")),
        ])
        .arg(format!("{}{path}", installation.text("url")))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// A folder that the private PostgreSQL can reach, also when the test runs as root.
pub(crate) fn scratch() -> Scratch {
    Scratch::new(Path::new(env!("CARGO_TARGET_TMPDIR"))).unwrap()
}
