//! The alarm about damaged data (row P4): what etcd still answers while it is raised.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use etcd_client::{AlarmAction, AlarmOptions, AlarmType};
use seedbed::domain::{ClusterId, MemberId};
use seedbed::membership::{
    Answer, Candidate, Facts, Goal, Loss, MemberHealth, MemberView, Memory, Recorded,
    RecordedMember, Round, Snapshot, Step, evidence, health, plan,
};

use crate::cluster::Cluster;
use crate::testbed::StateDir;

/// Longest wait for a cluster to start.
const START: Duration = Duration::from_secs(60);

/// Three members, one of them called corrupt; then its removal, by the real rules.
pub fn corrupt(state: &StateDir) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut cluster = Cluster::new(state, 200, "alarm").unwrap();
    for machine in 0..3 {
        cluster.start_new(machine, &[0, 1, 2], false).unwrap();
    }
    runtime.block_on(played(&cluster));
    cluster.end().unwrap();
}

async fn played(cluster: &Cluster) {
    let began = Instant::now();
    let before = loop {
        let snapshot = snapshot(cluster).await;
        let healthy = |view| health(view, &snapshot) == MemberHealth::Healthy;
        if snapshot.members.iter().all(healthy) {
            break snapshot;
        }
        assert!(began.elapsed() < START, "{snapshot:?}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let ids: Vec<MemberId> = before
        .answers()
        .map(|(_, answer)| answer.member_id)
        .collect();
    let leader = before.answers().find_map(|(_, answer)| answer.leader);
    let culprit = (0..3).find(|at| Some(ids[*at]) != leader).unwrap();
    let mut client = cluster.client(0).await.unwrap();
    client.put("before", "1", None).await.unwrap();
    let mut options = AlarmOptions::new();
    options.with_member(ids[culprit].0);
    client
        .alarm(AlarmAction::Activate, AlarmType::Corrupt, Some(options))
        .await
        .unwrap();
    let refused = client
        .put("after", "1", None)
        .await
        .unwrap_err()
        .to_string();
    assert!(refused.contains("corrupt cluster"), "{refused}");

    // Everybody still lists the members behind a linearizable read, and names the culprit.
    let snapshot = snapshot(cluster).await;
    for (view, answer) in snapshot.answers() {
        assert!(
            answer.members.is_ok(),
            "{}: {:?}",
            view.name,
            answer.members
        );
        assert!(!answer.errors.is_empty(), "{} reports no alarm", view.name);
    }
    assert_eq!(snapshot.answers().count(), 3);
    let facts = facts(&snapshot, cluster);
    let lost = facts.member(ids[culprit]).unwrap().loss.clone();
    assert_eq!(lost, Some(Loss::Corrupt));
    let mut others = facts.voters().filter(|voter| voter.id != ids[culprit]);
    assert!(others.all(|voter| voter.healthy()), "{facts:?}");
    let decision = plan(&facts);
    let Some(Step::Remove { id, .. }) = decision.step else {
        panic!("{decision:?}");
    };
    assert_eq!(id, ids[culprit]);

    // etcd makes the change, too: connections have to be 5 s old for that.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let through = (0..3).find(|at| ids[*at] != id).unwrap();
    let endpoint = cluster.endpoint(through as u8);
    cluster.api().remove(&endpoint, id).await.unwrap();
    let answer = cluster.api().probe(&endpoint).await.unwrap();
    assert_eq!(answer.members.unwrap().len(), 2);
}

async fn snapshot(cluster: &Cluster) -> Snapshot {
    let mut members = Vec::new();
    for machine in 0..3 {
        let answer: Result<Answer, _> = cluster.api().probe(&cluster.endpoint(machine)).await;
        members.push(MemberView {
            name: format!("m{machine}"),
            machine: format!("m{machine}"),
            peer_url: cluster.peer_url(machine),
            answer: answer.map_err(|error| error.to_string()),
        });
    }
    Snapshot { members }
}

/// The facts once the same answers have been there for long enough.
fn facts(snapshot: &Snapshot, cluster: &Cluster) -> Facts {
    let slot = |(at, (view, answer)): (usize, (&MemberView, &Answer))| RecordedMember {
        machine: format!("m{at}"),
        name: view.name.clone(),
        peer_url: view.peer_url.clone(),
        id: Some(answer.member_id),
        guarded: true,
        silent_since: None,
    };
    let ledger = Recorded {
        cluster_id: snapshot
            .answers()
            .next()
            .map(|(_, a)| ClusterId(a.cluster_id.0)),
        members: snapshot.answers().enumerate().map(slot).collect(),
        ..Recorded::default()
    };
    let mut memory = Memory::default();
    let mut facts = Facts::default();
    for second in [0, 15, 30] {
        let start: jiff::Timestamp = "2026-11-01T00:00:00Z".parse().unwrap();
        let now = start + Duration::from_secs(second);
        facts = evidence(
            &Round {
                asked_at: now,
                now,
                goal: Goal {
                    size: 3,
                    machines: (0..4)
                        .map(|machine| Candidate {
                            name: format!("m{machine}"),
                            peer_url: cluster.peer_url(machine),
                            ..Candidate::default()
                        })
                        .collect(),
                    remove_lost: true,
                },
                ledger: &ledger,
                pending: None,
                called_at: None,
                snapshot,
                machines: &BTreeMap::new(),
                sees: &BTreeMap::<MemberId, BTreeSet<MemberId>>::new(),
                loss_timeout: Duration::from_secs(60),
                snapshot_verified_at: None,
            },
            &mut memory,
        );
    }
    facts
}
