//! `make bench`: each figure that Rapport promises, measured against its reference within one run, as a table. Machines differ
//! and are shared, so what counts is the ratio; measured and reference take turns, and the middle of the turns is told.
//!
//! `make bench ARGS='create lists'` measures some of them; without names all are measured, which takes about an hour.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that meets an error ends with it, and a table is what it prints"
)]

mod create;
mod events;
mod figure;
mod import;
mod lists;
mod load;
mod neighbour;
mod pgbench;
mod process;
mod rest;
mod statements;
mod streams;
mod units;
mod up;

use figure::Figure;

/// What can be measured, in the order in which it is.
const NAMES: [&str; 14] = [
    "create",
    "rest",
    "import",
    "lists",
    "units",
    "neighbour",
    "events",
    "order",
    "replay",
    "fairness",
    "copies",
    "bus",
    "streams",
    "up",
];

#[tokio::main]
async fn main() {
    let asked: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = asked.iter().find(|name| !NAMES.contains(&name.as_str())) {
        eprintln!("bench: there is no `{unknown}`; there are {}", NAMES.join(", "));
        std::process::exit(2);
    }
    let mut figures = Vec::new();
    for name in NAMES {
        if asked.is_empty() || asked.iter().any(|wanted| wanted == name) {
            eprintln!("bench: {name}");
            let measured = measure(name).await;
            measured.iter().for_each(|figure| eprintln!("  {figure}"));
            figures.extend(measured);
        }
    }
    println!("{}", figure::table(&figures));
}

async fn measure(name: &str) -> Vec<Figure> {
    match name {
        "create" => create::measure().await,
        "rest" => rest::measure().await,
        "import" => import::measure().await,
        "lists" => lists::measure().await,
        "neighbour" => neighbour::measure().await,
        "units" => units::measure().await,
        "events" => events::measure().await,
        "order" => events::order().await,
        "replay" => events::replay().await,
        "fairness" => events::neighbour().await,
        "copies" => events::copies().await,
        "bus" => events::wiped().await,
        "streams" => streams::measure().await,
        _ => up::measure().await,
    }
}
