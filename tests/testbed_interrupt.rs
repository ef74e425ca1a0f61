//! The testbed when it is interrupted or killed: whatever it had started goes away.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and waits for real processes"
)]

#[path = "testbed/mod.rs"]
mod testbed;

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use testbed::seed::Options;
use testbed::{Seed, StateDir, process, up};

const LIMIT: Duration = Duration::from_secs(180);
const NAME: &str = "SEEDBED_INTERRUPT_TEST_NAME";

/// Starts one of the `child_` tests below as a process of its own.
fn start(test: &str, name: &str) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test])
        .env(NAME, name)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Waits until the child has started the process `process`; returns all that it has started.
fn started(name: &str, process: &str, child: &mut Child) -> Vec<i32> {
    let mut pids = Vec::new();
    let deadline = Instant::now() + LIMIT;
    loop {
        assert!(Instant::now() < deadline, "{process} was not started");
        assert!(child.try_wait().unwrap().is_none(), "the child has ended");
        // A record may be half written at this moment.
        if let Some(state) = StateDir::existing(name).unwrap()
            && let Ok(all) = process::recorded(&state)
        {
            pids.extend(all.iter().map(|p| p.pid));
            if all.iter().any(|p| p.name == process) {
                return pids;
            }
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn ended(child: &mut Child) -> ExitStatus {
    wait_until("the child ends", || !is_alive(child.id()));
    child.wait().unwrap()
}

fn is_alive(pid: impl std::fmt::Display) -> bool {
    // A process that has ended stays visible until its parent has asked for its status.
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|text| {
        text.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.starts_with(" Z"))
    })
}

#[test]
#[ignore = "started by the tests below, which interrupt it"]
fn child_up() {
    let name = std::env::var(NAME).unwrap();
    let error = up::up(&name, 0).unwrap_err();
    assert!(format!("{error:#}").contains("interrupted"), "{error:#}");
}

#[test]
#[ignore = "started by the tests below, which kill it"]
fn child_seed() {
    let state = StateDir::for_test(&std::env::var(NAME).unwrap()).unwrap();
    let _seed = Seed::start_blocking(&state, &Options::default()).unwrap();
    loop {
        std::thread::park();
    }
}

#[test]
fn interrupted_while_coming_up_nothing_is_left_running() {
    for (program, stop) in [("etcd", Signal::INT), ("kube-apiserver", Signal::TERM)] {
        let name = format!("interrupt-{}", std::process::id());
        let mut child = start("child_up", &name);
        let pids = started(&name, program, &mut child);
        signal(&child, stop);
        assert!(ended(&mut child).success(), "interrupted at {program}");
        assert!(!pids.iter().any(is_alive), "interrupted at {program}");
        let state = StateDir::named(&name).unwrap();
        assert!(
            process::recorded(&state).unwrap().is_empty(),
            "interrupted at {program}"
        );
        state.remove().unwrap();
        std::fs::remove_file(state.path().with_extension("lock")).unwrap();
    }
}

#[test]
fn a_killed_test_takes_its_processes_along_and_the_next_run_its_folder() {
    let prefix = format!("killed-{}", std::process::id());
    let mut child = start("child_seed", &prefix);
    let name = format!("{prefix}-{}-0", child.id());
    let pids = started(&name, "kube-controller-manager", &mut child);
    signal(&child, Signal::KILL);
    ended(&mut child);
    wait_until("its processes end", || !pids.iter().any(is_alive));
    let folder = StateDir::existing(&name)
        .unwrap()
        .unwrap()
        .path()
        .to_owned();
    drop(StateDir::for_test(&prefix).unwrap());
    assert!(!folder.exists());
}
