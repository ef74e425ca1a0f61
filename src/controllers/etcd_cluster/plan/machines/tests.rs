use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::controllers::etcd_cluster::resolve::resolve;
use crate::controllers::fields::Contents;
use crate::controllers::fields::ProblemReason;
use crate::pki::issue::{issue_ca, issue_leaf};
use crate::pki::state::{ca_data, machine_data};

const DAY: Duration = Duration::from_secs(24 * 3600);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

/// The object and its Secrets in the seed.
struct World {
    object: Value,
    secrets: BTreeMap<String, Secret>,
}

impl World {
    fn new() -> Self {
        let machine =
            |n: u8| json!({"name": format!("etcd-{n}"), "address": format!("198.18.0.4{n}")});
        Self {
            object: json!({
                "apiVersion": "seedbed.dev/v1alpha1",
                "kind": "EtcdCluster",
                "metadata": {"name": "state", "namespace": "clusters", "uid": "1"},
                "spec": {"version": "3.7.0", "size": 1, "machines": [machine(1), machine(2)]},
            }),
            secrets: BTreeMap::new(),
        }
    }

    fn plan(&self) -> Plan {
        let object: crd::EtcdCluster = serde_json::from_value(self.object.clone()).unwrap();
        let cluster = resolve(&object, &Contents::default()).unwrap();
        let owner = owner::controller_reference(&object).unwrap();
        plan(&Facts {
            object: &object,
            cluster: &cluster,
            secrets: &self.secrets,
            owner: &owner,
            now: now(),
        })
    }

    fn store(&mut self, secret: Secret) {
        let name = secret.metadata.name.clone().unwrap();
        self.secrets.insert(name, secret);
    }

    /// Makes what the plan asks for, as the driver does.
    fn carry_out(&mut self, writes: Vec<Write>) {
        let object: crd::EtcdCluster = serde_json::from_value(self.object.clone()).unwrap();
        let cluster = resolve(&object, &Contents::default()).unwrap();
        let owner = owner::controller_reference(&object).unwrap();
        let maker = maker(&cluster, &owner);
        for write in writes {
            match write {
                Write::Ca => {
                    let ca = issue_ca(Ca::Etcd, cluster.key_algorithm, 9 * DAY, now()).unwrap();
                    let name = secret_names::ca("state", Ca::Etcd);
                    self.store(maker.secret(name, None, "ca", ca_data(&ca)));
                }
                Write::Leaves {
                    machine, leaves, ..
                } => {
                    let state = pki_state(&cluster, &self.secrets);
                    let ca = &state.cas[&Ca::Etcd].as_ref().unwrap().pair;
                    let issued = leaves.iter().map(|(leaf, spec)| {
                        let pair = issue_leaf(spec, ca, cluster.key_algorithm, DAY, now());
                        (*leaf, pair.unwrap())
                    });
                    let data = machine_data(&issued.collect());
                    let name = secret_names::machine_certificates("state", &machine);
                    self.store(maker.secret(name, Some(machine.as_str()), "certificates", data));
                }
                Write::MachineConfig { desired, .. } => self.store(*desired),
            }
        }
    }

    fn found(&mut self, started: bool) {
        let founder = json!({"name": "etcd-1", "peerURL": "https://198.18.0.41:2380"});
        self.object["status"] = json!({"ledger": {
            "founding": {"token": "t", "members": [founder]},
            "slots": [{"machine": "etcd-1", "generation": 0, "started": started}],
        }});
    }
}

fn writes(plan: Plan) -> Vec<Write> {
    match plan {
        Plan::Write(writes) => writes,
        Plan::Await(_, text) => panic!("waits for {text}"),
        Plan::Stalled(problems) => panic!("{problems:?}"),
        Plan::Published => panic!("nothing is left to write"),
    }
}

/// I5: what is random is stored first, nothing is published before the founding is on record, and a
/// fixpoint writes nothing.
#[test]
fn one_batch_follows_from_what_is_stored() {
    let mut world = World::new();
    let batch = writes(world.plan());
    assert!(matches!(batch[..], [Write::Ca]));
    world.carry_out(batch);
    let batch = writes(world.plan());
    assert!(matches!(&batch[..], [Write::Leaves { machine, leaves, .. }]
        if machine.as_str() == "etcd-1" && leaves.len() == 3));
    world.carry_out(batch);
    assert!(matches!(
        world.plan(),
        Plan::Await(Reason::AwaitingFounding, _)
    ));
    world.found(false);
    let batch = writes(world.plan());
    assert!(matches!(batch[..], [Write::MachineConfig { .. }]));
    world.carry_out(batch);
    assert!(matches!(world.plan(), Plan::Published));
    let stored = &world.secrets["state-etcd-1"];
    let labels = stored.metadata.labels.as_ref().unwrap();
    assert_eq!(labels["seedbed.dev/etcd-cluster"], "state");
}

#[test]
fn after_publication_a_lost_ca_is_never_made_anew() {
    let mut world = World::new();
    for _ in 0..2 {
        let batch = writes(world.plan());
        world.carry_out(batch);
    }
    world.found(true);
    let batch = writes(world.plan());
    world.carry_out(batch);
    world.secrets.remove("state-etcd");
    let Plan::Stalled(problems) = world.plan() else {
        panic!("it goes on without its CA");
    };
    assert!(problems[0].message.contains("state-etcd"), "{problems:?}");
    assert_eq!(problems[0].reason, ProblemReason::MissingInput);
}

#[test]
fn an_address_is_for_life_and_a_predecessors_secrets_are_not_used() {
    let mut world = World::new();
    let batch = writes(world.plan());
    world.carry_out(batch);
    world.found(true);
    world.object["spec"]["machines"][0]["address"] = json!("198.18.0.99");
    let Plan::Stalled(problems) = world.plan() else {
        panic!("the member moved");
    };
    assert_eq!(problems[0].path, "spec.machines[etcd-1].address");

    let mut world = World::new();
    let batch = writes(world.plan());
    world.carry_out(batch);
    world.object["metadata"]["uid"] = json!("2");
    assert!(matches!(
        world.plan(),
        Plan::Await(Reason::AwaitingDeletion, text) if text.contains("state-etcd")
    ));
}
