//! The settings of PostgreSQL, by purpose and by the memory of the machine.

use std::fs;

/// What the data are worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// What was committed is there after a power cut.
    Durable,
    /// For tests: nothing is flushed, and statistics are gathered only by an explicit `ANALYZE`. A crash of the machine
    /// loses everything; a crash of PostgreSQL alone loses nothing that was committed.
    Fast,
}

/// For both profiles. Log lines name no values of rows, which may be personal, and JIT costs more than it gains for short
/// statements.
const COMMON: &str = "\
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
datestyle = 'iso, ymd'
jit = off
random_page_cost = 1.1
log_line_prefix = '%m [%p] %q%d '
log_parameter_max_length_on_error = 0
log_checkpoints = off
unix_socket_permissions = 0777
";

const DURABLE: &str = "\
log_min_error_statement = panic
log_error_verbosity = terse
max_wal_size = 2GB
min_wal_size = 512MB
";

/// Commits are still written out one by one, which costs little without a flush, so that tests may kill PostgreSQL.
/// Shared memory for parallel queries lies in the data folder: a server that is killed for good leaves
/// nothing elsewhere.
const FAST: &str = "\
fsync = off
full_page_writes = off
wal_level = minimal
max_wal_senders = 0
max_wal_size = 512MB
min_wal_size = 64MB
checkpoint_timeout = 30min
autovacuum = off
dynamic_shared_memory_type = mmap
";

/// The text of `postgresql.conf`.
pub(super) fn text(profile: Profile, max_connections: u16, memory_mb: u64) -> String {
    let (own, buffers, cache) = match profile {
        Profile::Durable => (DURABLE, (memory_mb / 8).clamp(32, 1024), memory_mb / 2),
        Profile::Fast => (FAST, (memory_mb / 16).clamp(32, 256), memory_mb / 4),
    };
    let cache = cache.max(64);
    let work = (memory_mb / 1024).clamp(4, 16);
    let maintenance = (memory_mb / 32).clamp(32, 256);
    format!(
        "# Written anew at each start. To change a setting, use ALTER SYSTEM, which stands above this file.\n\
         max_connections = {max_connections}\n\
         shared_buffers = {buffers}MB\n\
         effective_cache_size = {cache}MB\n\
         work_mem = {work}MB\n\
         maintenance_work_mem = {maintenance}MB\n\
         {COMMON}{own}"
    )
}

/// The memory that we may use, in MB: the machine's, or the limit of our control group if that is less.
pub(super) fn memory_mb() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
        line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kb| kb / 1024)
    });
    let limit =
        fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse::<u64>().ok());
    let machine = machine.unwrap_or(1024);
    limit.map_or(machine, |bytes| machine.min(bytes >> 20))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_and_large_machines_get_settings_within_reason() {
        let small = text(Profile::Durable, 100, 256);
        assert!(small.contains("shared_buffers = 32MB\n") && small.contains("work_mem = 4MB\n"), "{small}");
        let large = text(Profile::Durable, 100, 512 * 1024);
        assert!(
            large.contains("shared_buffers = 1024MB\n") && large.contains("work_mem = 16MB\n"),
            "{large}"
        );
    }

    #[test]
    fn only_the_fast_profile_gives_up_durability() {
        assert!(text(Profile::Fast, 400, 8192).contains("fsync = off"));
        let durable = text(Profile::Durable, 200, 8192);
        assert!(!durable.contains("fsync") && !durable.contains("synchronous_commit"));
    }

    #[test]
    fn the_memory_of_this_machine_is_known() {
        assert!(memory_mb() > 64);
    }
}
