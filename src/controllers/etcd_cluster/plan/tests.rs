use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::mirror::Mirror;
use super::super::observe::{Mark, Observed};
use super::super::status::status;
use super::inputs::{operation, pending};
use super::{Plan, plan};
use crate::crd::{EtcdCluster, PendingOperation};
use crate::domain::{ClusterId, MemberId};
use crate::membership::{
    Answer, Facts, ListedMember, MemberView, Memory, Operation, Snapshot, Step,
};

/// A cluster of three that was founded, with a fourth machine in the inventory.
struct World {
    cluster: Value,
    /// Machines whose member does not answer, and which are silent themselves.
    silent: Vec<&'static str>,
    listed: Vec<ListedMember>,
    marks: BTreeMap<String, Mark>,
    memory: Memory,
    now: Timestamp,
}

fn url(number: u64) -> String {
    format!("https://198.18.0.1{number}:2380")
}

/// The mark of a machine whose config keeps the data of its first member.
fn guarded(machine: &str) -> (String, Mark) {
    let mark = Mark {
        keeps_data_of: Some(machine.to_owned()),
        ..Mark::default()
    };
    (machine.to_owned(), mark)
}

impl World {
    fn new() -> Self {
        let machine =
            |n: u64| json!({"name": format!("cp-{n}"), "address": format!("198.18.0.1{n}")});
        let founder = |n: u64| json!({"name": format!("cp-{n}"), "peerURL": url(n)});
        let slot = |n: u64| {
            json!({"machine": format!("cp-{n}"), "generation": 0, "memberID": format!("{n}"),
                   "started": true})
        };
        let listed = |n: u64| ListedMember {
            id: MemberId(n),
            name: format!("cp-{n}"),
            peer_urls: vec![url(n)],
            client_urls: vec![url(n)],
            is_learner: false,
        };
        Self {
            cluster: json!({
                "apiVersion": "seedbed.dev/v1alpha1",
                "kind": "EtcdCluster",
                "metadata": {"name": "prod", "namespace": "clusters", "uid": "1", "generation": 1},
                "spec": {"version": "3.7.0", "size": 3,
                         "machines": [machine(1), machine(2), machine(3), machine(4)]},
                "status": {
                    "clusterID": "c",
                    "ledger": {
                        "founding": {"token": "t", "members": [founder(1), founder(2), founder(3)]},
                        "slots": [slot(1), slot(2), slot(3)],
                    },
                },
            }),
            silent: Vec::new(),
            listed: (1..=3).map(listed).collect(),
            marks: (1..=3).map(|n| guarded(&format!("cp-{n}"))).collect(),
            memory: Memory::default(),
            now: Timestamp::from_second(1_800_000_000).unwrap(),
        }
    }

    fn object(&self) -> EtcdCluster {
        serde_json::from_value(self.cluster.clone()).unwrap()
    }

    fn observed(&self) -> Observed {
        let cluster = self.object();
        let ledger = crate::controllers::ledger::founded(Some(&cluster))
            .cloned()
            .unwrap();
        let members = super::super::ask::members(&ledger)
            .into_iter()
            .map(|expected| {
                let listed = self
                    .listed
                    .iter()
                    .find(|m| m.peer_urls[0] == expected.peer_url);
                let silent = self.silent.contains(&expected.machine.as_str());
                let answer = listed.filter(|listed| !silent && !listed.client_urls.is_empty());
                MemberView {
                    answer: answer
                        .map(|listed| self.answer(listed))
                        .ok_or_else(|| "nothing answers".to_owned()),
                    name: expected.name,
                    machine: expected.machine,
                    peer_url: expected.peer_url,
                }
            });
        let alive = |member: &&ListedMember| !self.silent.iter().any(|name| member.name == *name);
        let up: Vec<MemberId> = self.listed.iter().filter(alive).map(|m| m.id).collect();
        let answering = self.silent.iter().map(|name| ((*name).to_owned(), false));
        Observed {
            mirror: Mirror::Missing,
            published: true,
            answered: false,
            asked_at: self.now,
            snapshot: Snapshot {
                members: members.collect(),
            },
            machines: answering.collect(),
            sees: up
                .iter()
                .filter(|_| !self.silent.is_empty())
                .map(|id| {
                    (
                        *id,
                        up.iter().copied().filter(|other| other != id).collect(),
                    )
                })
                .collect(),
            marks: self.marks.clone(),
            snapshot_verified_at: None,
            called_at: None,
            unasked: None,
            cluster: Arc::new(cluster),
        }
    }

    fn answer(&self, listed: &ListedMember) -> Answer {
        Answer {
            cluster_id: ClusterId(0xc),
            member_id: listed.id,
            leader: Some(MemberId(1)),
            raft_term: 3,
            raft_index: 1000,
            raft_applied_index: 1000,
            db_size_bytes: 1 << 20,
            version: "3.7.0".to_owned(),
            is_learner: listed.is_learner,
            errors: Vec::new(),
            members: if listed.is_learner {
                Err("a learner has no list of members".to_owned())
            } else {
                Ok(self.listed.clone())
            },
        }
    }

    /// One reconcile: what was decided is stored as the status then.
    fn round(&mut self) -> Plan {
        self.after(15)
    }

    fn after(&mut self, seconds: u64) -> Plan {
        self.now = self.now.checked_add(Duration::from_secs(seconds)).unwrap();
        let observed = self.observed();
        let plan = plan(&observed, &mut self.memory, self.now);
        let (said, _) = status(&observed, &plan, None, self.now);
        self.cluster["status"] = serde_json::to_value(said).unwrap();
        plan
    }

    fn rounds(&mut self, count: usize) -> Plan {
        let mut last = self.round();
        for _ in 1..count {
            last = self.round();
        }
        last
    }

    fn pending(&self) -> Option<PendingOperation> {
        self.object().status.unwrap().pending_operation
    }

    fn made(plan: &Plan) -> Option<Step> {
        let operation = plan.membership.as_ref()?.make.as_ref()?;
        Some(operation.step.clone())
    }
}

/// A whole cluster is not written to, not even by an operator that has just started.
#[test]
fn a_settled_cluster_gets_the_same_status_again_and_again() {
    let mut world = World::new();
    world.rounds(3);
    let stored = world.cluster.clone();
    world.rounds(20);
    assert_eq!(world.cluster, stored);
    world.memory = Memory::default();
    world.rounds(5);
    assert_eq!(world.cluster, stored);
}

/// A row that was first written while the leader was silent gets its lag, and keeps it.
#[test]
fn a_lag_that_was_unknown_is_written_once_it_is_known() {
    let mut world = World::new();
    world.rounds(3);
    let row = "/status/members/1/lagEntries";
    let whole = world.cluster.clone();
    assert_eq!(whole.pointer(row), Some(&json!(0)));
    let rows = world.cluster.pointer_mut("/status/members/1").unwrap();
    rows.as_object_mut().unwrap().remove("lagEntries");
    world.rounds(1);
    assert_eq!(world.cluster.pointer(row), Some(&json!(0)));
}

/// I5, I13: recorded, then made, verified by the list, entered into the ledger.
#[test]
fn a_lost_member_is_removed_and_replaced_step_by_step() {
    let mut world = World::new();
    world.rounds(3);
    world.silent = vec!["cp-2"];
    // The default of nodeLoss.timeout is five minutes.
    let before = world.rounds(19);
    assert!(World::made(&before).is_none() && world.pending().is_none());
    let since = world.object().status.unwrap().members[1]
        .silent_since
        .clone();
    assert!(since.is_some(), "the timer outlives the operator");

    let removal = (0..6).find_map(|_| World::made(&world.round())).unwrap();
    assert!(
        matches!(
            removal,
            Step::Remove {
                id: MemberId(2),
                ..
            }
        ),
        "{removal}"
    );
    let recorded = world.pending().unwrap();
    assert_eq!(
        (recorded.attempts, recorded.automatic),
        (Some(1), Some(true))
    );

    // The call was made.
    world.listed.retain(|member| member.id != MemberId(2));
    world.round();
    let ledger = world.object().status.unwrap().ledger.unwrap();
    assert!(world.pending().is_none());
    assert_eq!(ledger.tombstones, ["2"]);
    assert!(ledger.slots.iter().all(|slot| slot.machine != "cp-2"));
    assert!(ledger.last_replacement.is_some());
    assert_eq!(ledger.joins[0].attempts, 2, "its machine has one attempt");

    // The spare that was never a member comes before the machine that was lost.
    let addition = (0..6).find_map(|_| World::made(&world.round())).unwrap();
    let Step::AddLearner {
        machine,
        name,
        peer_url,
    } = addition
    else {
        panic!("{addition}");
    };
    assert_eq!((machine.as_str(), name.as_str()), ("cp-4", "cp-4_1"));
    world.listed.push(ListedMember {
        id: MemberId(9),
        name: String::new(),
        peer_urls: vec![peer_url],
        client_urls: Vec::new(),
        is_learner: true,
    });
    world.round();
    let slot = world
        .object()
        .status
        .unwrap()
        .ledger
        .unwrap()
        .slots
        .pop()
        .unwrap();
    assert_eq!(slot.member_id.as_deref(), Some("9"));
    assert_eq!((slot.generation, slot.started), (1, false));

    // It starts; it votes only once its machine config keeps its data.
    let learner = world.listed.last_mut().unwrap();
    learner.name = "cp-4_1".to_owned();
    learner.client_urls = vec![url(4)];
    assert!((0..6).all(|_| World::made(&world.round()).is_none()));
    let kept = Mark {
        keeps_data_of: Some("cp-4_1".to_owned()),
        ..Mark::default()
    };
    world.marks.insert("cp-4".to_owned(), kept);
    let promotion = (0..6).find_map(|_| World::made(&world.round())).unwrap();
    assert!(
        matches!(
            promotion,
            Step::Promote {
                id: MemberId(9),
                ..
            }
        ),
        "{promotion}"
    );
    let promoted = |world: &World| {
        let ledger = world.object().status.unwrap().ledger.unwrap();
        let slots = ledger.slots.iter();
        slots.map(|slot| slot.promoted).collect::<Vec<_>>()
    };
    assert_eq!(promoted(&world), [None; 3], "it is a learner yet");
    world.listed.last_mut().unwrap().is_learner = false;
    world.rounds(3);
    assert_eq!(promoted(&world), [None, None, Some(true)]);
    let status = world.object().status.unwrap();
    let condition = |kind: &str| status.conditions.iter().find(|c| c.type_ == kind).unwrap();
    assert_eq!(condition("MembershipSettled").status, "True", "{status:#?}");
    assert_eq!(condition("EtcdHealthy").status, "True");
    assert_eq!(condition("OddMembers").status, "True");
    let steps: Vec<&str> = status
        .decisions
        .iter()
        .map(|row| row.step.as_str())
        .collect();
    assert!(steps.len() >= 6 && steps.len() <= 20, "{steps:#?}");
}

/// A failed call is tried again with growing pauses, and each try is a write.
/// What is only waited for is done at once: the pauses end with the timers of etcd-membership A.5
/// and I20, however long nothing has changed.
#[test]
fn the_next_look_comes_when_a_timer_ends() {
    const LONG: Duration = Duration::from_secs(3_600);
    let mut world = World::new();
    let pause = |plan: &Plan| plan.pause(LONG).as_secs();
    assert_eq!(pause(&world.rounds(1)), 5, "the second sample of all");
    assert_eq!(pause(&world.rounds(3)), 15, "the period of a whole cluster");
    world.silent.push("cp-3");
    assert_eq!(pause(&world.round()), 15, "30 s would be enough for others");
    assert_eq!(pause(&world.after(23)), 7, "they are over");
    assert_eq!(pause(&world.rounds(17)), 15);
    let plan = world.after(10);
    assert_eq!(pause(&plan), 12, "300 s of silence are over");
    assert_eq!(World::made(&plan), None);
    let plan = world.after(12);
    assert!(matches!(World::made(&plan), Some(Step::Remove { .. })));
    world.listed.retain(|member| member.id != MemberId(3));
    world.silent.clear();
    let plan = world.after(1);
    assert_eq!(world.pending(), None, "verified");
    assert_eq!(pause(&plan), 10, "the pause after it");
    assert_eq!(pause(&world.after(4)), 6);
    let plan = world.after(6);
    assert!(matches!(World::made(&plan), Some(Step::AddLearner { .. })));
}

/// A founder whose published config does not check its disk yet could be imaged anew and start
/// under its old ID (I9): until then the cluster is not called healthy.
#[test]
fn a_cluster_is_whole_once_no_member_would_start_on_an_empty_disk() {
    let mut world = World::new();
    world.marks.remove("cp-2");
    let healthy = |world: &World| {
        let conditions = world.object().status.unwrap().conditions;
        let is = |type_: &str| {
            conditions
                .iter()
                .find(|c| c.type_ == type_)
                .cloned()
                .unwrap()
        };
        (is("EtcdHealthy"), is("Ready"), is("Available"))
    };
    let plan = world.rounds(3);
    let (etcd, ready, available) = healthy(&world);
    assert_eq!(
        (etcd.status.as_str(), ready.status.as_str()),
        ("False", "False")
    );
    assert_eq!(available.status, "True");
    assert_eq!(etcd.reason, "MachinesStarting");
    assert!(
        etcd.message.contains("cp-2 has started"),
        "{}",
        etcd.message
    );
    assert_eq!(plan.pause(Duration::ZERO), Duration::from_secs(2));
    world.marks.extend([guarded("cp-2")]);
    world.round();
    let (etcd, ready, _) = healthy(&world);
    assert_eq!(
        (etcd.status.as_str(), ready.status.as_str()),
        ("True", "True")
    );
}

/// A founder that has never answered has no ID on record. Once it is removed it is gone from the
/// ledger, too: otherwise `--initial-cluster` of every later member would name it.
#[test]
fn a_founder_that_never_started_leaves_no_slot() {
    let mut world = World::new();
    let slot = &mut world.cluster["status"]["ledger"]["slots"][2];
    slot.as_object_mut().unwrap().remove("memberID");
    slot["started"] = json!(false);
    world.listed[2].client_urls.clear();
    world.marks.remove("cp-3");
    world.silent = vec!["cp-3"];
    let removal = (0..40).find_map(|_| World::made(&world.round())).unwrap();
    assert_eq!(removal.kind(), "Remove", "{removal}");
    world.listed.retain(|member| member.id != MemberId(3));
    world.round();
    let ledger = world.object().status.unwrap().ledger.unwrap();
    assert!(world.pending().is_none());
    assert_eq!(ledger.tombstones, ["3"]);
    assert!(
        ledger.slots.iter().all(|slot| slot.machine != "cp-3"),
        "{ledger:?}"
    );
}

/// etcd that does not run on a machine that does: nothing is done about it, and that is told.
#[test]
fn a_member_that_does_not_run_on_a_living_machine_is_told() {
    let mut world = World::new();
    world.rounds(3);
    world.silent.push("cp-3");
    let mut observed = world.observed();
    observed.machines.insert("cp-3".to_owned(), true);
    let known = plan(&observed, &mut world.memory, world.now);
    let (said, _) = status(&observed, &known, None, world.now);
    let etcd = said
        .conditions
        .iter()
        .find(|c| c.type_ == "EtcdHealthy")
        .unwrap();
    assert_eq!(etcd.status, "False");
    assert!(
        etcd.message
            .contains("its machine answers: look at its etcd"),
        "{}",
        etcd.message
    );
}

#[test]
fn a_call_that_does_nothing_is_tried_again_after_a_pause() {
    let mut world = World::new();
    world.rounds(3);
    let lost = Mark {
        lost: Some("burnt".to_owned()),
        ..Mark::default()
    };
    world.marks.insert("cp-2".to_owned(), lost);
    world.silent = vec!["cp-2"];
    let first = (0..8).find_map(|_| World::made(&world.round()));
    assert!(matches!(first, Some(Step::Remove { .. })), "{first:?}");
    let mut pauses = Vec::new();
    for tries in 2..=5 {
        let mut rounds = 1;
        while World::made(&world.round()).is_none() {
            rounds += 1;
        }
        assert_eq!(world.pending().unwrap().attempts, Some(tries));
        pauses.push(rounds);
    }
    assert!(pauses.is_sorted() && pauses[0] < pauses[3], "{pauses:?}");
}

/// What nodeLoss holds back is said, once.
#[test]
fn what_holds_a_step_is_told() {
    let mut world = World::new();
    world.cluster["spec"]["nodeLoss"] = json!({"action": "ReportOnly", "timeout": "1m"});
    world.rounds(3);
    world.silent = vec!["cp-3"];
    world.rounds(10);
    let status = world.object().status.unwrap();
    let settled = status
        .conditions
        .iter()
        .find(|c| c.type_ == "MembershipSettled")
        .unwrap();
    assert_eq!(
        (settled.status.as_str(), settled.reason.as_str()),
        ("False", "StepHeld")
    );
    assert!(
        settled.message.contains("ReportOnly"),
        "{}",
        settled.message
    );
    let held: Vec<_> = status
        .decisions
        .iter()
        .filter(|row| row.held_by.is_some())
        .collect();
    assert_eq!(held.len(), 1, "{held:#?}");
    assert_eq!(held[0].held_by.as_deref(), Some("nodeLoss"));
    let stored = world.cluster.clone();
    world.rounds(10);
    assert_eq!(world.cluster, stored, "nothing new is nothing written");
}

/// I8: a member that nobody recorded freezes everything, and is never removed.
#[test]
fn a_stranger_freezes() {
    let mut world = World::new();
    world.rounds(3);
    world.listed.push(ListedMember {
        id: MemberId(77),
        name: "alien".to_owned(),
        peer_urls: vec!["https://198.18.0.99:2380".to_owned()],
        client_urls: vec!["https://198.18.0.99:2379".to_owned()],
        is_learner: false,
    });
    world.silent = vec!["cp-3"];
    let plan = world.rounds(40);
    assert!(plan.freeze.is_some() && World::made(&plan).is_none() && world.pending().is_none());
}

/// Fault 37: somebody else removed a member; its slot goes, its ID stays buried.
#[test]
fn a_member_that_somebody_removed_is_buried() {
    let mut world = World::new();
    world.rounds(3);
    world.listed.retain(|member| member.id != MemberId(3));
    world.silent = vec!["cp-3"];
    world.rounds(2);
    let ledger = world.object().status.unwrap().ledger.unwrap();
    assert_eq!(ledger.tombstones, ["3"]);
    assert_eq!(ledger.slots.len(), 2);
}

#[test]
fn operations_survive_being_recorded() {
    let facts = Facts {
        next_generation: 7,
        ..Facts::default()
    };
    let (id, to) = (MemberId(0xabc), MemberId(0xdef));
    let machine = "cp-4".to_owned();
    let steps = [
        Step::AddLearner {
            machine: machine.clone(),
            name: "cp-4_7".to_owned(),
            peer_url: url(4),
        },
        Step::Promote {
            id,
            machine: machine.clone(),
        },
        Step::MoveLeader { from: id, to },
        Step::Remove {
            id,
            machine: Some(machine),
            why: "it is lost".to_owned(),
        },
        Step::Remove {
            id,
            machine: None,
            why: "it is lost".to_owned(),
        },
    ];
    for step in steps {
        let stored = pending(&step, &facts, "because", Timestamp::UNIX_EPOCH);
        let json = serde_json::to_value(&stored).unwrap();
        let read: PendingOperation = serde_json::from_value(json).unwrap();
        assert_eq!(operation(&read), Ok(Operation { step }));
    }
    let unknown = PendingOperation {
        kind: "Defragment".to_owned(),
        ..Default::default()
    };
    assert!(operation(&unknown).unwrap_err().contains("Defragment"));
}
