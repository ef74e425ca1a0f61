use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use k8s_openapi::ByteString;

use super::*;
use crate::crd::KeyAlgorithm;
use crate::pki::KeyPair;
use crate::pki::fixture::control_plane;
use crate::pki::issue::{self, carry_out};
use crate::pki::state::{self, SecretData, Secrets};

fn now() -> Timestamp {
    "2026-05-04T03:02:01Z".parse().unwrap()
}

fn read(cp: &ControlPlane, secrets: &Secrets) -> PkiState {
    PkiState::read(&cp.name, secrets)
}

fn kubeconfig(pair: &KeyPair) -> SecretData {
    let encode = |pem: &str| STANDARD.encode(pem);
    let yaml = format!(
        "apiVersion: v1\nkind: Config\nusers:\n- name: kubernetes-admin\n  user:\n    \
         client-certificate-data: {}\n    client-key-data: {}\n",
        encode(&pair.certificate_pem),
        encode(&pair.key_pem)
    );
    [("value".to_owned(), ByteString(yaml.into_bytes()))].into()
}

/// Plans, carries out and stores, as the controller does.
fn pass(cp: &ControlPlane, secrets: &mut Secrets, founded: bool, now: Timestamp) -> PkiPlan {
    let state = read(cp, secrets);
    let plan = plan(cp, &state, founded, now).unwrap();
    assert_eq!(plan.problems, []);
    let issued = carry_out(cp, &state, &plan, now).unwrap();
    for (id, pair) in &issued.cas {
        let before = secrets.cas.insert(*id, state::ca_data(pair));
        assert!(before.is_none(), "{id:?} was overwritten");
    }
    if let Some(keys) = &issued.service_account {
        let data = state::service_account_data(keys);
        assert!(secrets.service_account.replace(data).is_none());
    }
    for (machine, pki) in &issued.machines {
        let data = state::machine_data(pki);
        secrets.machines.insert(machine.clone(), data);
    }
    if let Some(pair) = &issued.cluster_admin {
        secrets.kubeconfig = Some(kubeconfig(pair));
    }
    plan
}

fn issued(plan: &PkiPlan) -> BTreeSet<(String, Leaf, Why)> {
    let leaf = |step: &PkiStep| match step {
        PkiStep::IssueLeaf {
            machine, leaf, why, ..
        } => Some((machine.to_string(), *leaf, *why)),
        _ => None,
    };
    plan.steps.iter().filter_map(leaf).collect()
}

fn stored(cp: &ControlPlane) -> Secrets {
    let mut secrets = Secrets::default();
    pass(cp, &mut secrets, false, now());
    secrets
}

#[test]
fn the_first_pass_issues_everything_and_the_second_nothing() {
    let cp = control_plane(3);
    let mut secrets = Secrets::default();
    let first = pass(&cp, &mut secrets, false, now());
    assert!(!first.is_settled());
    assert_eq!(
        first.steps[..4],
        [
            PkiStep::IssueCa(Ca::Cluster),
            PkiStep::IssueCa(Ca::Etcd),
            PkiStep::IssueCa(Ca::FrontProxy),
            PkiStep::IssueServiceAccount,
        ]
    );
    assert_eq!(issued(&first).len(), 27);
    assert!(
        issued(&first)
            .iter()
            .all(|(_, _, why)| *why == Why::Missing)
    );
    for founded in [false, true] {
        let again = plan(&cp, &read(&cp, &secrets), founded, now()).unwrap();
        assert!(again.is_settled());
        assert_eq!(again.steps.len(), 27);
    }
}

#[test]
fn a_new_name_reissues_the_leaves_that_hold_it_and_no_other() {
    let mut cp = control_plane(3);
    let mut secrets = stored(&cp);
    let before = secrets.machines.clone();
    cp.api_server.cert_sans.push("new.example.net".to_owned());
    let changed = pass(&cp, &mut secrets, true, now());
    let expected = ["cp-1", "cp-2", "cp-3"];
    let expected = expected.map(|m| (m.to_owned(), Leaf::ApiServer, Why::Changed));
    assert_eq!(issued(&changed), BTreeSet::from(expected));
    assert!(!changed.steps.contains(&PkiStep::IssueServiceAccount));
    for (machine, data) in &secrets.machines {
        for (key, value) in data {
            let same = before[machine][key] == *value;
            assert_eq!(same, !key.starts_with("apiserver."), "{machine} {key}");
        }
    }
    assert!(
        plan(&cp, &read(&cp, &secrets), true, now())
            .unwrap()
            .is_settled()
    );
}

#[test]
fn a_new_machine_gets_leaves_and_the_others_keep_theirs() {
    let mut secrets = stored(&control_plane(1));
    let plan = pass(&control_plane(3), &mut secrets, true, now());
    let machines: BTreeSet<_> = issued(&plan).into_iter().map(|(m, _, _)| m).collect();
    assert_eq!(machines, ["cp-2", "cp-3"].map(str::to_owned).into());
}

#[test]
fn an_interrupted_first_pass_is_completed() {
    let cp = control_plane(3);
    let whole = stored(&cp);
    let mut secrets = Secrets {
        cas: [(Ca::Cluster, whole.cas[&Ca::Cluster].clone())].into(),
        ..Secrets::default()
    };
    let plan = pass(&cp, &mut secrets, false, now());
    assert!(!plan.steps.contains(&PkiStep::IssueCa(Ca::Cluster)));
    assert_eq!(secrets.cas[&Ca::Cluster], whole.cas[&Ca::Cluster]);
}

#[test]
fn after_the_founding_nothing_lost_is_made_anew() {
    let cp = control_plane(3);
    let whole = stored(&cp);
    for id in Ca::ALL {
        let mut secrets = whole.clone();
        secrets.cas.remove(&id);
        let state = read(&cp, &secrets);
        let plan = plan(&cp, &state, true, now()).unwrap();
        assert_eq!(plan.problems[0].defect, Defect::Lost);
        assert_eq!(plan.problems[0].secret, secret_names::ca("prod", id));
        assert!(!plan.is_settled());
        assert!(carry_out(&cp, &state, &plan, now()).is_err());
    }
    let mut secrets = whole;
    secrets.service_account = None;
    let plan = plan(&cp, &read(&cp, &secrets), true, now()).unwrap();
    assert_eq!(plan.problems.len(), 1);
    assert_eq!(plan.problems[0].secret, "prod-sa");
}

#[test]
fn another_ca_reissues_leaves_before_the_founding_and_asks_afterwards() {
    let cp = control_plane(1);
    let mut secrets = stored(&cp);
    let other =
        issue::issue_ca(Ca::FrontProxy, KeyAlgorithm::Rsa2048, cp.ca_validity, now()).unwrap();
    secrets.cas.insert(Ca::FrontProxy, state::ca_data(&other));
    let after = plan(&cp, &read(&cp, &secrets), true, now()).unwrap();
    assert_eq!(after.problems.len(), 1);
    let problem = &after.problems[0];
    assert_eq!(problem.secret, "prod-cp-1-certs");
    assert_eq!(problem.key, "front-proxy-client.crt");
    assert_eq!(problem.defect, Defect::OtherCa("prod-proxy".to_owned()));
    let before = pass(&cp, &mut secrets, false, now());
    assert_eq!(
        issued(&before),
        [("cp-1".to_owned(), Leaf::FrontProxyClient, Why::Defective)].into()
    );
    assert!(
        plan(&cp, &read(&cp, &secrets), true, now())
            .unwrap()
            .is_settled()
    );
}

#[test]
fn half_a_leaf_is_reissued_before_the_founding_and_reported_afterwards() {
    let cp = control_plane(1);
    let mut secrets = stored(&cp);
    let name = &cp.machines[0].name;
    let data = secrets.machines.get_mut(name).unwrap();
    data.remove("scheduler.key");
    let after = plan(&cp, &read(&cp, &secrets), true, now()).unwrap();
    assert_eq!(after.problems[0].key, "scheduler.key");
    let before = plan(&cp, &read(&cp, &secrets), false, now()).unwrap();
    assert_eq!(issued(&before).len(), 1);
}

#[test]
fn expired_leaves_are_issued_anew_and_expired_cas_reported() {
    let cp = control_plane(1);
    let mut secrets = stored(&cp);
    let later = now() + SignedDuration::from_hours(8760);
    let plan_later = pass(&cp, &mut secrets, true, later);
    assert_eq!(issued(&plan_later).len(), 9);
    assert!(
        issued(&plan_later)
            .iter()
            .all(|(_, _, why)| *why == Why::Expired)
    );
    assert!(
        plan_later
            .steps
            .contains(&PkiStep::IssueClusterAdmin { why: Why::Expired })
    );
    let much_later = now() + SignedDuration::from_hours(87600);
    let plan = plan(&cp, &read(&cp, &secrets), true, much_later).unwrap();
    assert_eq!(plan.problems.len(), 3);
    assert!(
        plan.problems
            .iter()
            .all(|problem| problem.defect.is_expiry())
    );
    let early = now() - SignedDuration::from_hours(1);
    let plan = super::plan(&cp, &read(&cp, &secrets), true, early).unwrap();
    assert!(matches!(plan.problems[0].defect, Defect::NotYetValid(_)));
}

#[test]
fn a_users_ca_signs_and_stays() {
    let cp = control_plane(1);
    let own = issue::issue_ca(Ca::Cluster, KeyAlgorithm::Rsa2048, cp.ca_validity, now()).unwrap();
    let mut secrets = Secrets {
        cas: [(Ca::Cluster, state::ca_data(&own))].into(),
        ..Secrets::default()
    };
    let plan = pass(&cp, &mut secrets, false, now());
    assert!(!plan.steps.contains(&PkiStep::IssueCa(Ca::Cluster)));
    assert_eq!(secrets.cas[&Ca::Cluster], state::ca_data(&own));
    let settled = super::plan(&cp, &read(&cp, &secrets), true, now()).unwrap();
    assert!(settled.is_settled());
}

#[test]
fn a_broken_kubeconfig_is_made_anew_at_any_time() {
    let cp = control_plane(1);
    let mut secrets = stored(&cp);
    secrets.kubeconfig = Some([("value".to_owned(), ByteString(b"users: []".to_vec()))].into());
    let broken = pass(&cp, &mut secrets, true, now());
    assert!(broken.steps.contains(&PkiStep::IssueClusterAdmin {
        why: Why::Defective
    }));
    assert!(
        plan(&cp, &read(&cp, &secrets), true, now())
            .unwrap()
            .is_settled()
    );
}
