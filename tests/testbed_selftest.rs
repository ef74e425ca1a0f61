//! The testbed itself: what it starts it also ends.

#[path = "testbed/mod.rs"]
mod testbed;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use testbed::process::{self, Spawn};
use testbed::{Process, StateDir};

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("600");
    command
}

fn gone(pid: i32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists()
}

#[test]
fn dropping_the_state_ends_processes_undoes_acts_and_removes_the_folder() {
    let state = StateDir::for_test("selftest-drop").unwrap();
    let (path, witness) = (state.path().to_owned(), tempfile::tempdir().unwrap());
    let first = witness.path().join("first");
    std::fs::create_dir(&first).unwrap();
    // Undone last first: the inner folder has to go before the outer one can.
    state
        .undo_later(&["rmdir", witness.path().to_str().unwrap()])
        .unwrap();
    state
        .undo_later(&["rmdir", first.to_str().unwrap()])
        .unwrap();
    let process = Process::spawn(&state, "sleeper", &sleeper(), &Spawn::default()).unwrap();
    let pid = process.pid();
    assert!(process.is_running());
    assert!(process::recorded(&state).unwrap()[0].running);
    drop(state);
    assert!(!gone(pid), "the process keeps the state alive");
    drop(process);
    assert!(gone(pid));
    assert!(!path.exists());
    assert!(!witness.path().exists());
}

#[test]
fn a_process_that_ignores_sigterm_is_killed_after_its_grace_period() {
    let state = StateDir::for_test("selftest-stubborn").unwrap();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "trap '' TERM; echo ready; while :; do sleep 0.1; done",
    ]);
    let how = Spawn {
        grace: Duration::from_millis(300),
        ..Spawn::default()
    };
    let process = Process::spawn(&state, "stubborn", &command, &how).unwrap();
    while !process.log_tail().contains("ready") {
        process.check().unwrap();
        std::thread::sleep(Duration::from_millis(10));
    }
    process.stop().unwrap();
    assert!(gone(process.pid()));
    assert!(process::recorded(&state).unwrap().is_empty());
}

#[test]
fn a_recycled_process_id_is_left_alone() {
    let state = StateDir::for_test("selftest-recycled").unwrap();
    let process = Process::spawn(&state, "bystander", &sleeper(), &Spawn::default()).unwrap();
    let file = state.join("processes/bystander.json");
    let text = std::fs::read_to_string(&file).unwrap();
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["start_time"] = serde_json::json!(1);
    std::fs::write(&file, record.to_string()).unwrap();
    assert!(!process::recorded(&state).unwrap()[0].running);
    state.down().unwrap();
    assert!(
        process.is_running(),
        "only the recorded process may be stopped"
    );
    process.kill().unwrap();
}

#[test]
fn a_process_outlives_the_thread_that_asked_for_it() {
    let state = StateDir::for_test("selftest-thread").unwrap();
    let process = std::thread::scope(|scope| {
        scope
            .spawn(|| Process::spawn(&state, "sleeper", &sleeper(), &Spawn::default()).unwrap())
            .join()
            .unwrap()
    });
    // Long enough for a death signal that came with the thread's end to arrive.
    std::thread::sleep(Duration::from_millis(200));
    process.check().unwrap();
}

#[test]
fn a_program_that_does_not_exist_is_an_error_with_its_log() {
    let state = StateDir::for_test("selftest-missing").unwrap();
    let command = Command::new("/nonexistent/program");
    let process = Process::spawn(&state, "missing", &command, &Spawn::default()).unwrap();
    while process.is_running() {
        std::thread::sleep(Duration::from_millis(10));
    }
    let error = process.check().unwrap_err().to_string();
    assert!(error.contains("/nonexistent/program"), "{error}");
}

#[test]
fn a_failed_command_shows_the_end_of_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "seq 1 100; exit 3"]);
    let error = testbed::progress::run("counting", &command, &dir.path().join("log"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("\n100") && !error.contains("\n70\n"),
        "{error}"
    );
}

#[test]
fn names_that_could_leave_the_cache_are_refused() {
    for name in ["", "../up", "Upper", "a b", "a/b"] {
        assert!(StateDir::named(name).is_err(), "{name:?}");
    }
}
