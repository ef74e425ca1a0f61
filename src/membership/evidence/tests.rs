//! Each rule of etcd-membership C, by rounds of answers at chosen seconds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::domain::{ClusterId, MemberId};
use crate::membership::facts::Loss;
use crate::membership::goal::Candidate;
use crate::membership::plan;
use crate::membership::round::Recorded;
use crate::membership::snapshot::{Answer, ListedMember};

const TIMEOUT: u64 = 300;
/// The member that things happen to; 1 leads.
const THIRD: u64 = 3;

/// Three members and a spare machine; what the next round will bring.
#[derive(Clone)]
struct Scene {
    goal: Goal,
    ledger: Recorded,
    /// Members that do not answer.
    silent: BTreeSet<u64>,
    /// Whether machines answer that are asked.
    machines: BTreeMap<String, bool>,
    /// Who answers about its connections, and whom it sees besides everybody that answers.
    sees: BTreeMap<u64, BTreeSet<u64>>,
    learner: Option<u64>,
    errors: Vec<String>,
    /// Seconds from the first question to the last answer.
    took: u64,
    memory: Memory,
}

fn name(member: u64) -> String {
    format!("cp-{member}")
}

fn url(member: u64) -> String {
    format!("https://198.18.0.1{member}:2380")
}

fn moment(second: u64) -> Timestamp {
    let start: Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
    start + Duration::from_secs(second)
}

impl Scene {
    fn new() -> Self {
        let candidate = |member| Candidate {
            name: name(member),
            peer_url: url(member),
            ..Candidate::default()
        };
        let recorded = |member| RecordedMember {
            machine: name(member),
            name: name(member),
            peer_url: url(member),
            id: Some(MemberId(member)),
            guarded: true,
            silent_since: None,
        };
        Self {
            goal: Goal {
                size: 3,
                machines: (1..=4).map(candidate).collect(),
                remove_lost: true,
            },
            ledger: Recorded {
                cluster_id: Some(ClusterId(0xc1)),
                members: (1..=3).map(recorded).collect(),
                ..Recorded::default()
            },
            silent: BTreeSet::new(),
            machines: BTreeMap::new(),
            sees: BTreeMap::from([(1, BTreeSet::new()), (2, BTreeSet::new())]),
            learner: None,
            errors: Vec::new(),
            took: 0,
            memory: Memory::default(),
        }
    }

    /// Neither the third member nor its machine answers, and no member sees it.
    fn dark() -> Self {
        let mut scene = Self::new();
        scene.round(0);
        scene.silence(THIRD);
        scene.machines.insert(name(THIRD), false);
        scene
    }

    fn silence(&mut self, member: u64) {
        self.silent.insert(member);
        self.sees.remove(&member);
    }

    fn candidate(&mut self, member: u64) -> &mut Candidate {
        let machines = &mut self.goal.machines;
        machines
            .iter_mut()
            .find(|m| m.name == name(member))
            .unwrap()
    }

    fn answer(&self, member: u64) -> Answer {
        let listed = |member| ListedMember {
            id: MemberId(member),
            name: name(member),
            peer_urls: vec![url(member)],
            client_urls: vec![url(member)],
            is_learner: self.learner == Some(member),
        };
        Answer {
            cluster_id: ClusterId(0xc1),
            member_id: MemberId(member),
            leader: Some(MemberId(1)),
            raft_term: 2,
            raft_index: 100,
            raft_applied_index: 100,
            db_size_bytes: 20_480,
            version: "3.7.0".to_owned(),
            is_learner: self.learner == Some(member),
            errors: self.errors.clone(),
            members: if self.learner == Some(member) {
                Err("a learner has no list".to_owned())
            } else {
                Ok((1..=3).map(listed).collect())
            },
        }
    }

    /// A round that ends at this second.
    fn round(&mut self, second: u64) -> Facts {
        let view = |member: u64| MemberView {
            name: name(member),
            machine: name(member),
            peer_url: url(member),
            answer: if self.silent.contains(&member) {
                Err("no answer".to_owned())
            } else {
                Ok(self.answer(member))
            },
        };
        let snapshot = Snapshot {
            members: (1..=3).map(view).collect(),
        };
        let answering = (1..=3).filter(|member| !self.silent.contains(member));
        let sees = self.sees.iter().map(|(member, others)| {
            let seen = answering
                .clone()
                .chain(others.iter().copied())
                .map(MemberId);
            (MemberId(*member), seen.collect())
        });
        evidence(
            &Round {
                asked_at: moment(second.saturating_sub(self.took)),
                now: moment(second),
                goal: self.goal.clone(),
                ledger: &self.ledger,
                pending: None,
                called_at: None,
                snapshot: &snapshot,
                machines: &self.machines,
                sees: &sees.collect(),
                loss_timeout: Duration::from_secs(TIMEOUT),
                snapshot_verified_at: None,
            },
            &mut self.memory,
        )
    }

    /// Rounds every 15 seconds, the last one at `to`.
    fn rounds(&mut self, from: u64, to: u64) -> Facts {
        for second in (from..to).step_by(15) {
            self.round(second);
        }
        self.round(to)
    }
}

fn loss(facts: &Facts) -> Option<Loss> {
    facts.member(MemberId(THIRD)).unwrap().loss.clone()
}

fn is_silence(facts: &Facts) -> bool {
    matches!(loss(facts), Some(Loss::Silent { too_soon: None, .. }))
}

#[test]
fn silence_is_evidence_after_the_timeout_and_not_before() {
    let mut scene = Scene::dark();
    assert_eq!(loss(&scene.rounds(15, 15 + TIMEOUT - 1)), None);
    assert!(is_silence(&scene.round(15 + TIMEOUT)));
    // Any sign of life ends it, and the time begins anew.
    scene.machines.insert(name(THIRD), true);
    assert_eq!(loss(&scene.round(330)), None);
    scene.machines.insert(name(THIRD), false);
    assert_eq!(loss(&scene.rounds(345, 345 + TIMEOUT - 1)), None);
    assert!(is_silence(&scene.round(345 + TIMEOUT)));
}

/// A Node that is NotReady or gone is a kubelet that does not answer: that alone is nothing, as
/// long as etcd answers; Nodes are not looked at.
#[test]
fn a_silent_machine_whose_member_answers_is_not_lost() {
    let mut scene = Scene::dark();
    scene.silent.clear();
    let facts = scene.rounds(15, 2 * TIMEOUT);
    assert_eq!(loss(&facts), None);
    assert!(facts.member(MemberId(THIRD)).unwrap().healthy());
}

#[test]
fn a_silent_member_whose_machine_answers_is_not_lost() {
    let mut scene = Scene::dark();
    scene.machines.insert(name(THIRD), true);
    let facts = scene.rounds(15, 2 * TIMEOUT);
    assert_eq!(loss(&facts), None);
    assert!(!facts.member(MemberId(THIRD)).unwrap().healthy());
}

#[test]
fn what_the_leader_sees_is_not_lost_whatever_others_see() {
    let mut scene = Scene::dark();
    scene.sees.insert(1, BTreeSet::from([THIRD]));
    assert_eq!(
        loss(&scene.rounds(15, 2 * TIMEOUT)),
        None,
        "the leader sees it"
    );
    // A follower's view may be minutes old, and does not count beside the leader's.
    scene.sees = BTreeMap::from([(1, BTreeSet::new()), (2, BTreeSet::from([THIRD]))]);
    assert!(is_silence(&scene.round(2 * TIMEOUT + 15)));
    // Without the leader's word, one that sees it is enough to keep it.
    scene.sees.remove(&1);
    assert_eq!(loss(&scene.round(2 * TIMEOUT + 30)), None);
    scene.sees.insert(2, BTreeSet::new());
    assert!(is_silence(&scene.round(2 * TIMEOUT + 45)));
    // And nobody's word is no evidence.
    scene.sees.clear();
    assert_eq!(loss(&scene.round(2 * TIMEOUT + 60)), None);
}

#[test]
fn a_machine_that_was_taken_out_is_lost_when_it_is_silent_for_30_seconds() {
    let mut scene = Scene::new();
    scene.goal.machines.remove(2);
    let facts = scene.rounds(0, TIMEOUT);
    assert_eq!(loss(&facts), None, "it answers");
    assert!(facts.member(MemberId(THIRD)).unwrap().leaving.is_some());
    scene.silence(THIRD);
    assert_eq!(loss(&scene.rounds(315, 344)), None);
    assert!(matches!(loss(&scene.round(345)), Some(Loss::TakenOut(_))));
    scene.sees.insert(1, BTreeSet::from([THIRD]));
    assert_eq!(loss(&scene.round(360)), None, "the leader sees it");
}

#[test]
fn a_confirmed_machine_is_lost_when_it_is_silent_for_30_seconds() {
    let mut scene = Scene::new();
    scene.candidate(THIRD).marks.lost = Some("powered off".to_owned());
    assert_eq!(loss(&scene.rounds(0, TIMEOUT)), None, "it answers");
    scene.silence(THIRD);
    assert_eq!(loss(&scene.rounds(315, 344)), None);
    let confirmed = Some(Loss::Confirmed("powered off".to_owned()));
    assert_eq!(loss(&scene.round(345)), confirmed);
    scene.sees.insert(1, BTreeSet::from([THIRD]));
    assert_eq!(loss(&scene.round(360)), None, "the leader sees it");
}

#[test]
fn a_requested_release_needs_the_silence_of_the_machine_too() {
    let mut scene = Scene::dark();
    scene.candidate(THIRD).marks.release_requested = Some("maintenance".to_owned());
    scene.machines.insert(name(THIRD), true);
    let facts = scene.rounds(15, 150);
    assert_eq!(loss(&facts), None, "the machine answers");
    assert!(facts.member(MemberId(THIRD)).unwrap().leaving.is_some());
    scene.machines.insert(name(THIRD), false);
    assert_eq!(loss(&scene.rounds(165, 194)), None);
    assert!(matches!(loss(&scene.round(195)), Some(Loss::TakenOut(_))));
}

#[test]
fn an_announced_disk_and_a_named_corruption_need_no_silence() {
    let mut scene = Scene::new();
    scene.candidate(THIRD).marks.reimaged = true;
    assert_eq!(loss(&scene.round(0)), Some(Loss::Reimaged));
    let mut scene = Scene::new();
    scene.errors = vec!["memberID:2 alarm:CORRUPT ".to_owned()];
    assert_eq!(loss(&scene.round(0)), None, "another one is named");
    scene.errors = vec!["memberID:3 alarm:NOSPACE ".to_owned()];
    assert_eq!(loss(&scene.round(15)), None, "its disk is full");
    scene.errors = vec!["memberID:3 alarm:CORRUPT ".to_owned()];
    assert_eq!(loss(&scene.round(30)), Some(Loss::Corrupt));
    scene.errors = vec!["memberID:0 alarm:CORRUPT ".to_owned()];
    let facts = scene.round(45);
    assert!(facts.listed().iter().all(|member| member.loss.is_none()));
    assert_eq!(facts.healthy_voters(), 0, "nobody knows who it is");
}

#[test]
fn an_operator_that_has_just_started_watches_for_30_seconds_first() {
    let mut scene = Scene::dark();
    scene.memory = Memory::default();
    scene.ledger.members[2].silent_since = Some(moment(0));
    let start = 10 * TIMEOUT;
    assert_eq!(loss(&scene.rounds(start, start + 29)), None);
    assert!(
        is_silence(&scene.round(start + 30)),
        "since it was written down"
    );
}

#[test]
fn an_operator_that_did_not_look_for_a_minute_watches_anew() {
    let mut scene = Scene::dark();
    scene.rounds(15, TIMEOUT);
    let back = TIMEOUT + 61;
    assert_eq!(loss(&scene.round(back)), None);
    assert_eq!(loss(&scene.round(back + 29)), None);
    assert!(is_silence(&scene.round(back + 30)));
}

#[test]
fn a_seed_that_reaches_no_majority_learns_nothing_about_anybody() {
    let mut scene = Scene::dark();
    scene.rounds(15, TIMEOUT);
    let all = scene.clone();
    scene.silence(1);
    scene.silence(2);
    scene.machines = (1..=3).map(|member| (name(member), false)).collect();
    let facts = scene.rounds(TIMEOUT, 3 * TIMEOUT);
    assert_eq!(facts.members, None, "nobody gave a list");
    (scene.silent, scene.machines) = (all.silent, all.machines);
    scene.sees = all.sees;
    let back = 3 * TIMEOUT + 15;
    assert_eq!(loss(&scene.rounds(back, back + TIMEOUT - 1)), None);
    assert!(is_silence(&scene.round(back + TIMEOUT)));
}

#[test]
fn answers_older_than_ten_seconds_decide_nothing() {
    let mut scene = Scene::dark();
    scene.rounds(15, TIMEOUT);
    scene.took = 11;
    let facts = scene.round(TIMEOUT + 15);
    assert_eq!(facts.members, None);
    assert_eq!(plan(&facts).step, None);
}

#[test]
fn one_voter_an_hour_unless_they_fell_silent_together() {
    let mut scene = Scene::dark();
    scene.ledger.last_loss_removal = Some(moment(10));
    let facts = scene.rounds(15, 15 + TIMEOUT);
    let Some(Loss::Silent { too_soon, .. }) = loss(&facts) else {
        panic!("{facts:?}");
    };
    assert!(too_soon.is_some_and(|why| why.contains("one an hour")));
    scene.ledger.last_loss_removal = Some(moment(20));
    assert!(
        is_silence(&scene.round(30 + TIMEOUT)),
        "silent since before that"
    );
    scene.ledger.last_loss_removal = Some(moment(10));
    assert!(
        is_silence(&scene.rounds(45 + TIMEOUT, 3_610)),
        "an hour later"
    );
}

#[test]
fn a_learner_that_never_started_is_not_lost_by_silence() {
    let mut scene = Scene::dark();
    scene.learner = Some(THIRD);
    scene.ledger.members[2].guarded = false;
    assert!(
        is_silence(&scene.rounds(15, 15 + TIMEOUT)),
        "it has started"
    );
    let mut scene = Scene::dark();
    scene.learner = Some(THIRD);
    let mut list = list_of(&scene);
    list[2].name.clear();
    list[2].client_urls.clear();
    assert!(list[2].unstarted());
    // The same answers with a list in which it has not started.
    for second in (15..=15 + TIMEOUT).step_by(15) {
        let facts = unstarted(&mut scene, second, &list);
        assert_eq!(loss(&facts), None);
    }
}

fn list_of(scene: &Scene) -> Vec<ListedMember> {
    scene.answer(1).members.unwrap()
}

fn unstarted(scene: &mut Scene, second: u64, list: &[ListedMember]) -> Facts {
    let view = |member: u64| MemberView {
        name: name(member),
        machine: name(member),
        peer_url: url(member),
        answer: if member == THIRD {
            Err("no answer".to_owned())
        } else {
            let answer = scene.answer(member);
            Ok(Answer {
                members: Ok(list.to_vec()),
                ..answer
            })
        },
    };
    let snapshot = Snapshot {
        members: (1..=3).map(view).collect(),
    };
    let sees = BTreeMap::from([(MemberId(1), BTreeSet::from([MemberId(2)]))]);
    evidence(
        &Round {
            asked_at: moment(second),
            now: moment(second),
            goal: scene.goal.clone(),
            ledger: &scene.ledger,
            pending: None,
            called_at: None,
            snapshot: &snapshot,
            machines: &scene.machines,
            sees: &sees,
            loss_timeout: Duration::from_secs(TIMEOUT),
            snapshot_verified_at: None,
        },
        &mut scene.memory,
    )
}

/// What one round may lack of the whole evidence.
#[derive(Clone, Debug)]
struct Look {
    member_answers: bool,
    machine_answers: Option<bool>,
    leader_sees_it: bool,
    leader_is_asked: bool,
    everybody_silent: bool,
    took: u64,
    pause: u64,
}

impl Look {
    /// Everything that silence has to show is there.
    fn is_dark(&self) -> bool {
        !self.member_answers
            && self.machine_answers == Some(false)
            && !self.leader_sees_it
            && self.leader_is_asked
    }
}

fn looks() -> impl Strategy<Value = Vec<Look>> {
    let look = (
        prop::bool::weighted(0.2),
        prop::option::weighted(0.9, prop::bool::weighted(0.1)),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.9),
        prop::bool::weighted(0.05),
        prop_oneof![9 => 0u64..3, 1 => 11u64..20],
        prop_oneof![9 => 1u64..40, 1 => 40u64..200],
    );
    let look = look.prop_map(
        |(answers, machine, sees, asked, everybody, took, pause)| Look {
            member_answers: answers,
            machine_answers: machine,
            leader_sees_it: sees,
            leader_is_asked: asked,
            everybody_silent: everybody,
            took,
            pause,
        },
    );
    prop::collection::vec(look, 1..60)
}

proptest! {
    /// Nothing is removed unless the last `nodeLoss.timeout` held no sign of life, and this round
    /// has the whole evidence.
    #[test]
    fn without_evidence_there_is_no_step(looks in looks()) {
        let mut scene = Scene::new();
        let mut now = 0;
        let mut alive_at = 0;
        for look in looks {
            now += look.pause + look.took;
            let mut round = Scene { memory: scene.memory, ..Scene::new() };
            if !look.member_answers {
                round.silence(THIRD);
            }
            if let Some(answers) = look.machine_answers {
                round.machines.insert(name(THIRD), answers);
            }
            round.sees.insert(1, if look.leader_sees_it { [THIRD].into() } else { [].into() });
            if !look.leader_is_asked {
                round.sees.clear();
            }
            if look.everybody_silent {
                for member in 1..=3 {
                    round.silence(member);
                }
            }
            round.took = look.took;
            let facts = round.round(now);
            let step = plan(&facts).step;
            if look.member_answers || look.machine_answers == Some(true) || look.everybody_silent {
                alive_at = now;
            }
            let may = look.is_dark() && !look.everybody_silent && now - alive_at >= TIMEOUT;
            if !may {
                prop_assert_eq!(&step, &None, "second {}: {:?}", now, look);
            }
            scene = round;
        }
    }

    /// The same rounds, all of them dark: the step comes, so that the property above says something.
    #[test]
    fn with_evidence_the_step_comes(pauses in prop::collection::vec(5u64..30, 80..100)) {
        let mut scene = Scene::dark();
        let mut now = 0;
        let mut removed = false;
        for pause in pauses {
            now += pause;
            let step = plan(&scene.round(now)).step;
            removed |= matches!(step, Some(Step::Remove { id: MemberId(THIRD), .. }));
        }
        prop_assert_eq!(removed, now > TIMEOUT + 60);
    }
}
