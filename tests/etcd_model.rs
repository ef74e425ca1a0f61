//! The model that `membership_search` walks through, played against real etcd: random walks of
//! faults, repairs and changes of membership, wise or not, with every answer compared.
//!
//! `SEEDBED_MODEL_SEED=7` repeats one walk and tells it step by step, `SEEDBED_MODEL_WALKS=1000`
//! takes that many.
#![allow(
    clippy::disallowed_methods,
    reason = "tests of real processes wait for them"
)]

#[path = "testbed/mod.rs"]
mod testbed;

#[path = "support/etcd_rules.rs"]
mod etcd_rules;
#[path = "membership_search/fast.rs"]
mod fast;
#[path = "membership_search/operator.rs"]
#[allow(dead_code, reason = "shared with the search")]
mod operator;
#[path = "membership_search/state.rs"]
#[allow(dead_code, reason = "shared with the search")]
mod state;
#[path = "membership_search/world.rs"]
#[allow(dead_code, reason = "shared with the search")]
mod world;

#[path = "etcd_model/alarm.rs"]
mod alarm;
#[path = "etcd_model/cluster.rs"]
mod cluster;
#[path = "etcd_model/compare.rs"]
mod compare;
#[path = "etcd_model/gone.rs"]
mod gone;
#[path = "etcd_model/walk/mod.rs"]
mod walk;

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use compare::Counts;
use testbed::StateDir;
use testbed::progress::say;

/// Walks of one run, unless `SEEDBED_MODEL_WALKS` says otherwise.
const WALKS: u64 = 200;
/// How many at the same time: they mostly wait.
const PARALLEL: u8 = 12;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// Whatever happens, etcd answers as the model says, lists whom the model lists, and has a leader
/// exactly when the model has one.
#[test]
fn etcd_answers_as_the_model_says() {
    let state = StateDir::for_test("etcd-model").expect("a state folder");
    let one = number("SEEDBED_MODEL_SEED");
    let first = one.unwrap_or_else(|| rand::random_range(0..1_000_000_000));
    let walks = match one {
        Some(_) => 1,
        None => number("SEEDBED_MODEL_WALKS").unwrap_or(WALKS),
    };
    say(&format!("etcd_model: {walks} walks from seed {first}"));
    let began = Instant::now();
    let next = AtomicU64::new(first);
    let (counts, failed) = (Mutex::new(Counts::default()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for place in 0..PARALLEL {
            let (state, next, counts, failed) = (&state, &next, &counts, &failed);
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + walks {
                        break;
                    }
                    let walked = walk::walk(state, place, seed);
                    if one.is_some() || walked.difference.is_some() {
                        say(&walked.told());
                    }
                    counts.lock().expect("counts").add(&walked.counts);
                    if let Some(difference) = walked.difference {
                        let mut failed = failed.lock().expect("failures");
                        failed.push(format!("seed {seed}: {difference}"));
                    }
                }
            });
        }
    });
    let (counts, failed) = (counts.into_inner(), failed.into_inner());
    let (counts, failed) = (counts.expect("counts"), failed.expect("failures"));
    say(&format!(
        "etcd_model: {walks} walks, {counts}, {} differences, {} s",
        failed.len(),
        began.elapsed().as_secs()
    ));
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(
        one.is_some() || counts.is_telling(),
        "too little was compared: {counts}"
    );
}

/// Alarms about damaged data leave reads and changes of membership possible: the member that is
/// named can be told, and replaced.
#[test]
fn a_corrupt_alarm_names_its_member_and_stops_neither_reads_nor_changes() {
    let state = StateDir::for_test("etcd-alarm").expect("a state folder");
    alarm::corrupt(&state);
}

/// A member that has joined others and leads them is seen to hear from all, and to miss the one that
/// led when it joined.
#[test]
fn a_joined_leader_misses_the_one_that_led_when_it_joined() {
    let state = StateDir::for_test("etcd-gone").expect("a state folder");
    gone::missed(&state);
}
