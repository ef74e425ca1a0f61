//! What is there: the object, its founding record, and the members' own answers.

use std::sync::Arc;

use futures::future::join_all;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::ListParams;
use kube::{Api, Resource, ResourceExt};

use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::names;
use crate::controllers::turn::Turn;
use crate::crd::{EtcdCluster, Founding, FoundingMember};
use crate::etcd::{EtcdApi, MemberEndpoint};
use crate::kube_ext::owner::controller_of;
use crate::membership::{LedgerRecord, MemberView, Snapshot};
use crate::pki::{Ca, secret_names};

/// Everything that the plan stands on.
#[derive(Debug)]
pub struct Observed {
    /// Read from the API server in this reconcile as long as the ledger is incomplete, else the
    /// watched copy: what the ledger holds is written once.
    pub cluster: Arc<EtcdCluster>,
    /// The ledger ConfigMap; `Unread` when it is known to agree with the status.
    pub mirror: Mirror,
    /// A machine config of this cluster has been published.
    pub published: bool,
    /// A machine answered under a CA that was there before this cluster.
    pub answered: bool,
    /// The members' answers; empty before the founding.
    pub snapshot: Snapshot,
    /// Why the members could not be asked at all.
    pub unasked: Option<String>,
}

/// The ledger ConfigMap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mirror {
    /// It was seen to agree with the status since this process started.
    Unread,
    Missing,
    Read(LedgerRecord),
    /// It belongs to an earlier cluster of this name and is about to be deleted.
    LeftOver,
    /// It is there but not as we wrote it.
    Unreadable(String),
}

/// Reads all of it.
pub async fn observe(
    watched: Arc<EtcdCluster>,
    turn: &mut Turn,
    context: &Context,
) -> Result<Observed, Error> {
    let settled = ledger_settled(&watched) && context.mirrors.agrees(&watched);
    let cluster = if settled {
        watched
    } else {
        live(&watched, context).await?
    };
    let mirror = if settled {
        Mirror::Unread
    } else {
        mirror(&cluster, context).await?
    };
    let recorded = founding_of(&cluster, &mirror);
    let mut observed = Observed {
        published: recorded.is_none() && published(&cluster, context).await?,
        answered: false,
        snapshot: Snapshot::default(),
        unasked: None,
        cluster,
        mirror,
    };
    match recorded {
        Some(founding) => match snapshot(&observed.cluster, &founding, turn, context).await? {
            Ok(snapshot) => observed.snapshot = snapshot,
            Err(why) => observed.unasked = Some(why),
        },
        None => observed.answered = answered_before(&observed.cluster, turn, context).await?,
    }
    Ok(observed)
}

fn ledger_settled(cluster: &EtcdCluster) -> bool {
    cluster.status.as_ref().is_some_and(|status| {
        status.cluster_id.is_some() && status.ledger.as_ref().is_some_and(|l| l.founding.is_some())
    })
}

fn founding_of(cluster: &EtcdCluster, mirror: &Mirror) -> Option<Founding> {
    let ledger = cluster
        .status
        .as_ref()
        .and_then(|status| status.ledger.as_ref());
    ledger
        .and_then(|ledger| ledger.founding.clone())
        .or(match mirror {
            Mirror::Read(record) => Some(record.founding.clone()),
            _ => None,
        })
}

async fn live(watched: &EtcdCluster, context: &Context) -> Result<Arc<EtcdCluster>, Error> {
    let api: Api<EtcdCluster> = context.api(watched);
    api.get(&watched.name_any())
        .await
        .map(Arc::new)
        .map_err(Error::api("reading the EtcdCluster"))
}

async fn mirror(cluster: &EtcdCluster, context: &Context) -> Result<Mirror, Error> {
    let api: Api<ConfigMap> = context.api(cluster);
    let name = names::etcd_ledger(&cluster.name_any());
    let found = api
        .get_opt(&name)
        .await
        .map_err(Error::api("reading the ledger ConfigMap"))?;
    let Some(config_map) = found else {
        return Ok(Mirror::Missing);
    };
    if let Some(theirs) = controller_of(&config_map.metadata)
        && controller_of(&cluster.metadata).is_some_and(|ours| ours.uid != theirs.uid)
    {
        return Ok(Mirror::LeftOver);
    }
    let text = config_map
        .data
        .as_ref()
        .and_then(|data| data.get(names::LEDGER_KEY));
    Ok(match text.map(|text| serde_json::from_str(text)) {
        Some(Ok(record)) => Mirror::Read(record),
        Some(Err(error)) => Mirror::Unreadable(format!("ConfigMap {name}: {error}")),
        None => Mirror::Unreadable(format!("ConfigMap {name} has no key {}", names::LEDGER_KEY)),
    })
}

async fn published(cluster: &EtcdCluster, context: &Context) -> Result<bool, Error> {
    let api: Api<Secret> = context.api(cluster);
    let of_this = names::machine_config_selector(&cluster.name_any());
    let list = api
        .list_metadata(&ListParams::default().labels(&of_this).limit(1))
        .await
        .map_err(Error::api("looking for published machine configs"))?;
    Ok(!list.items.is_empty())
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
    let ours = |ca: &Secret| ca.labels().contains_key(names::LABEL_CONTROL_PLANE);
    if ca.as_ref().is_none_or(ours) {
        return Ok(false);
    }
    let would_be = founders(cluster);
    Ok(snapshot(cluster, &would_be, turn, context)
        .await?
        .is_ok_and(|snapshot| snapshot.answers().next().is_some()))
}

/// The founding that this object asks for: its first `size` machines, under a token made of the
/// object's UID, which no other founding can have.
pub fn founders(cluster: &EtcdCluster) -> Founding {
    let size = usize::try_from(cluster.spec.size).unwrap_or(0);
    let members = cluster.spec.machines.iter().take(size);
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

/// One round of questions to all members at once, each under its own deadline.
async fn snapshot(
    cluster: &EtcdCluster,
    founding: &Founding,
    turn: &mut Turn,
    context: &Context,
) -> Result<Result<Snapshot, String>, Error> {
    let clients = match context.etcd_clients(cluster).await? {
        Ok(clients) => clients,
        Err(why) => return Ok(Err(why)),
    };
    let probes = founding.members.iter().map(|member| {
        let clients = Arc::clone(&clients);
        async move {
            let endpoint = MemberEndpoint {
                client_url: names::client_url(&member.peer_url),
            };
            MemberView {
                name: member.name.clone(),
                machine: member.name.clone(),
                peer_url: member.peer_url.clone(),
                answer: clients
                    .probe(&endpoint)
                    .await
                    .map_err(|error| error.to_string()),
            }
        }
    });
    Ok(Ok(Snapshot {
        members: turn.away(join_all(probes)).await,
    }))
}

/// The ControlPlane that owns this cluster; `None` for one on machines of its own.
pub fn owner(cluster: &EtcdCluster) -> Option<&str> {
    let references = cluster.meta().owner_references.as_ref()?;
    references
        .iter()
        .find(|owner| owner.controller == Some(true) && owner.kind == "ControlPlane")
        .map(|owner| owner.name.as_str())
}
