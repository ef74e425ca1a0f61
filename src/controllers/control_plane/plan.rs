//! What is to be written in the seed next. Pure.
//!
//! Random material is stored before anything renders from it, and the founding is recorded before
//! anything that names it is published: so a plan is one batch of writes that do not depend on
//! each other, and the driver plans again from what the API server answered.

mod obstacles;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use self::obstacles::{foreign_etcd, founding_halted, left_over};
use super::etcd;
use super::observe::Observed;
use crate::controllers::conditions::Reason;
use crate::controllers::fields::{Problem, ProblemReason};
use crate::controllers::secrets::{Rendered, SecretMaker, rendered};
use crate::controllers::{ledger, names};
use crate::crd::EtcdCluster;
use crate::domain::{
    ControlPlane, Etcd, EtcdCredentials, Founding, InitialClusterState, Machine, NodeName,
};
use crate::machine_config;
use crate::pki::inventory::machine_leaves;
use crate::pki::plan::{PkiStep, plan as plan_pki};
use crate::pki::state::{PkiState, Secrets, Signers};
use crate::pki::{Ca, CertSpec, ClusterPki, Leaf, secret_names};

/// The next batch, or what stands in its way.
pub enum Plan {
    /// Make these, then plan again.
    Write(Vec<Write>),
    /// Nothing to write until something else happens; the text is for people.
    Await(Reason, String),
    /// Only a person can help.
    Stalled(Vec<Problem>),
    /// Every machine config is published and as it shall be.
    Published(Box<Published>),
}

/// What is published.
pub struct Published {
    pub pki: ClusterPki,
    /// Revision of each machine's config.
    pub revisions: BTreeMap<String, String>,
}

/// One write. Keys are generated while it is carried out, never here.
pub enum Write {
    /// Create a CA; one that is there already is adopted.
    Ca(Ca),
    /// Create the service-account keys; such that are there already are adopted.
    ServiceAccount,
    /// Put leaves into the Secret of a machine's certificates.
    Leaves {
        machine: NodeName,
        leaves: BTreeMap<Leaf, CertSpec>,
        signers: Arc<Signers>,
        stored: Option<Box<Secret>>,
    },
    /// Write the administrators' kubeconfig.
    Kubeconfig {
        signers: Arc<Signers>,
        stored: Option<Box<Secret>>,
    },
    CreateEtcd(Box<EtcdCluster>),
    /// Put an edited EtcdCluster back.
    RestoreEtcd(Box<EtcdCluster>),
    /// Create or change a machine config.
    MachineConfig {
        desired: Box<Secret>,
        stored: Option<Box<Secret>>,
    },
}

impl Write {
    /// Whether it changes what certificates and keys are stored.
    pub fn changes_pki(&self) -> bool {
        match self {
            Self::Ca(_) | Self::ServiceAccount | Self::Leaves { .. } | Self::Kubeconfig { .. } => {
                true
            }
            Self::CreateEtcd(_) | Self::RestoreEtcd(_) | Self::MachineConfig { .. } => false,
        }
    }
}

/// What the plan is made of.
pub struct Facts<'a> {
    pub observed: &'a Observed,
    pub control_plane: &'a ControlPlane,
    /// [`pki_state`] of what was observed.
    pub pki: &'a PkiState,
    pub owner: &'a OwnerReference,
    pub now: Timestamp,
}

/// Plans the next batch.
pub fn plan(facts: &Facts<'_>) -> Plan {
    if let Some(text) = left_over(facts) {
        return Plan::Await(Reason::AwaitingDeletion, text);
    }
    let founding = facts.founding();
    let moved = || ledger::moved(&facts.control_plane.machines, founding.as_ref()?);
    if let Some(problem) = foreign_etcd(facts).or_else(moved) {
        return Plan::Stalled(vec![problem]);
    }
    let observed = facts.observed.etcd.as_ref();
    let published = facts.was_published(founding.as_ref());
    if let Some(text) = etcd::awaited(facts.control_plane, observed, published) {
        return Plan::Await(Reason::AwaitingEtcdCluster, text);
    }
    let state = facts.pki;
    let pki = match plan_pki(facts.control_plane, state, published, facts.now) {
        Ok(pki) => pki,
        Err(error) => return Plan::stalled("spec", &error),
    };
    if !pki.problems.is_empty() {
        return Plan::Stalled(pki.problems.iter().map(Problem::from).collect());
    }
    let mut writes = pki_writes(facts, pki.steps);
    writes.extend(etcd_write(facts));
    let Some(cluster) = state.cluster().filter(|_| writes.is_empty()) else {
        return Plan::Write(writes);
    };
    if let Some(problem) = founding_halted(facts) {
        return Plan::Stalled(vec![problem]);
    }
    match founding {
        Some(founding) => publish(facts, cluster, &founding),
        None => {
            let text = "the founding of etcd to be recorded".to_owned();
            Plan::Await(Reason::AwaitingFounding, text)
        }
    }
}

impl Plan {
    fn stalled(path: &str, error: &impl ToString) -> Self {
        Self::Stalled(vec![Problem {
            path: path.to_owned(),
            reason: ProblemReason::InvalidSpec,
            message: error.to_string(),
        }])
    }
}

impl Facts<'_> {
    /// The members on the control plane's own machines, once they are recorded. Without any there is
    /// nobody to wait for.
    fn founding(&self) -> Option<Founding> {
        match self.control_plane.etcd {
            Etcd::Stacked(_) => self.observed.etcd.as_ref().and_then(ledger::founding),
            Etcd::External(_) => Some(Founding::of_nobody()),
        }
    }

    /// A machine may have booted from what was published: a machine config is stored, or was once,
    /// by our own word or because a member has answered. What machines run with is never replaced.
    fn was_published(&self, founding: Option<&Founding>) -> bool {
        let name = &self.control_plane.name;
        let stored = self.control_plane.machines.iter().any(|machine| {
            let secret = secret_names::machine_config(name, &machine.name);
            self.observed.secrets.contains_key(&secret)
        });
        let rows = self.observed.object.status.iter();
        let said = rows
            .flat_map(|status| &status.machines)
            .any(|machine| machine.revision.is_some());
        let answered = founding.is_some_and(|founding| {
            let existing = founding.state == InitialClusterState::Existing;
            let members = &founding.members;
            (existing && !members.is_empty()) || members.iter().any(|member| member.started)
        });
        stored || said || answered
    }
}

/// The certificates and keys that are stored.
pub fn pki_state(observed: &Observed, control_plane: &ControlPlane) -> PkiState {
    let name = &control_plane.name;
    let data = |secret: String| observed.secrets.get(&secret)?.data.clone();
    let etcd_ca_secret = match &control_plane.etcd {
        Etcd::Stacked(_) => None,
        Etcd::External(external) => match &external.credentials {
            EtcdCredentials::Issued { cluster } => Some(secret_names::ca(cluster, Ca::Etcd)),
            EtcdCredentials::Given(_) => None,
        },
    };
    let secret_of = |ca| match (ca, &etcd_ca_secret) {
        (Ca::Etcd, Some(secret)) => secret.clone(),
        _ => secret_names::ca(name, ca),
    };
    let cas = Ca::ALL
        .into_iter()
        .filter_map(|ca| Some((ca, data(secret_of(ca))?)));
    let machines = control_plane.machines.iter().filter_map(|machine| {
        let secret = secret_names::machine_certificates(name, &machine.name);
        Some((machine.name.clone(), data(secret)?))
    });
    let secrets = Secrets {
        cas: cas.collect(),
        service_account: data(secret_names::service_account(name)),
        kubeconfig: data(secret_names::kubeconfig(name)),
        machines: machines.collect(),
        etcd_ca_secret: etcd_ca_secret.clone(),
    };
    PkiState::read(name, &secrets)
}

fn pki_writes(facts: &Facts<'_>, steps: Vec<PkiStep>) -> Vec<Write> {
    let mut writes = Vec::new();
    let mut admin = false;
    let mut leaves: BTreeMap<_, BTreeMap<Leaf, CertSpec>> = BTreeMap::new();
    for step in steps {
        match step {
            PkiStep::IssueCa(ca) => writes.push(Write::Ca(ca)),
            PkiStep::IssueServiceAccount => writes.push(Write::ServiceAccount),
            PkiStep::IssueLeaf {
                machine,
                leaf,
                spec,
                ..
            } => {
                leaves.entry(machine).or_default().insert(leaf, spec);
            }
            PkiStep::IssueClusterAdmin { .. } => admin = true,
            PkiStep::Keep { .. } => {}
        }
    }
    if !writes.is_empty() {
        // Leaves are signed by CAs that are stored.
        return writes;
    }
    if leaves.is_empty() && !admin {
        return writes;
    }
    let name = &facts.control_plane.name;
    let signers = Arc::new(facts.pki.signers());
    if admin {
        let stored = facts.observed.secrets.get(&secret_names::kubeconfig(name));
        writes.push(Write::Kubeconfig {
            signers: Arc::clone(&signers),
            stored: stored.cloned().map(Box::new),
        });
    }
    for machine in &facts.control_plane.machines {
        if let Some(leaves) = leaves.remove(&machine.name) {
            let secret = secret_names::machine_certificates(name, &machine.name);
            let stored = facts.observed.secrets.get(&secret).cloned().map(Box::new);
            writes.push(Write::Leaves {
                machine: machine.name.clone(),
                leaves,
                signers: Arc::clone(&signers),
                stored,
            });
        }
    }
    writes
}

/// The EtcdCluster is created once, and put back when somebody edits it. One that is referred to is
/// the user's.
fn etcd_write(facts: &Facts<'_>) -> Option<Write> {
    facts.control_plane.etcd.stacked()?;
    let desired = etcd::desired(
        &facts.observed.object,
        facts.control_plane,
        facts.owner.clone(),
    );
    let Some(stored) = &facts.observed.etcd else {
        return Some(Write::CreateEtcd(Box::new(desired)));
    };
    etcd::restored(stored, desired).map(|restored| Write::RestoreEtcd(Box::new(restored)))
}

/// What its Secrets have in common.
pub fn maker<'a>(control_plane: &'a ControlPlane, owner: &'a OwnerReference) -> SecretMaker<'a> {
    SecretMaker {
        name: &control_plane.name,
        namespace: &control_plane.namespace,
        label: names::LABEL_CONTROL_PLANE,
        owner,
    }
}

/// Renders every machine; publishes all or, with an input missing or too large, none.
fn publish(facts: &Facts<'_>, pki: ClusterPki, founding: &Founding) -> Plan {
    let (control_plane, state) = (facts.control_plane, facts.pki);
    let machines = &control_plane.machines;
    let render = |machine: &Machine| {
        let wanted = machine_leaves(control_plane, machine).map_err(|error| error.to_string())?;
        let leaves = state.machine(&machine.name, wanted.keys());
        let leaves = leaves.ok_or("certificates are missing")?;
        machine_config::machine_config(control_plane, machine, founding, &pki, &leaves)
            .map_err(|error| error.to_string())
    };
    let (maker, stored) = (maker(control_plane, facts.owner), &facts.observed.secrets);
    match rendered(maker, machines, founding, stored, render) {
        Err(problems) => Plan::Stalled(problems),
        Ok(Rendered { revisions, changes }) if changes.is_empty() => {
            Plan::Published(Box::new(Published { pki, revisions }))
        }
        Ok(Rendered { changes, .. }) => {
            let write = |(desired, stored)| Write::MachineConfig { desired, stored };
            Plan::Write(changes.into_iter().map(write).collect())
        }
    }
}
