//! Removing what killed processes left in a folder: uploads that were never finished, `<id>#<number>` beside their place.
//!
//! In S3 a lifecycle rule of the bucket does this.
use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use rapport_kernel::Instant;

/// No upload takes longer, in seconds.
const LONGEST: i64 = 24 * 60 * 60;

/// Removes unfinished uploads that nobody can be writing any more. What cannot be removed stays: it hurts nobody.
pub(crate) fn remove(root: &Path, now: Instant) {
    let newest =
        UNIX_EPOCH + Duration::from_secs(u64::try_from(now.plus_seconds(-LONGEST).as_seconds()).unwrap_or(0));
    for tenant in entries(root) {
        for area in entries(&tenant) {
            for file in entries(&area) {
                if is_unfinished(&file)
                    && modified(&file).is_ok_and(|time| time < newest)
                    && let Err(error) = fs::remove_file(&file)
                {
                    tracing::warn!(error = %error, "an unfinished file could not be removed");
                }
            }
        }
    }
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
}

fn is_unfinished(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.rsplit_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn modified(file: &Path) -> io::Result<std::time::SystemTime> {
    fs::metadata(file)?.modified()
}
