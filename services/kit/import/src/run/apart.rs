//! For tests: a batch whose rows and progress are two transactions, in one order or the other.
use std::{ops::Range, sync::Arc};

use rapport_store::{GAP, Sabotage, TenantTx};

use super::{Run, Trouble};
use crate::{
    collect::{self, Found},
    importable::Importable,
    job::Step,
    rows::Rows,
};

impl<I: Importable> Run<'_, I> {
    /// Whether a test wants it so.
    pub(super) fn is_apart(&self) -> bool {
        matches!(self.writer.job.imports.db().sabotage(), Sabotage::ProgressBefore | Sabotage::ProgressAfter)
    }

    /// Commits what `tx` collected and, separately, the progress.
    pub(super) async fn apart(
        &mut self,
        mut tx: TenantTx,
        rows: &Arc<Rows>,
        range: Range<usize>,
        mut found: Found,
    ) -> Result<Step, Trouble> {
        let end = range.end;
        let written = std::mem::take(&mut found.written);
        if self.writer.job.imports.db().sabotage() == Sabotage::ProgressAfter {
            collect::remember(&mut tx, self.writer.import.id, written).await?;
            tx.finish().await?;
            let tx = self.writer.job.begin().await?;
            tokio::time::sleep(GAP).await;
            return Ok(self.finish(tx, rows, end, found).await?);
        }
        drop(tx);
        let step = self.record(rows, end, found).await?;
        let mut tx = self.writer.job.begin().await?;
        tokio::time::sleep(GAP).await;
        let ready = self.writer.reader.values(&tx, rows, range, None).await?;
        let found = self.writer.collect(&mut tx, rows, ready, &self.seen).await?;
        collect::remember(&mut tx, self.writer.import.id, found.written).await?;
        tx.finish().await?;
        Ok(step)
    }
}
