//! Conditions as others read them: the verdict of kstatus, and the list in docs/conditions.md.

#[path = "support/kstatus.rs"]
mod kstatus;

use std::path::Path;

use jiff::Timestamp;
use kstatus::{Verdict, verdict};
use proptest::prelude::*;
use proptest::sample::select;
use seedbed::controllers::conditions::{
    AVAILABLE, Conditions, ETCD_HEALTHY, READY, REASONS, RECONCILING, Reason, STALLED, State, TYPES,
};
use serde_json::{Value, json};

const NEEDED: [&str; 2] = [AVAILABLE, ETCD_HEALTHY];

fn types() -> Vec<&'static str> {
    TYPES.iter().map(|(name, _)| *name).collect()
}

fn object(conditions: Conditions, generation: i64) -> Value {
    let now = Timestamp::from_second(1_800_000_000).expect("in range");
    let stored = conditions.merged(&[], Some(2), now);
    json!({
        "metadata": {"generation": generation},
        "status": {"observedGeneration": 2, "conditions": stored},
    })
}

#[test]
fn the_first_visit_is_never_taken_for_done() {
    let mut conditions = Conditions::unknown(&types());
    conditions.set_ready(&NEEDED);
    assert_eq!(verdict(&object(conditions, 2)), Verdict::InProgress);
}

#[test]
fn a_status_of_an_older_spec_is_never_taken_for_done() {
    let mut conditions = Conditions::unknown(&types());
    for needed in NEEDED {
        conditions.set(needed, true, Reason::AsDesired, "");
    }
    conditions.set_ready(&NEEDED);
    assert_eq!(verdict(&object(conditions.clone(), 2)), Verdict::Current);
    assert_eq!(verdict(&object(conditions, 3)), Verdict::InProgress);
}

#[test]
fn the_rule_is_that_of_kstatus() {
    let with = |name: &str, status: &str| json!({"metadata": {}, "status": {"conditions": [{"type": name, "status": status}]}});
    assert_eq!(verdict(&with("Reconciling", "True")), Verdict::InProgress);
    assert_eq!(verdict(&with("Stalled", "True")), Verdict::Failed);
    assert_eq!(verdict(&with("Ready", "False")), Verdict::InProgress);
    assert_eq!(verdict(&with("Ready", "Unknown")), Verdict::InProgress);
    assert_eq!(verdict(&with("Ready", "True")), Verdict::Current);
    assert_eq!(verdict(&json!({"metadata": {}})), Verdict::Current);
    let deleted = json!({"metadata": {"deletionTimestamp": "2026-11-22T07:00:00Z"}});
    assert_eq!(verdict(&deleted), Verdict::Terminating);
}

proptest! {
    /// Whatever the single conditions are, tools and people read the same: done exactly if Ready.
    #[test]
    fn done_is_said_exactly_when_it_is_ready(
        states in proptest::collection::vec(
            select(&[State::True, State::False, State::Unknown][..]),
            TYPES.len(),
        ),
        reason in select(REASONS),
    ) {
        let mut conditions = Conditions::unknown(&types());
        for (name, state) in types().into_iter().zip(states) {
            conditions.set(name, state, reason.0, "text");
        }
        conditions.set_ready(&NEEDED);
        let ready = conditions.state(READY);
        let whole = NEEDED.iter().all(|needed| conditions.state(needed) == Some(State::True));
        let stalled = conditions.state(STALLED) == Some(State::True);
        let reconciling = conditions.state(RECONCILING) == Some(State::True);
        let said = verdict(&object(conditions, 2));
        prop_assert_eq!(said == Verdict::Current, ready == Some(State::True));
        prop_assert!(said != Verdict::Current || (whole && !stalled && !reconciling));
        prop_assert_eq!(said == Verdict::Failed, stalled && !reconciling);
    }
}

#[test]
fn names_are_single_words_in_camel_case() {
    let reasons = REASONS
        .iter()
        .map(|(reason, meaning)| (reason.as_str(), *meaning));
    for (name, meaning) in reasons.chain(TYPES.iter().copied()) {
        assert!(name.starts_with(|c: char| c.is_ascii_uppercase()), "{name}");
        assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
        assert!(meaning.trim().ends_with('.'), "{name}: {meaning}");
    }
}

#[test]
fn docs_list_every_type_and_reason() {
    let mut text = "\
<!-- Generated from src/controllers/conditions.rs by `UPDATE=1 cargo test --test conditions`; do not edit. -->
# Conditions

Every object has all conditions of its kind from the first look on; what is not known yet is `Unknown`.
`Reconciling`, `Stalled` and `Paused` are true when something is out of the ordinary. `Ready` follows
from the others: it is true when the object is neither paused nor stalled nor being worked on, and what
it needs is in order. kstatus, Flux and `kubectl wait --for=condition=Ready` come to the same verdict.

## Types

| Type | True means |
|---|---|
"
    .to_owned();
    for (name, meaning) in TYPES {
        text += &format!("| `{name}` | {} |\n", meaning.trim());
    }
    text += "\n## Reasons\n\n| Reason | Meaning |\n|---|---|\n";
    for (reason, meaning) in REASONS {
        text += &format!("| `{}` | {} |\n", reason.as_str(), meaning.trim());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/conditions.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).expect("can be written");
    }
    let stored = std::fs::read_to_string(&path).expect("docs/conditions.md; run with UPDATE=1");
    assert_eq!(stored, text, "run with UPDATE=1");
}
