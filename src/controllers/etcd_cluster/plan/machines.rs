//! What is to be written in the seed next for machines of the cluster's own. Pure.
//!
//! As for a ControlPlane: what is random is stored before anything renders from it, and nothing is
//! published before the founding is recorded. So a plan is one batch of writes, and the driver plans
//! again from what the API server answered.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use crate::controllers::conditions::Reason;
use crate::controllers::fields::Problem;
use crate::controllers::ledger;
use crate::controllers::names;
use crate::controllers::secrets::{Rendered, SecretMaker, rendered};
use crate::crd;
use crate::domain::{EtcdCluster, Founding, Machine, NodeName};
use crate::kube_ext::owner;
use crate::machine_config::etcd_machine_config;
use crate::pki::inventory::{etcd_machine_leaves, of_etcd_cluster};
use crate::pki::plan::{PkiStep, plan_for};
use crate::pki::state::{PkiState, Secrets, Signers};
use crate::pki::{Ca, CertSpec, Leaf, secret_names};

/// The next batch, or what stands in its way.
pub enum Plan {
    /// Make these, then plan again.
    Write(Vec<Write>),
    /// Nothing to write until something else happens; the text is for people.
    Await(Reason, String),
    /// Only a person can help.
    Stalled(Vec<Problem>),
    /// Every machine config is published and as it shall be.
    Published,
}

/// One write. Keys are generated while it is carried out, never here.
pub enum Write {
    /// Create the CA; one that is there already is adopted.
    Ca,
    /// Put leaves into the Secret of a machine's certificates.
    Leaves {
        machine: NodeName,
        leaves: BTreeMap<Leaf, CertSpec>,
        signers: Arc<Signers>,
        stored: Option<Box<Secret>>,
    },
    /// Create or change a machine config.
    MachineConfig {
        desired: Box<Secret>,
        stored: Option<Box<Secret>>,
    },
}

/// What the plan is made of.
pub struct Facts<'a> {
    pub object: &'a crd::EtcdCluster,
    pub cluster: &'a EtcdCluster,
    /// The Secrets of this cluster by name, and a CA that the user brought.
    pub secrets: &'a BTreeMap<String, Secret>,
    pub owner: &'a OwnerReference,
    pub now: Timestamp,
}

/// Plans the next batch.
pub fn plan(facts: &Facts<'_>) -> Plan {
    if let Some(text) = left_over(facts) {
        return Plan::Await(Reason::AwaitingDeletion, text);
    }
    let founding = ledger::founding(facts.object);
    let machines = &facts.cluster.machines;
    let moved = |founding| ledger::moved(machines, founding);
    if let Some(problem) = founding.as_ref().and_then(moved) {
        return Plan::Stalled(vec![problem]);
    }
    let state = pki_state(facts.cluster, facts.secrets);
    let inventory = of_etcd_cluster(facts.cluster);
    let pki = plan_for(inventory, &state, facts.was_published(), facts.now);
    if !pki.problems.is_empty() {
        return Plan::Stalled(pki.problems.iter().map(Problem::from).collect());
    }
    let writes = writes(facts, &state, pki.steps);
    let ca = state.cas.get(&Ca::Etcd).and_then(|ca| ca.as_ref().ok());
    let Some(ca) = ca.filter(|_| writes.is_empty()) else {
        return Plan::Write(writes);
    };
    match founding {
        Some(founding) => publish(facts, &state, &ca.pair.certificate_pem, &founding),
        None => {
            let text = "the founding to be recorded".to_owned();
            Plan::Await(Reason::AwaitingFounding, text)
        }
    }
}

impl Facts<'_> {
    /// A machine may have booted from what was published: what machines run with is never replaced.
    fn was_published(&self) -> bool {
        let name = &self.cluster.name;
        let mut machines = self.cluster.machines.iter();
        let stored = machines.any(|machine| {
            let secret = secret_names::machine_config(name, &machine.name);
            self.secrets.contains_key(&secret)
        });
        let status = self.object.status.as_ref();
        let slots = status.and_then(|status| Some(&status.ledger.as_ref()?.slots));
        let started = slots.is_some_and(|slots| slots.iter().any(|slot| slot.started));
        stored || started || status.is_some_and(|status| status.cluster_id.is_some())
    }
}

/// What all Secrets of the cluster have in common.
pub fn maker<'a>(cluster: &'a EtcdCluster, owner: &'a OwnerReference) -> SecretMaker<'a> {
    SecretMaker {
        name: &cluster.name,
        namespace: &cluster.namespace,
        label: names::LABEL_ETCD_CLUSTER,
        owner,
    }
}

/// What an earlier EtcdCluster of this name has left behind and the garbage collector will take away:
/// nothing of it may be used.
fn left_over(facts: &Facts<'_>) -> Option<String> {
    let secrets = facts.secrets.iter();
    let left: Vec<&str> = secrets
        .filter(|(_, secret)| owner::is_of_predecessor(&secret.metadata, facts.object))
        .map(|(name, _)| name.as_str())
        .collect();
    (!left.is_empty()).then(|| {
        format!(
            "the garbage collector to delete what an earlier EtcdCluster of this name owned: Secret {}",
            left.join(", ")
        )
    })
}

/// The certificates and keys that are stored.
pub fn pki_state(cluster: &EtcdCluster, secrets: &BTreeMap<String, Secret>) -> PkiState {
    let name = &cluster.name;
    let data = |secret: String| secrets.get(&secret)?.data.clone();
    let ca = data(secret_names::ca(name, Ca::Etcd)).map(|data| (Ca::Etcd, data));
    let machines = cluster.machines.iter().filter_map(|machine| {
        let secret = secret_names::machine_certificates(name, &machine.name);
        Some((machine.name.clone(), data(secret)?))
    });
    let secrets = Secrets {
        cas: ca.into_iter().collect(),
        machines: machines.collect(),
        ..Secrets::default()
    };
    PkiState::read(name, &secrets)
}

fn writes(facts: &Facts<'_>, state: &PkiState, steps: Vec<PkiStep>) -> Vec<Write> {
    let mut issued: BTreeMap<NodeName, BTreeMap<Leaf, CertSpec>> = BTreeMap::new();
    for step in steps {
        match step {
            // Leaves are signed by a CA that is stored.
            PkiStep::IssueCa(_) => return vec![Write::Ca],
            PkiStep::IssueLeaf {
                machine,
                leaf,
                spec,
                ..
            } => {
                issued.entry(machine).or_default().insert(leaf, spec);
            }
            PkiStep::IssueServiceAccount
            | PkiStep::IssueClusterAdmin { .. }
            | PkiStep::Keep { .. } => {}
        }
    }
    if issued.is_empty() {
        return Vec::new();
    }
    let signers = Arc::new(state.signers());
    let write = |(machine, leaves)| {
        let secret = secret_names::machine_certificates(&facts.cluster.name, &machine);
        Write::Leaves {
            stored: facts.secrets.get(&secret).cloned().map(Box::new),
            machine,
            leaves,
            signers: Arc::clone(&signers),
        }
    };
    issued.into_iter().map(write).collect()
}

/// Renders every machine; publishes all or, with an input missing or too large, none.
fn publish(facts: &Facts<'_>, state: &PkiState, ca_pem: &str, founding: &Founding) -> Plan {
    let cluster = facts.cluster;
    let render = |machine: &Machine| {
        let wanted = etcd_machine_leaves(&cluster.members, machine);
        let leaves = state.machine(&machine.name, wanted.keys());
        let leaves = leaves.ok_or("certificates are missing")?;
        etcd_machine_config(cluster, machine, founding, ca_pem, &leaves)
            .map_err(|error| error.to_string())
    };
    let maker = maker(cluster, facts.owner);
    match rendered(maker, &cluster.machines, founding, facts.secrets, render) {
        Err(problems) => Plan::Stalled(problems),
        Ok(Rendered { changes, .. }) if changes.is_empty() => Plan::Published,
        Ok(Rendered { changes, .. }) => {
            let write = |(desired, stored)| Write::MachineConfig { desired, stored };
            Plan::Write(changes.into_iter().map(write).collect())
        }
    }
}

#[cfg(test)]
mod tests;
