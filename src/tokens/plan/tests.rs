//! The life of tokens, against a small world: a seed, a target, machines that boot and a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::tokens::Approval;

const TTL: Duration = Duration::from_secs(600);

/// Everything that tokens touch.
#[derive(Clone)]
struct World {
    stored: Stored,
    live: BTreeMap<String, Live>,
    /// The token that the user data of each slot names.
    published: BTreeMap<String, String>,
    needed: BTreeSet<String>,
    undecided: BTreeSet<String>,
    now: Timestamp,
    issued: u32,
    writes: u32,
    /// User data cannot be written.
    stuck: bool,
}

impl World {
    fn new(slots: &[&str]) -> Self {
        Self {
            stored: Stored::default(),
            live: BTreeMap::new(),
            published: BTreeMap::new(),
            needed: slots.iter().map(|slot| (*slot).to_owned()).collect(),
            undecided: BTreeSet::new(),
            now: Timestamp::from_second(1_000_000).unwrap(),
            issued: 0,
            writes: 0,
            stuck: false,
        }
    }

    fn steps(&self) -> Steps {
        let published: BTreeSet<String> = self.published.values().cloned().collect();
        plan(&self.facts(&published))
    }

    fn facts<'a>(&'a self, published: &'a BTreeSet<String>) -> Facts<'a> {
        Facts {
            stored: &self.stored,
            live: &self.live,
            needed: &self.needed,
            published,
            undecided: &self.undecided,
            ttl: TTL,
            now: self.now,
        }
    }

    fn advance(&mut self, seconds: u64) {
        self.now += SignedDuration::from_secs(seconds.try_into().unwrap());
        // Kubernetes' token cleaner.
        let now = self.now;
        self.live
            .retain(|_, live| live.expires.is_none_or(|end| end > now));
    }

    /// One reconcile that dies after `budget` writes; whether it came to its end.
    fn pass(&mut self, mut budget: u32) -> bool {
        for _ in 0..20 {
            let steps = self.steps();
            if !steps.renew.is_empty() {
                if budget == 0 {
                    return false;
                }
                budget -= 1;
                self.writes += 1;
                for (slot, renewal) in steps.renew {
                    self.issued += 1;
                    let token = Token::new(&format!("{:06}", self.issued), "0123456789abcdef");
                    renew(&mut self.stored, &slot, renewal, token.unwrap(), self.now);
                }
                continue;
            }
            if !steps.ensure.is_empty() {
                for ensure in steps.ensure {
                    if budget == 0 {
                        return false;
                    }
                    budget -= 1;
                    self.writes += 1;
                    let live = Live {
                        expires: Some(ensure.expires),
                        intact: true,
                    };
                    self.live.insert(ensure.token.id().to_owned(), live);
                }
                continue;
            }
            if let Some(done) = self.publish(&mut budget) {
                if !done {
                    return false;
                }
                continue;
            }
            if !steps.revoke.is_empty() {
                for id in steps.revoke {
                    if budget == 0 {
                        return false;
                    }
                    budget -= 1;
                    self.writes += 1;
                    assert!(
                        !self.published.values().any(|named| *named == id),
                        "{id} is named"
                    );
                    self.live.remove(&id);
                }
                continue;
            }
            if let Some(forget) = steps.forget {
                if budget == 0 {
                    return false;
                }
                budget -= 1;
                self.writes += 1;
                for id in self.stored.ids() {
                    let kept = forget.ids().contains(id);
                    assert!(
                        kept || !self.live.contains_key(id),
                        "{id} is forgotten alive"
                    );
                }
                self.stored = forget;
                continue;
            }
            return true;
        }
        panic!("no end: {:?}", self.steps());
    }

    /// Writes user data; `None` when it is all as it should be.
    fn publish(&mut self, budget: &mut u32) -> Option<bool> {
        let named: BTreeSet<String> = self.published.values().cloned().collect();
        let mut wanted = self.published.clone();
        wanted.retain(|slot, _| self.needed.contains(slot));
        for slot in &self.needed {
            let held = self.stored.0.get(slot);
            if let Some(held) = held.filter(|held| is_usable(&self.facts(&named), held)) {
                wanted.insert(slot.clone(), held.current.id().to_owned());
            }
        }
        if wanted == self.published {
            return None;
        }
        for id in wanted.values() {
            if !named.contains(id) {
                assert!(
                    self.live.contains_key(id),
                    "{id} is named before it is there"
                );
            }
        }
        if *budget == 0 || self.stuck {
            return Some(false);
        }
        *budget -= 1;
        self.writes += 1;
        self.published = wanted;
        Some(true)
    }

    fn settle(&mut self) {
        assert!(self.pass(u32::MAX));
        let (writes, issued) = (self.writes, self.issued);
        assert!(self.pass(u32::MAX));
        assert_eq!(
            (self.writes, self.issued),
            (writes, issued),
            "a fixpoint writes nothing"
        );
        for slot in &self.needed {
            let id = &self.published[slot];
            let left = self.live[id].expires.unwrap().duration_since(self.now);
            assert!(left > half(TTL), "{slot}: {left:?}");
        }
        for (slot, id) in &self.published {
            assert!(
                self.needed.contains(slot) && self.live.contains_key(id),
                "{slot}"
            );
        }
    }
}

#[test]
fn a_token_of_a_listed_machine_is_kept_alive_until_it_has_joined() {
    let mut world = World::new(&["w-1", "w-2"]);
    world.settle();
    let first = world.published["w-1"].clone();
    for _ in 0..30 {
        world.advance(TTL.as_secs() / 4);
        world.settle();
    }
    assert_eq!(
        world.published["w-1"], first,
        "three TTLs later it is the same"
    );
    assert_eq!(world.issued, 2);
    world.needed.remove("w-1");
    world.settle();
    assert_eq!(world.live.len(), 1, "it is gone");
    assert!(!world.stored.0.contains_key("w-1"), "and forgotten");
}

#[test]
fn nothing_is_written_between_two_renewals() {
    let mut world = World::new(&["w-1", SHARED]);
    world.settle();
    let before = world.writes;
    for _ in 0..29 {
        world.advance(10);
        world.settle();
    }
    assert_eq!(world.writes, before);
    world.advance(10);
    world.settle();
    assert!(world.writes > before);
}

#[test]
fn what_is_deleted_by_hand_or_by_the_clock_comes_back_as_it_was() {
    let mut world = World::new(&["w-1", SHARED]);
    world.settle();
    let (named, issued) = (world.published.clone(), world.issued);
    world.live.clear();
    world.settle();
    assert_eq!((&world.published, world.issued), (&named, issued));
    // The operator is dead for two TTLs, and machines wait with what they have.
    world.advance(2 * TTL.as_secs());
    assert!(world.live.is_empty());
    world.settle();
    for id in named.values() {
        assert!(world.live.contains_key(id), "a machine may wait with {id}");
    }
}

#[test]
fn a_shared_token_is_replaced_past_half_its_life_and_stays_for_one_ttl() {
    let mut world = World::new(&[SHARED]);
    world.settle();
    let first = world.published[SHARED].clone();
    world.advance(TTL.as_secs() / 2);
    world.settle();
    let second = world.published[SHARED].clone();
    assert_ne!(first, second);
    let until = world.live[&first].expires.unwrap();
    assert_eq!(until.duration_since(world.now), signed(TTL));
    world.advance(TTL.as_secs() / 2);
    world.settle();
    assert_ne!(world.published[SHARED], second);
    assert_eq!(world.live.len(), 3, "two overlap with the third");
    world.advance(TTL.as_secs() / 2 - 1);
    assert!(world.live.contains_key(&first));
    world.advance(1);
    world.settle();
    assert!(!world.live.contains_key(&first), "and no longer");
}

#[test]
fn a_granted_machine_that_never_came_gets_another_token() {
    let mut world = World::new(&["w-1"]);
    world.settle();
    let first = world.published["w-1"].clone();
    let approval = Approval {
        request: "node-csr-1".to_owned(),
        uid: "1".to_owned(),
        at: world.now,
    };
    world.stored.0.get_mut("w-1").unwrap().approval = Some(approval);
    world.undecided.insert("1".to_owned());
    world.advance(2 * TTL.as_secs());
    world.settle();
    assert_eq!(
        world.published["w-1"], first,
        "its request still waits for the answer"
    );
    world.undecided.clear();
    world.settle();
    assert_ne!(world.published["w-1"], first);
    assert!(!world.live.contains_key(&first));
}

#[test]
fn a_token_that_user_data_cannot_let_go_lives_on() {
    let mut world = World::new(&[SHARED]);
    world.settle();
    let named = world.published[SHARED].clone();
    world.advance(TTL.as_secs() / 2);
    world.stuck = true;
    for _ in 0..20 {
        assert!(!world.pass(u32::MAX), "it cannot be written");
        world.advance(TTL.as_secs() / 2 - 1);
        assert!(world.live.contains_key(&named));
    }
    world.stuck = false;
    world.settle();
    assert_ne!(world.published[SHARED], named);
    world.advance(1);
    world.settle();
    assert!(!world.live.contains_key(&named));
}

#[test]
fn tokens_that_somebody_changed_are_put_back() {
    let mut world = World::new(&["w-1"]);
    world.settle();
    let id = world.published["w-1"].clone();
    let lasting = world.now + SignedDuration::from_hours(1000);
    for (expires, intact) in [
        (None, true),
        (Some(lasting), true),
        (Some(world.now), false),
    ] {
        world.live.insert(id.clone(), Live { expires, intact });
        world.settle();
        let live = world.live[&id];
        assert!(live.intact && live.expires < Some(lasting));
    }
}

#[derive(Clone, Debug)]
enum Event {
    Pass(u32),
    Advance(u64),
    DeleteByHand(usize),
    Need(bool, usize),
    Grant(usize, bool),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0_u32..8).prop_map(Event::Pass),
        3 => (0_u64..900).prop_map(Event::Advance),
        1 => (0_usize..9).prop_map(Event::DeleteByHand),
        1 => (any::<bool>(), 0_usize..4).prop_map(|(on, slot)| Event::Need(on, slot)),
        1 => (0_usize..4, any::<bool>()).prop_map(|(slot, on)| Event::Grant(slot, on)),
    ]
}

proptest! {
    /// Whatever happens and wherever the operator dies, it never names a token that is not there,
    /// never takes one away that is named, and comes to rest. `World` asserts it at every write.
    #[test]
    fn user_data_never_names_a_token_that_is_not_there(events in prop::collection::vec(event(), 0..40)) {
        let slots = ["w-1", "w-2", "w-3", SHARED];
        let mut world = World::new(&slots);
        for event in events {
            match event {
                Event::Pass(budget) => { world.pass(budget); }
                Event::Advance(seconds) => world.advance(seconds),
                Event::DeleteByHand(index) => {
                    let id = world.live.keys().nth(index).cloned();
                    world.live.remove(&id.unwrap_or_default());
                }
                Event::Need(true, slot) => { world.needed.insert(slots[slot].to_owned()); }
                Event::Need(false, slot) => { world.needed.remove(slots[slot]); }
                Event::Grant(slot, on) => {
                    let approval = Approval { request: "r".into(), uid: "u".into(), at: world.now };
                    if let Some(held) = world.stored.0.get_mut(slots[slot]) {
                        held.approval = on.then_some(approval);
                    }
                }
            }
        }
        world.settle();
        // One TTL after nothing is needed any more, nothing is left.
        world.needed.clear();
        world.settle();
        world.advance(TTL.as_secs());
        world.settle();
        prop_assert!(world.live.is_empty() && world.stored.0.is_empty());
    }

    /// An operator that looks often enough never lets user data name a token that has expired.
    #[test]
    fn an_operator_that_is_there_in_time_lets_no_token_expire(pauses in prop::collection::vec(1_u64..290, 1..60)) {
        let mut world = World::new(&["w-1", SHARED]);
        world.settle();
        for pause in pauses {
            world.advance(pause);
            for id in world.published.values() {
                prop_assert!(world.live.contains_key(id));
            }
            world.settle();
        }
    }
}
