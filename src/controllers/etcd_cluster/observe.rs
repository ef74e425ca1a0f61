//! What is there: the object, its founding record, the members' own answers, and what people and
//! machines say where that matters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::future::try_join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::{Api, Resource, ResourceExt};

use super::ask;
use super::mirror::{Mirror, ledger_of, mirror};
use super::plan::inputs::mark;
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::fields::spread;
use crate::controllers::turn::Turn;
use crate::controllers::{ledger as read, names};
use crate::crd::{EtcdCluster, Founding, FoundingMember, Ledger, Machine};
use crate::domain::{MemberId, NodeName};
use crate::membership::Snapshot;
use crate::pki::{Ca, secret_names};

/// Everything that the plan stands on.
#[derive(Debug)]
pub struct Observed {
    /// Read from the API server in this reconcile until the founding is known to be on record
    /// twice, else the watched copy. What follows from an old copy is never stored, so never done: the status is
    /// written under the version that was read.
    pub cluster: Arc<EtcdCluster>,
    /// The ledger ConfigMap.
    pub mirror: Mirror,
    /// A machine config of this cluster has been published.
    pub published: bool,
    /// A machine answered under a CA that was there before this cluster.
    pub answered: bool,
    /// When the members were asked.
    pub asked_at: Timestamp,
    /// The members' answers; empty before the founding.
    pub snapshot: Snapshot,
    /// Whether the machines of silent members, and such as failed to join, answer.
    pub machines: BTreeMap<String, bool>,
    /// Whom each member that answers is connected to; asked only while another does not answer.
    pub sees: BTreeMap<MemberId, BTreeSet<MemberId>>,
    /// What people and providers say about machines.
    pub marks: BTreeMap<String, Mark>,
    /// When a snapshot of the only voter was last verified by this process.
    pub snapshot_verified_at: Option<Timestamp>,
    /// When this process last made the call of the recorded operation, unless etcd refused it.
    pub called_at: Option<Timestamp>,
    /// Why the members could not be asked at all.
    pub unasked: Option<String>,
}

/// What the annotations of a machine-config Secret say about its machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    /// It is confirmed gone; why.
    pub lost: Option<String>,
    /// It shall be taken away or imaged anew; why.
    pub release_requested: Option<String>,
    /// The member that its published config does not start on an empty disk.
    pub keeps_data_of: Option<String>,
}

/// Reads all of it.
pub async fn observe(
    watched: Arc<EtcdCluster>,
    turn: &mut Turn,
    context: &Context,
) -> Result<Observed, Error> {
    let known = context.mirrors.known(&watched, context.clock.monotonic());
    // What is published follows from the ledger, so that it is read anew where we publish.
    let cluster = if known.is_none() || owner(&watched).is_none() || !is_founded(&watched) {
        live(&watched, context).await?
    } else {
        watched
    };
    let mirror = match known.filter(|_| is_founded(&cluster)) {
        Some(record) => Mirror::Agrees(record),
        None => mirror(&cluster, context).await?,
    };
    let ledger = ledger_of(&cluster, &mirror);
    let mut observed = Observed {
        published: ledger.is_none() && published(&cluster, context).await?,
        answered: false,
        asked_at: context.clock.now(),
        snapshot: Snapshot::default(),
        machines: BTreeMap::new(),
        sees: BTreeMap::new(),
        marks: BTreeMap::new(),
        snapshot_verified_at: context.memories.snapshot_verified_at(&cluster),
        called_at: context.memories.called_at(&cluster),
        unasked: None,
        cluster,
        mirror,
    };
    match ledger {
        Some(ledger) => {
            observed.marks = seen_marks(&observed.cluster, context).await?;
            let failed = failed(&observed.cluster, &ledger);
            observed.ask(&ledger, failed, turn, context).await?;
        }
        None => observed.answered = answered_before(&observed.cluster, turn, context).await?,
    }
    Ok(observed)
}

impl Observed {
    /// One more round on the same object: what a step is checked against right before it is made.
    /// Machines without a member have no part in that.
    pub async fn again(
        self,
        cluster: EtcdCluster,
        turn: &mut Turn,
        context: &Context,
    ) -> Result<Self, Error> {
        let mut again = Self {
            called_at: context.memories.called_at(&cluster),
            cluster: Arc::new(cluster),
            asked_at: context.clock.now(),
            ..self
        };
        if let Some(ledger) = ledger_of(&again.cluster, &again.mirror) {
            again.marks = marks(&again.cluster, context).await?;
            again.ask(&ledger, Vec::new(), turn, context).await?;
        }
        Ok(again)
    }

    /// One round of questions: to all members and the machines `besides`; then, where a member is
    /// silent, to its machine and about connections, because they only matter there. A machine
    /// that was silent before is asked at once: each such question takes its whole deadline.
    async fn ask(
        &mut self,
        ledger: &Ledger,
        mut besides: Vec<Machine>,
        turn: &mut Turn,
        context: &Context,
    ) -> Result<(), Error> {
        let etcd = match context.etcd(&self.cluster).await? {
            Ok(etcd) => etcd,
            Err(why) => {
                self.unasked = Some(why);
                return Ok(());
            }
        };
        self.asked_at = context.clock.now();
        let expected = ask::members(ledger);
        besides.extend(self.silent_before(ledger));
        let alone = owner(&self.cluster).is_none();
        let (snapshot, mut machines) = turn
            .away(async {
                futures::join!(
                    ask::snapshot(&etcd, &expected),
                    ask::machines(&besides, alone, ask::SILENT_TIMEOUT)
                )
            })
            .await;
        self.snapshot = snapshot;
        let silent = self.silent(&machines);
        let (sees, others) = turn
            .away(async {
                futures::join!(
                    ask::active_peers(&etcd, &self.snapshot),
                    ask::machines(&silent, alone, ask::CONNECT_TIMEOUT)
                )
            })
            .await;
        machines.extend(others);
        self.sees = sees;
        self.machines = machines;
        Ok(())
    }

    /// What a person should know of the machine of a silent member.
    pub fn hint(&self, machine: &str) -> &'static str {
        match self.machines.get(machine) {
            Some(true) => ", but its machine answers: look at its etcd",
            Some(false) | None => "",
        }
    }

    /// Machines of members that are silent now and were not asked yet.
    fn silent(&self, asked: &BTreeMap<String, bool>) -> Vec<Machine> {
        let silent = |name: &String| {
            let mut members = self.snapshot.members.iter();
            members.any(|view| view.machine == *name && view.answer.is_err())
        };
        let machines = self.cluster.spec.machines.iter();
        machines
            .filter(|machine| silent(&machine.name) && !asked.contains_key(&machine.name))
            .cloned()
            .collect()
    }

    /// Machines of members that were silent in the last round.
    fn silent_before(&self, ledger: &Ledger) -> Vec<Machine> {
        let status = self.cluster.status.as_ref();
        let rows = status.into_iter().flat_map(|status| &status.members);
        let silent: Vec<String> = rows
            .filter(|row| row.silent_since.is_some())
            .map(|row| row.name.clone())
            .collect();
        let members = read::members(ledger).filter(|member| silent.contains(&member.name));
        let names: Vec<String> = members.map(|member| member.slot.machine.clone()).collect();
        let machines = self.cluster.spec.machines.iter();
        machines
            .filter(|machine| names.contains(&machine.name))
            .cloned()
            .collect()
    }
}

/// Machines that failed to join, as far as the inventory lists them: a sign of life gives them one
/// more try.
fn failed(cluster: &EtcdCluster, ledger: &Ledger) -> Vec<Machine> {
    let failed = |name: &str| {
        read::slot(ledger, name).is_none() && ledger.joins.iter().any(|j| j.machine == name)
    };
    let machines = cluster.spec.machines.iter();
    machines
        .filter(|machine| failed(&machine.name))
        .cloned()
        .collect()
}

fn is_founded(cluster: &EtcdCluster) -> bool {
    read::founded(Some(cluster)).is_some()
}

/// The marks as the watch has seen them: enough to tell what has to be done, never to do it.
async fn seen_marks(
    cluster: &EtcdCluster,
    context: &Context,
) -> Result<BTreeMap<String, Mark>, Error> {
    let seen = match owner(cluster) {
        Some(_) => &context.watches.stacked,
        None => &context.watches.etcd_clusters,
    };
    let namespace = cluster.namespace().unwrap_or_default();
    match seen.of(&namespace, &cluster.name_any()) {
        Some(secrets) => {
            let marks = secrets.into_values().filter_map(|one| one.mark);
            Ok(marks.map(|mark| *mark).collect())
        }
        None => marks(cluster, context).await,
    }
}

/// The annotations of the machine-config Secrets; their contents are not asked for.
async fn marks(cluster: &EtcdCluster, context: &Context) -> Result<BTreeMap<String, Mark>, Error> {
    let api: Api<Secret> = context.api(cluster);
    let of_this = names::machine_configs_under(label(cluster), &cluster.name_any());
    let list = api
        .list_metadata(&ListParams::default().labels(&of_this))
        .await
        .map_err(Error::api("reading the marks of the machines"))?;
    let secrets = list.items.iter();
    Ok(secrets
        .filter_map(|secret| marked(&cluster.name_any(), secret))
        .collect())
}

/// The machine that this is the config of, and what its annotations say. One that was made by hand
/// under another name says nothing.
pub fn marked(cluster: &str, secret: &impl ResourceExt) -> Option<(String, Mark)> {
    let machine: NodeName = secret.labels().get(names::LABEL_MACHINE)?.parse().ok()?;
    let is_config = secret.name_any() == secret_names::machine_config(cluster, &machine);
    is_config.then(|| (machine.to_string(), mark(secret.annotations())))
}

async fn live(watched: &EtcdCluster, context: &Context) -> Result<Arc<EtcdCluster>, Error> {
    let api: Api<EtcdCluster> = context.api(watched);
    api.get(&watched.name_any())
        .await
        .map(Arc::new)
        .map_err(Error::api("reading the EtcdCluster"))
}

/// Whether a machine may have booted for this cluster. The listed machines' configs are asked for by
/// name; the watch knows of others.
async fn published(cluster: &EtcdCluster, context: &Context) -> Result<bool, Error> {
    let known = seen_marks(cluster, context).await?;
    if !known.is_empty() {
        return Ok(true);
    }
    let api: Api<Secret> = context.api(cluster);
    let machines = cluster.spec.machines.iter();
    let names = machines
        .filter_map(|machine| machine.name.parse().ok())
        .map(|machine| secret_names::machine_config(&cluster.name_any(), &machine));
    let found = try_join_all(names.map(|name| {
        let api = api.clone();
        async move { api.get_metadata_opt(&name).await }
    }));
    let found = found.await;
    let found = found.map_err(Error::api("looking for published machine configs"))?;
    let ours = |secret: PartialObjectMeta<Secret>| secret.labels().contains_key(label(cluster));
    Ok(found.into_iter().flatten().any(ours))
}

/// Asks the machines before a founding, but only under a CA that the user brought: nobody can
/// have a certificate of a CA that was made for this cluster.
async fn answered_before(
    cluster: &EtcdCluster,
    turn: &mut Turn,
    context: &Context,
) -> Result<bool, Error> {
    let api: Api<Secret> = context.api(cluster);
    let name = secret_names::ca(&cluster.name_any(), Ca::Etcd);
    let ca = api
        .get_opt(&name)
        .await
        .map_err(Error::api("reading the etcd CA"))?;
    let ours = |ca: &Secret| ca.labels().contains_key(label(cluster));
    if ca.as_ref().is_none_or(ours) {
        return Ok(false);
    }
    let Ok(etcd) = context.etcd(cluster).await? else {
        return Ok(false);
    };
    let founding = founders(cluster);
    let would_be = ask::members(&Ledger {
        slots: super::plan::slots(&founding),
        founding: Some(founding),
        ..Ledger::default()
    });
    let snapshot = turn.away(ask::snapshot(&etcd, &would_be)).await;
    Ok(snapshot.answers().next().is_some())
}

/// The founding that this object asks for: `size` of its machines, under a token made of the object's
/// UID, which no other founding can have. A ControlPlane lists them first; else failure domains are
/// kept even.
pub fn founders(cluster: &EtcdCluster) -> Founding {
    let size = usize::try_from(cluster.spec.size).unwrap_or(0);
    let machines = &cluster.spec.machines;
    let domains = machines
        .iter()
        .map(|machine| machine.failure_domain.as_deref());
    let chosen = match owner(cluster) {
        Some(_) => (0..size).collect(),
        None => spread(domains, size),
    };
    let members = chosen.into_iter().filter_map(|index| machines.get(index));
    Founding {
        token: format!(
            "{}-{}",
            cluster.name_any(),
            cluster.uid().unwrap_or_default()
        ),
        members: members
            .map(|machine| FoundingMember {
                name: machine.name.clone(),
                peer_url: names::peer_url(&machine.address),
            })
            .collect(),
    }
}

/// The label that has its name, or its ControlPlane's, on everything that belongs to this cluster.
pub fn label(cluster: &EtcdCluster) -> &'static str {
    match owner(cluster) {
        Some(_) => names::LABEL_CONTROL_PLANE,
        None => names::LABEL_ETCD_CLUSTER,
    }
}

/// The ControlPlane that owns this cluster; `None` for one on machines of its own.
pub fn owner(cluster: &EtcdCluster) -> Option<&str> {
    let references = cluster.meta().owner_references.as_ref()?;
    references
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "ControlPlane")
        .map(|owner| owner.name.as_str())
}
