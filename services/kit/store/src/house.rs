//! What a service's database needs done unasked: indexes of custom fields are built, statistics of tables that grew are
//! counted anew, old answers are forgotten.
use std::time::Duration;

use rapport_kernel::{Clock, Error};

use crate::{Db, fields::build_indexes};

/// How long it rests when nothing was to do.
const REST: Duration = Duration::from_secs(2);
/// Old answers are looked for every so many rests.
const FORGET_EVERY: u32 = 300;

/// Keeps house for good: idempotent, interruptible anywhere, and harmless when several processes do it at once. `tables`
/// says where each resource with custom fields lies.
///
/// # Errors
/// When the database fails; whoever runs this runs it again after a pause.
pub async fn keep_house(
    db: &Db,
    clock: &Clock,
    tables: &[(&'static str, &'static str)],
) -> Result<(), Error> {
    let mut rests = 0_u32;
    loop {
        if build_indexes(db, clock, tables).await? {
            continue;
        }
        if rests.is_multiple_of(FORGET_EVERY) {
            db.forget_answers(clock.now()).await?;
        }
        db.refresh_statistics().await?;
        tokio::time::sleep(REST).await;
        rests = rests.wrapping_add(1);
    }
}
