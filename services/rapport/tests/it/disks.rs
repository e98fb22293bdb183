//! `rapport up` on disks that are full or read-only: one line says so, nothing half-made stays, and it goes on as soon as the
//! disk will do.
use super::machine::{Machine, Said};

/// What the scripts share. `starts` starts an installation on the disk and stops it when it is ready, `refused` lets it be
/// refused, `made` lists what there is apart from locks, which mean nothing, and from what PostgreSQL and nats-server keep.
const WORDS: &str = r#"
starts() {
  : >said
  # Not through a function: the shell would hear the interrupt, and ignore it.
  "$RAPPORT" up --no-demo --data-dir disk/data >said 2>log &
  for _ in $(seq 600); do
    grep -q '^Rapport is ready' said && break
    kill -0 $! 2>/dev/null || { cat log >&2; return 1; }
    sleep 0.1
  done
  kill -INT $!
  wait $!
}
refused() { if timeout 60 "$RAPPORT" up --data-dir disk/data; then echo "it started"; return 1; fi; }
made() { find disk -not -type d -not -name lock -not -path '*/cluster/data/*' -not -path '*/jetstream/*' | sort; }
mkdir disk
"#;

/// Runs the steps on a machine where `disk` can be mounted. `None` where this user may not mount.
fn on_disk(steps: &str) -> Option<Said> {
    Machine::new().mounting(&format!("{WORDS}{steps}"))
}

#[test]
fn a_disk_without_room_is_named_and_nothing_is_made() {
    let Some(said) = on_disk("mount -t tmpfs -o size=16m tmpfs disk; refused; made") else { return };
    said.complained(&["the disk that holds", "disk/data/", "MB free; at least 160 MB are needed"]);
    assert_eq!(said.out, "", "nothing was made");

    let said = on_disk("mount -t tmpfs -o size=4k,nr_inodes=3 tmpfs disk; refused; made").unwrap();
    said.complained(&["the disk that holds", "disk/data/", "is full"]);
    assert_eq!(said.out, "", "nothing was made");

    let said = on_disk("mount -t tmpfs -o size=4k,nr_inodes=1 tmpfs disk; refused; made").unwrap();
    said.complained(&["disk/data", "No space left on device"]);
}

#[test]
fn an_installation_on_a_disk_that_filled_up_goes_on_when_there_is_room() {
    let steps = r#"
        mount -t tmpfs -o size=300m tmpfs disk
        starts
        made >before
        head -c 300M /dev/zero >disk/filler 2>/dev/null || true
        refused
        rm disk/filler
        made | diff before - && echo "nothing half-made"
        starts && echo "ready again"
    "#;
    let Some(said) = on_disk(steps) else { return };
    said.complained(&["the disk that holds", "disk/data/"]);
    assert_eq!(said.out, "nothing half-made\nready again\n");
}

#[test]
fn a_read_only_disk_is_named_and_the_data_are_left_alone() {
    let steps = r#"
        mount -t tmpfs -o size=300m tmpfs disk
        mount -o remount,ro disk
        refused
    "#;
    let Some(said) = on_disk(steps) else { return };
    said.complained(&["disk/data", "Read-only file system"]);

    let steps = r#"
        mount -t tmpfs -o size=300m tmpfs disk
        starts
        tar c disk | sha256sum >before
        mount -o remount,ro disk
        refused
        tar c disk | sha256sum | diff before - && echo "left alone"
        mount -o remount,rw disk
        starts && echo "ready again"
    "#;
    let said = on_disk(steps).unwrap();
    said.complained(&["disk/data/", "cannot be written: its file system is read-only"]);
    assert_eq!(said.out, "left alone\nready again\n");
}
