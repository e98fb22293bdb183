//! The protocol, run as it may go: the cores of this crate, which have no I/O, between models of PostgreSQL and of the bus, and
//! everything goes wrong. One thread and one seed decide what happens next, so a seed is a run that can be had again.
//!
//! ```text
//! writers ──▶ postgres ◀──▶ leader ×2: sequencer, relay ──▶ bus ──▶ consumer ×2: listen, ask, lanes ──▶ postgres
//!                 ▲              ▲                           ▲           ▲                                  │
//!                 └──────────────┴──────── nemesis ──────────┴───────────┘                    checker ◀─────┘
//! ```
//!
//! Every decision is that of the real [`Sequencer`](crate::sequencer::Sequencer), [`Progress`](crate::relay::Progress),
//! [`Watermark`](crate::consume::Watermark) and [`Fresh`](crate::fresh::Fresh); what stands here for a driver says which one and
//! keeps its words. After a few hundred steps the nemesis rests; then everything has to come to where it belongs. What
//! [`checker`] looks at is what README and `docs/promises.md` promise. That it sees what goes wrong is proved by [`mutant`]s of
//! the protocol: each has to be caught.
mod bus;
mod chance;
mod checker;
mod consumer;
mod lane;
mod leader;
mod mutant;
mod nemesis;
mod postgres;
mod process;
mod relay;
mod sequencer;
mod session;
mod turns;
mod world;
mod writer;

use uuid::Uuid;

use self::{
    chance::setting,
    mutant::Mutant,
    nemesis::Nemesis,
    process::{Process, all},
    world::{Shared, World},
    writer::{Habit, settle, write},
};

/// Runs of the protocol as it is, unless `RAPPORT_SIMULATION_SEEDS` says otherwise: some 20 seconds.
const SEEDS: u64 = 8000;
/// Runs in which each mutant has to be caught. Most need a few, one some thousands; all of them together take some 15 seconds.
const PATIENCE: u64 = 20_000;
/// Steps in which the nemesis is at work, and after which everything must have come to rest.
const WILD: usize = 1200;
const CALM: usize = 100_000;
/// Steps that are told of a run that fails.
const TOLD: usize = 150;

/// A run: how many steps it took until it was at rest, or what was wrong.
fn run(world: &Shared) -> Result<usize, String> {
    let mut nemesis = Nemesis::new(world);
    let mut processes = all(world);
    let lasting = processes.len();
    let bulk = world.below(3);
    for (tenant, habit) in [
        Habit { transactions: 4, changes: 3, records: 2, size: 1024 },
        Habit { transactions: 4, changes: 2, records: 3, size: 3000 },
        // Somebody's bulk work.
        Habit { transactions: bulk, changes: 14, records: 2, size: 8192 },
    ]
    .into_iter()
    .enumerate()
    {
        let first = settle(world, Uuid::from_u128(1 + tenant as u128), habit);
        processes.push(Process::once(Box::pin(write(world.clone(), first, habit))));
    }
    // Some are fast and some are slow.
    let turns: Vec<_> =
        (0..processes.len()).flat_map(|at| std::iter::repeat_n(at, world.from(1, 5))).collect();
    for at in 0..WILD + CALM {
        if at == WILD {
            world.say(|| "nothing goes wrong any more".to_owned());
            nemesis.rest(&mut processes);
        }
        nemesis.act(&mut processes);
        processes[turns[world.below(turns.len())]].step();
        if let Some(violation) = &world.checker.borrow().violation {
            return Err(violation.clone());
        }
        if at > WILD && at % 16 == 0 && processes[lasting..].iter().all(Process::is_over) && is_drained(world)
        {
            return world.checker.borrow().look(&world.postgres.borrow()).map(|()| at);
        }
    }
    Err(world.checker.borrow().stuck(&world.postgres.borrow(), &world.bus.borrow()))
}

fn is_drained(world: &Shared) -> bool {
    world.checker.borrow().is_drained(&world.postgres.borrow(), &world.bus.borrow())
}

/// Runs a seed; if it fails, once more, for its history.
fn try_seed(seed: u64, mutant: Option<Mutant>) -> Result<usize, String> {
    run(&World::new(seed, mutant, false)).map_err(|problem| {
        let world = World::new(seed, mutant, true);
        let again = run(&world).expect_err("a seed reproduces its run");
        assert_eq!(problem, again, "a seed reproduces its run");
        format!("{}\nRAPPORT_SIMULATION_SEED={seed} {mutant:?}: {problem}", world.told(TOLD))
    })
}

/// The seeds that are asked for.
fn seeds() -> std::ops::Range<u64> {
    match setting("RAPPORT_SIMULATION_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..setting("RAPPORT_SIMULATION_SEEDS").unwrap_or(SEEDS),
    }
}

#[test]
fn whatever_goes_wrong_the_protocol_keeps_its_promises() {
    let mut steps = 0;
    for seed in seeds() {
        match try_seed(seed, None) {
            Ok(taken) => steps += taken,
            Err(problem) => panic!("{problem}"),
        }
    }
    println!("{steps} steps");
}

#[test]
fn a_seed_is_a_run_that_can_be_had_again() {
    for seed in 0..20 {
        let told = || {
            let world = World::new(seed, None, true);
            (run(&world), world.told(usize::MAX))
        };
        assert_eq!(told(), told());
    }
}

#[test]
fn every_mistake_in_the_protocol_is_caught() {
    let mut survivors = Vec::new();
    for mutant in Mutant::ALL {
        match (0..PATIENCE).find_map(|seed| Some((seed, run(&World::new(seed, Some(mutant), false)).err()?)))
        {
            Some((seed, problem)) => println!("{mutant:?} is caught with seed {seed}: {problem}"),
            None => survivors.push(mutant),
        }
    }
    assert!(survivors.is_empty(), "nobody notices {survivors:?}");
}
