use super::*;
use crate::membership::ListedMember;

fn answer(member: u64, leader: u64) -> Answer {
    Answer {
        cluster_id: ClusterId(0xc1),
        member_id: MemberId(member),
        leader: (leader != 0).then_some(MemberId(leader)),
        raft_term: 2,
        raft_index: 100,
        raft_applied_index: 100,
        db_size_bytes: 20_480,
        version: "3.7.0".to_owned(),
        is_learner: false,
        errors: Vec::new(),
        members: Ok((1..=3).map(listed).collect()),
    }
}

fn listed(member: u64) -> ListedMember {
    ListedMember {
        id: MemberId(member),
        name: format!("cp-{member}"),
        peer_urls: vec![peer_url(member)],
        client_urls: vec![format!("https://198.18.0.1{member}:2379")],
        is_learner: false,
    }
}

fn peer_url(member: u64) -> String {
    format!("https://198.18.0.1{member}:2380")
}

fn snapshot(answers: [Result<Answer, String>; 3]) -> Snapshot {
    let view = |(index, answer): (u64, Result<Answer, String>)| MemberView {
        name: format!("cp-{index}"),
        machine: format!("cp-{index}"),
        peer_url: peer_url(index),
        answer,
    };
    Snapshot {
        members: (1..).zip(answers).map(view).collect(),
    }
}

fn silent() -> Result<Answer, String> {
    Err("no answer".to_owned())
}

fn recorded() -> BTreeMap<String, MemberId> {
    (1..=3)
        .map(|member| (format!("cp-{member}"), MemberId(member)))
        .collect()
}

#[test]
fn nobody_answers_means_the_recorded_cluster_stands() {
    let all_silent = snapshot([silent(), silent(), silent()]);
    assert_eq!(
        identity(&all_silent, None, &BTreeMap::new()),
        Identity::Unknown
    );
    assert_eq!(
        identity(&all_silent, Some(ClusterId(7)), &recorded()),
        Identity::One(ClusterId(7))
    );
}

#[test]
fn the_first_answer_names_the_cluster() {
    let first = snapshot([Ok(answer(1, 0)), silent(), silent()]);
    assert_eq!(
        identity(&first, None, &BTreeMap::new()),
        Identity::One(ClusterId(0xc1))
    );
}

/// I18.
#[test]
fn two_cluster_ids_freeze() {
    let foreign = Answer {
        cluster_id: ClusterId(0xc2),
        ..answer(2, 2)
    };
    let split = snapshot([Ok(answer(1, 1)), Ok(foreign.clone()), silent()]);
    let Identity::Frozen(Freeze::SplitBrain(text)) = identity(&split, None, &recorded()) else {
        panic!("not frozen");
    };
    assert!(
        text.contains("c1 on cp-1") && text.contains("c2 on cp-2"),
        "{text}"
    );
    let other = snapshot([silent(), Ok(foreign), silent()]);
    assert!(matches!(
        identity(&other, Some(ClusterId(0xc1)), &recorded()),
        Identity::Frozen(Freeze::SplitBrain(_))
    ));
}

/// I8.
#[test]
fn a_slot_under_another_id_freezes() {
    let swapped = snapshot([Ok(answer(2, 2)), silent(), silent()]);
    assert!(matches!(
        identity(&swapped, Some(ClusterId(0xc1)), &recorded()),
        Identity::Frozen(Freeze::IdentityMismatch(_))
    ));
}

/// I8: what nobody expects is explained, never removed.
#[test]
fn a_listed_stranger_freezes() {
    let mut with_stranger = answer(1, 1);
    with_stranger
        .members
        .as_mut()
        .expect("listed")
        .push(listed(9));
    let seen = snapshot([Ok(with_stranger), silent(), silent()]);
    let Identity::Frozen(freeze) = identity(&seen, Some(ClusterId(0xc1)), &recorded()) else {
        panic!("not frozen");
    };
    assert!(
        freeze.message().contains("198.18.0.19"),
        "{}",
        freeze.message()
    );
}

#[test]
fn a_member_in_step_is_healthy() {
    let all = snapshot([Ok(answer(1, 1)), Ok(answer(2, 1)), Ok(answer(3, 1))]);
    for view in &all.members {
        assert_eq!(health(view, &all), MemberHealth::Healthy, "{}", view.name);
    }
}

#[test]
fn what_makes_a_member_unhealthy_is_said() {
    let good = || Ok(answer(1, 1));
    let cases: Vec<(Result<Answer, String>, &str)> = vec![
        (silent(), "no answer"),
        (Ok(answer(3, 0)), "no leader"),
        (Ok(answer(3, 3)), "follows leader 3"),
        (
            Ok(Answer {
                members: Err("timeout".to_owned()),
                ..answer(3, 1)
            }),
            "linearizable",
        ),
        (
            Ok(Answer {
                raft_index: 5_000,
                ..answer(3, 1)
            }),
            "behind in applying",
        ),
        (
            Ok(Answer {
                errors: vec!["alarm:CORRUPT".to_owned()],
                ..answer(3, 1)
            }),
            "CORRUPT",
        ),
    ];
    for (third, expected) in cases {
        let all = snapshot([good(), Ok(answer(2, 1)), third]);
        let MemberHealth::Unhealthy(why) = health(&all.members[2], &all) else {
            panic!("healthy, expected {expected}");
        };
        assert!(why.contains(expected), "{why}");
        assert_eq!(health(&all.members[0], &all), MemberHealth::Healthy);
    }
}

#[test]
fn lag_is_measured_against_the_leader() {
    let behind = Answer {
        raft_index: 40,
        raft_applied_index: 40,
        ..answer(2, 1)
    };
    let all = snapshot([Ok(answer(1, 1)), Ok(behind.clone()), silent()]);
    assert_eq!(lag_entries(&behind, &all), Some(60));
    let leaderless = snapshot([silent(), Ok(behind.clone()), silent()]);
    assert_eq!(lag_entries(&behind, &leaderless), None);
}

#[test]
fn quorum_is_a_majority() {
    assert_eq!([1, 2, 3, 4, 5, 7].map(quorum), [1, 2, 2, 3, 3, 4]);
}
