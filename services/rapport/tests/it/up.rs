//! `rapport up`: once, again, beside another, and after a crash.
use std::process::Command;

use super::installation::{Installation, RAPPORT, get, scratch};

fn customers(installation: &Installation) -> usize {
    get(installation, "/v1/customers?pageSize=200")["customers"].as_array().unwrap().len()
}

#[test]
fn a_second_start_finds_the_data_again() {
    let scratch = scratch();
    let folder = scratch.path().join("one");
    let first = Installation::start(&folder);
    assert_eq!(customers(&first), 60);
    let key = first.text("apiKey");
    first.stop();

    let second = Installation::start(&folder);
    assert_eq!(second.text("apiKey"), key);
    assert_eq!(customers(&second), 60);
    // As if the power had gone: nothing is told to stop.
    second.kill();
    let third = Installation::start(&folder);
    assert_eq!(customers(&third), 60);
    third.stop();
}

#[test]
fn two_run_beside_each_other_and_one_folder_is_taken_once() {
    let scratch = scratch();
    let one = Installation::start(&scratch.path().join("one"));
    let two = Installation::start(&scratch.path().join("two"));
    assert_ne!(one.text("url"), two.text("url"));
    assert_eq!((customers(&one), customers(&two)), (60, 60));

    let third = Command::new(RAPPORT).args(["up", "--data-dir"]).arg(&one.folder).output().unwrap();
    assert!(!third.status.success());
    let said = String::from_utf8(third.stderr).unwrap();
    assert!(said.contains("in use"), "{said}");
    one.stop();
    two.stop();
}

#[test]
fn a_file_in_the_way_of_the_data_folder_is_named() {
    let scratch = scratch();
    let file = scratch.path().join("file");
    std::fs::write(&file, "").unwrap();
    let refused = Command::new(RAPPORT).args(["up", "--data-dir"]).arg(&file).output().unwrap();
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success() && said.contains("cannot be used"), "{said}");
}
