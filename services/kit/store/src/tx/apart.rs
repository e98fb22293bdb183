//! For tests: what a sabotaged transaction leaves to another one.
use rapport_kernel::{Ctx, Error};

use crate::{
    Db,
    outbox::Outbox,
    sabotage::{GAP, Sabotage},
};

/// What is written in a transaction of its own, after the one that it belongs to.
#[derive(Debug)]
pub(super) struct Apart {
    db: Db,
    left: Vec<(Outbox, Option<Vec<u8>>)>,
}

impl Apart {
    /// `None` when nothing is broken, as always but in tests.
    pub(super) fn of(db: &Db) -> Option<Self> {
        let apart = matches!(db.sabotage(), Sabotage::EventsApart | Sabotage::AnswersApart);
        apart.then(|| Self { db: db.clone(), left: Vec::new() })
    }

    /// Takes away from a statement what it should write.
    pub(super) fn take(&mut self, outbox: &mut Outbox, answer: &mut Option<Vec<u8>>) {
        match self.db.sabotage() {
            Sabotage::EventsApart => self.left.push((std::mem::take(outbox), None)),
            _ => self.left.push((Outbox::default(), answer.take())),
        }
    }

    /// Writes it, as if nothing had happened.
    pub(super) async fn write(self, ctx: &Ctx) -> Result<(), Error> {
        for (outbox, answer) in self.left.into_iter().filter(|(o, a)| !o.is_empty() || a.is_some()) {
            // Without the request id, or it would be a repetition.
            let mut later = self.db.begin(&Ctx { request_id: None, ..ctx.clone() }).await?;
            later.ctx = ctx.clone();
            tokio::time::sleep(GAP).await;
            later.apart = None;
            later.outbox = outbox;
            later.write(answer).await?;
            later.end_here().await?;
        }
        Ok(())
    }
}
