//! A proof: a body that strikes an import with faults and says what is wrong afterwards. Nothing may be, and with a promise
//! broken on purpose the same body must object.
use rapport_store::Sabotage;

use crate::{
    chance::{Chance, rounds},
    check::Finding,
    imports::Scale,
};

/// How often a body may miss a broken promise: a fault has to fall into its gap, which is open for more than half of the time.
const CHANCES: u64 = 5;

/// Runs the body, as often as rounds are asked for: nothing may be wrong.
pub(crate) async fn kept(scale: Scale, body: impl AsyncFn(&mut Chance, Scale, Sabotage) -> Vec<Finding>) {
    for round in rounds() {
        let found = body(&mut Chance::of_round(round), scale, Sabotage::None).await;
        assert!(found.is_empty(), "round {round}: {found:#?}");
    }
}

/// Runs the body with a promise broken: it must object, and to what was broken.
pub(crate) async fn noticed(
    sabotage: Sabotage,
    body: impl AsyncFn(&mut Chance, Scale, Sabotage) -> Vec<Finding>,
) {
    for round in 0..CHANCES {
        let found = body(&mut Chance::of_round(round), Scale { rows: 1_200, faults: 1 }, sabotage).await;
        println!("{} findings", found.len());
        if let Some(finding) = found.iter().find(|finding| shows(sabotage, finding)) {
            println!("among them {finding:?}");
            return;
        }
    }
    panic!("{sabotage:?} went unnoticed");
}

/// Whether a finding shows that this was broken.
fn shows(sabotage: Sabotage, finding: &Finding) -> bool {
    use Finding::{Differs, Doubled, Events, Figures, Lost};
    match sabotage {
        Sabotage::None => false,
        // A call that got no answer was made again.
        Sabotage::AnswersApart => matches!(finding, Doubled(_)),
        Sabotage::EventsApart => matches!(finding, Events(_)),
        Sabotage::ProgressBefore => matches!(finding, Lost(_)),
        // A row without an external id is there twice; one with finds what it has made, and is counted as no change.
        Sabotage::ProgressAfter => matches!(finding, Doubled(_) | Figures(_)),
        // Likewise, or one worker's change follows upon the other's.
        Sabotage::NoFence => matches!(finding, Doubled(_) | Differs(_)),
    }
}
