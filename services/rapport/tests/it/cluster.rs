//! A cluster as `docs/cluster.md` has it: its commands, each process by itself, and one that is killed.
use std::{
    fs,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Output},
    time::{Duration, Instant},
};

use rapport_local::{Nats, Postgres, nats, postgres};
use serde_json::{Value, json};

use super::installation::{RAPPORT, scratch};

const DOC: &str = include_str!("../../../../docs/cluster.md");

/// The blocks of a language, put together.
fn blocks(language: &str) -> String {
    let fence = format!("```{language}\n");
    DOC.split(&fence).skip(1).map(|block| block.split_once("```").unwrap().0).collect()
}

/// The page's names, and what they are here.
struct Place(Vec<(&'static str, String)>);

impl Place {
    fn here(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, here)| text.replace(name, here))
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().to_string()
}

/// A line of the page.
fn command(line: &str, folder: &Path) -> Command {
    let mut command = Command::new(RAPPORT);
    let words = line.split_whitespace().skip(1);
    command.args(words).current_dir(folder).env("RAPPORT_SECURITY__COOKIE_SECURE", "false");
    command
}

/// Processes that end with the test.
#[derive(Default)]
struct Processes(Vec<(String, Child)>);

impl Processes {
    fn serve(&mut self, line: &str, folder: &Path) {
        self.0.push((line.to_owned(), command(line, folder).spawn().unwrap()));
    }

    /// Kills the first that was started so, and says how it was.
    fn kill(&mut self, beginning: &str) -> String {
        let at = self.0.iter().position(|(line, _)| line.starts_with(beginning)).unwrap();
        let (line, mut child) = self.0.remove(at);
        child.kill().unwrap();
        child.wait().unwrap();
        line
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A call by curl, until it is answered as it should be.
fn call(url: &str, more: &[&str]) -> Value {
    let begun = Instant::now();
    loop {
        let output = Command::new("curl")
            .args(["--fail-with-body", "-sS", "-H", "Content-Type: application/json", url])
            .args(more)
            .output()
            .unwrap();
        if output.status.success() {
            return serde_json::from_slice(&output.stdout).unwrap_or_default();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{url}: {output:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Runs a line, again where what it needs is still being started; says what it said.
fn done(line: &str, folder: &Path) -> String {
    let begun = Instant::now();
    loop {
        let Output { status, stdout, stderr } = command(line, folder).output().unwrap();
        if status.success() {
            return String::from_utf8_lossy(&stdout).into_owned();
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{line}: {}", String::from_utf8_lossy(&stderr));
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_of_the_page_make_a_cluster_that_outlives_its_processes() {
    let scratch = scratch();
    let folder = scratch.path();
    let postgres = Postgres::start(postgres::Options::fast(folder.join("postgres"))).await.unwrap();
    let nats = Nats::start(nats::Options::new(folder.join("nats"))).await.unwrap();
    let place = Place(vec![
        ("nats://rapport:fourth-password@nats.example.com:4222", nats.url()),
        ("db.example.com:5432", format!("127.0.0.1:{}", postgres.port())),
        ("identity.example.com:9090", free_port()),
        ("customer.example.com:9090", free_port()),
        ("standby.example.com:9090", free_port()),
        ("gateway.example.com:8080", free_port()),
        ("/srv/", format!("{}/", folder.display())),
    ]);
    fs::create_dir_all(folder.join("rapport")).unwrap();
    fs::write(folder.join("rapport.toml"), place.here(&blocks("toml"))).unwrap();
    fs::write(folder.join("superuser.url"), postgres.url()).unwrap();
    let commands = place.here(&blocks("sh"));
    let gateway = place.here("http://gateway.example.com:8080");

    let mut processes = Processes::default();
    let mut said = Vec::new();
    for line in commands.lines() {
        if line.starts_with("rapport serve") {
            processes.serve(line, folder);
        } else {
            said.push(done(line, folder));
        }
    }
    assert_eq!(said[0], "customer: up to date\nidentity: up to date\n");
    let invitation = said[1].lines().last().unwrap().trim();
    assert!(said[2].contains("customer ") && said[2].contains("hears identity"), "{}", said[2]);

    let post = |path: &str, cookie: &str, body: Value| {
        let cookie = format!("Cookie: rapport={cookie}");
        let body = body.to_string();
        call(&format!("{gateway}{path}"), &["-H", &cookie, "-H", "Sec-Fetch-Site: same-origin", "-d", &body])
    };
    let password = "correct horse battery staple";
    post("/v1/users:acceptInvitation", "", json!({"invitationToken": invitation, "password": password}));
    let jar = folder.join("cookies");
    let signed_in =
        json!({"tenant": "acme", "email": "anna@acme.example.com", "password": password}).to_string();
    call(&format!("{gateway}/v1/sessions:signIn"), &["-c", jar.to_str().unwrap(), "-d", &signed_in]);
    let jar = fs::read_to_string(&jar).unwrap();
    let cookie = jar.lines().rev().find_map(|line| line.split_once("\trapport\t")).unwrap().1;
    post("/v1/customers", cookie, json!({"displayName": "杭州西湖茶业"}));

    // Whoever leads dies; the standby hears on.
    let customer = processes.kill("rapport serve customer");
    let identity = processes.kill("rapport serve identity");
    processes.serve(&identity, folder);
    post("/v1/units", cookie, json!({"displayName": "华东"}));
    processes.serve(&customer, folder);
    post("/v1/customers", cookie, json!({"displayName": "西湖区"}));
    let status = commands.lines().find(|line| line.starts_with("rapport status")).unwrap();
    let begun = Instant::now();
    while !done(status, folder).contains("hears identity, 0 behind") {
        assert!(begun.elapsed() < Duration::from_secs(30), "{}", done(status, folder));
        std::thread::sleep(Duration::from_millis(100));
    }
    // And the audit trail is whole.
    assert!(done("rapport audit verify", folder).contains(", 0 faults"));
    drop(processes);
    assert!(
        done("rapport migrate --restored", folder)
            .ends_with("their logs go on from where the backups were made\n")
    );
    nats.stop().await;
    postgres.stop().await;
}
