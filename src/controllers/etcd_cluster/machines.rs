//! The machines of an EtcdCluster of one's own: its CA, their certificates and their machine configs.
//!
//! The stages of a ControlPlane in small: the seed is read, the spec resolved, batches of writes are
//! planned and made until nothing is left. For a stacked cluster its ControlPlane does all this.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ListParams;
use kube::{Api, ResourceExt};

use super::plan::machines::{Facts, Plan, Write, maker, pki_state, plan};
use super::resolve::{references, resolve};
use crate::controllers::conditions::Reason;
use crate::controllers::contents::contents;
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::fields::{Problem, ProblemReason};
use crate::controllers::names;
use crate::controllers::release::{Released, has_member};
use crate::controllers::secret_writer::{KeySettings, SecretWriter, let_go};
use crate::controllers::settled::{Settled, Versions};
use crate::crd;
use crate::domain::{EtcdCluster, NodeName};
use crate::kube_ext::owner::controller_reference;
use crate::pki::{Ca, secret_names};

/// Batches of writes in one look: CA, certificates, machine configs, and one to spare.
const MOST_BATCHES: usize = 4;
/// Writes of one batch that are under way at the same time.
const WRITES_AT_ONCE: usize = 8;

/// How far the machines' Secrets came.
#[derive(Debug)]
pub struct Machines {
    pub progress: Progress,
    pub expiries: Expiries,
}

/// When each certificate expires.
pub type Expiries = BTreeMap<String, Timestamp>;

/// How far it came.
#[derive(Debug)]
pub enum Progress {
    /// Only a person can help.
    Stalled(Vec<Problem>),
    /// The text says for what.
    Awaiting(Reason, String),
    /// Every machine config is published and as it shall be.
    Published,
}

impl Machines {
    /// Nothing may be founded, added or removed: by a spec that is wrong, or beside what an earlier
    /// cluster has left. A missing input only keeps new configs from being published.
    pub fn holds_membership(&self) -> bool {
        match &self.progress {
            Progress::Stalled(problems) => problems
                .iter()
                .any(|problem| problem.reason != ProblemReason::MissingInput),
            Progress::Awaiting(reason, _) => *reason == Reason::AwaitingDeletion,
            Progress::Published => false,
        }
    }

    /// Whether certificates are stored and the founding is all that is waited for.
    pub fn awaits_founding(&self) -> bool {
        matches!(
            self.progress,
            Progress::Awaiting(Reason::AwaitingFounding, _)
        )
    }

    fn stalled(problems: Vec<Problem>) -> Self {
        Self {
            progress: Progress::Stalled(problems),
            expiries: BTreeMap::new(),
        }
    }
}

/// Brings the Secrets of the machines in order, by `object` as it was read a moment ago.
pub async fn look_after(object: &crd::EtcdCluster, context: &Context) -> Result<Machines, Error> {
    let contents = contents(object, references(&object.spec), context).await?;
    let uid = object.uid().unwrap_or_default();
    let now = context.clock.monotonic();
    let seen = &context.watches.etcd_clusters;
    if let Some(settled) = context.etcd_machines.recent(&uid, now)
        && settled
            .holds(object, Some(object), &contents, seen, context)
            .await?
    {
        return Ok(Machines {
            progress: Progress::Published,
            expiries: settled.found.clone(),
        });
    }
    let secrets = secrets(object, context).await?;
    let cluster = match resolve(object, &contents) {
        Ok(cluster) => cluster,
        Err(problems) => return Ok(Machines::stalled(problems)),
    };
    let owner = controller_reference(object)
        .ok_or_else(|| Error::Bug("the EtcdCluster has no UID".to_owned()))?;
    let mut seed = Seed {
        object,
        cluster: &cluster,
        owner: &owner,
        secrets,
        context,
    };
    let progress = seed.carry_out().await?;
    let expiries = pki_state(&cluster, &seed.secrets).expiries(&cluster.machines);
    if matches!(progress, Progress::Published) && !seed.let_go().await? {
        let versions = Versions::of(object, Some(object), &seed.secrets, &contents, seen.label);
        let settled = Settled::new(expiries.clone(), versions, now);
        context.etcd_machines.put(uid, Arc::new(settled), now);
    }
    Ok(Machines { progress, expiries })
}

/// The Secrets of this cluster by name, and a CA that the user brought.
async fn secrets(
    object: &crd::EtcdCluster,
    context: &Context,
) -> Result<BTreeMap<String, Secret>, Error> {
    let api: Api<Secret> = context.api(object);
    let name = object.name_any();
    let label = format!("{}={name}", names::LABEL_ETCD_CLUSTER);
    let list = api
        .list(&ListParams::default().labels(&label))
        .await
        .map_err(Error::api("listing the Secrets"))?;
    let named = |secret: Secret| (secret.name_any(), secret);
    let mut secrets: BTreeMap<_, _> = list.items.into_iter().map(named).collect();
    let ca = secret_names::ca(&name, Ca::Etcd);
    if !secrets.contains_key(&ca) {
        let found = api.get_opt(&ca).await;
        let found = found.map_err(Error::api("reading the etcd CA"))?;
        secrets.extend(found.map(named));
    }
    Ok(secrets)
}

struct Seed<'a> {
    object: &'a crd::EtcdCluster,
    cluster: &'a EtcdCluster,
    owner: &'a OwnerReference,
    secrets: BTreeMap<String, Secret>,
    context: &'a Context,
}

impl Seed<'_> {
    /// Plans and acts until nothing is left to write.
    async fn carry_out(&mut self) -> Result<Progress, Error> {
        for _ in 0..MOST_BATCHES {
            let plan = plan(&Facts {
                object: self.object,
                cluster: self.cluster,
                secrets: &self.secrets,
                owner: self.owner,
                now: self.context.clock.now(),
            });
            match plan {
                Plan::Write(writes) => match self.act(writes).await {
                    Err(error @ Error::Occupied { .. }) => {
                        let problem = Problem {
                            path: "metadata.name".to_owned(),
                            reason: ProblemReason::InvalidSpec,
                            message: error.to_string(),
                        };
                        return Ok(Progress::Stalled(vec![problem]));
                    }
                    done => done?,
                },
                Plan::Await(reason, text) => return Ok(Progress::Awaiting(reason, text)),
                Plan::Stalled(problems) => return Ok(Progress::Stalled(problems)),
                Plan::Published => return Ok(Progress::Published),
            }
        }
        let text = "the next look".to_owned();
        Ok(Progress::Awaiting(Reason::IssuingCertificates, text))
    }

    /// Makes one batch. The first failure ends it; what was written stays and is found again.
    async fn act(&mut self, writes: Vec<Write>) -> Result<(), Error> {
        let writer = SecretWriter {
            maker: maker(self.cluster, self.owner),
            keys: KeySettings {
                algorithm: self.cluster.key_algorithm,
                leaf_validity: self.cluster.leaf_validity,
                ca_validity: self.cluster.ca_validity,
            },
            secrets: self.context.api(self.object),
            context: self.context,
            now: self.context.clock.now(),
        };
        let carry_out = |write| {
            let writer = &writer;
            async move {
                match write {
                    Write::Ca => writer.create_ca(Ca::Etcd).await,
                    Write::Leaves {
                        machine,
                        leaves,
                        signers,
                        stored,
                    } => writer.issue_leaves(&machine, leaves, stored, signers).await,
                    Write::MachineConfig { desired, stored } => {
                        writer.publish(desired, stored).await
                    }
                }
            }
        };
        let written: Vec<Secret> = stream::iter(writes)
            .map(carry_out)
            .buffer_unordered(WRITES_AT_ONCE)
            .try_collect()
            .await?;
        let written = written.into_iter();
        self.secrets
            .extend(written.map(|secret| (secret.name_any(), secret)));
        Ok(())
    }

    /// Empties the Secrets of machines that were to go and have no member any more; whether there
    /// were any.
    async fn let_go(&self) -> Result<bool, Error> {
        let machines = self.cluster.machines.iter().chain(&self.cluster.spares);
        let released = Released {
            name: &self.cluster.name,
            secrets: &self.secrets,
            inventory: machines.map(|machine| &machine.name).collect(),
        };
        let serves = |machine: &NodeName| has_member(self.object, machine);
        let due = released.due(serves);
        for machine in &due {
            let note = format!("machine {machine} has no etcd member any more");
            let_go(self.object, machine, note, self.context).await?;
        }
        Ok(!due.is_empty())
    }
}
