//! What is there in the target: tokens, Nodes, requests that wait for an answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Node;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt as _};
use tokio::net::TcpStream;

use super::observe::{self, Observed};
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::fields::show;
use crate::controllers::names;
use crate::controllers::turn::Turn;
use crate::domain::{ControlPlane, NodePool, Workers};
use crate::kube_ext::apply::{CallError, within};
use crate::pki::KeyPair;
use crate::target::{self, client::CALL_DEADLINE};
use crate::tokens::format::{self, Live, Purpose};
use crate::tokens::request::{Request, node_asked_for};
use crate::tokens::{NODE_POOL_GROUP, Stored};

/// Longest wait for a TCP connection to an API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Nodes that are read at the same time.
const CALLS_AT_ONCE: usize = 8;

/// The target, read live in this reconcile.
pub struct Target {
    /// UID of its ControlPlane.
    pub uid: String,
    pub client: Client,
    /// Tokens of the pool by id.
    pub live: BTreeMap<String, Live>,
    /// The Nodes of the pool and those that requests ask for, by name.
    pub nodes: BTreeMap<String, Node>,
    /// Requests that nobody has decided.
    pub requests: Vec<Request>,
    /// Those among them that were made with a token that no pool has, by UID.
    pub unknown: BTreeSet<String>,
    /// Names that requests of an open pool ask for and that are taken in the seed.
    pub taken: BTreeSet<String>,
}

/// The client that was used last, if its API server is still ready.
async fn known(uid: &str, context: &Context) -> Option<Client> {
    let now = context.clock.monotonic();
    let (client, ready) = context.targets.client(uid, now)?;
    if ready {
        return Some(client);
    }
    if target::readyz(&client).await.is_ready() {
        context.targets.is_ready(uid, now);
        return Some(client);
    }
    context.targets.forget(uid);
    None
}

/// A client of the first API server that is ready. The inner error is for people.
async fn reach(
    uid: &str,
    control_plane: &ControlPlane,
    ca: &KeyPair,
    context: &Context,
) -> Result<Result<Client, String>, Error> {
    let identity = context.target_identity(uid, ca).await?;
    let mut why = "no machine serves".to_owned();
    for machine in &control_plane.machines {
        let endpoint = machine.api_endpoint();
        let connected =
            tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint.to_string())).await;
        if !matches!(connected, Ok(Ok(_))) {
            why = format!("nothing listens at {endpoint}");
            continue;
        }
        match target::connect(&endpoint, &ca.certificate_pem, &identity) {
            Ok(client) => match target::readyz(&client).await {
                target::Readiness::Ready => {
                    let now = context.clock.monotonic();
                    context.targets.connected(uid, &client, now);
                    return Ok(Ok(client));
                }
                target::Readiness::NotReady(text) | target::Readiness::Unreachable(text) => {
                    let text = text.lines().next().unwrap_or_default();
                    why = format!("the API server at {endpoint} is not ready: {text}");
                }
            },
            Err(error) => why = error.to_string(),
        }
    }
    Ok(Err(why))
}

/// A client of the target with our rights in place there. The inner error is for people.
pub async fn connect(
    observed: &Observed,
    pool: &NodePool,
    turn: &mut Turn,
    context: &Context,
) -> Result<Result<Client, String>, Error> {
    let control_plane = observed.control_plane.as_ref();
    let uid = control_plane
        .and_then(kube::ResourceExt::uid)
        .unwrap_or_default();
    // Only who has to find an API server first lets others go before: else all pools would be half
    // done before one is.
    let client = match known(&uid, context).await {
        Some(client) => client,
        None => {
            let name = show(&pool.cluster.name);
            let Some(Ok(ca)) = observe::cluster_ca(&observed.object, context).await? else {
                return Ok(Err(format!("the CA of ControlPlane {name}")));
            };
            let reaching = reach(&uid, &pool.cluster, &ca, context);
            match turn.away(reaching).await? {
                Ok(client) => client,
                Err(why) => {
                    return Ok(Err(format!("an API server of ControlPlane {name}: {why}")));
                }
            }
        }
    };
    match ensure_rights(&uid, &client, context).await {
        Ok(()) => Ok(Ok(client)),
        Err(why) => Ok(Err(format!("the rights of machines in the target: {why}"))),
    }
}

/// Puts the rights of machines that join in place; whether they are.
async fn ensure_rights(uid: &str, client: &Client, context: &Context) -> Result<(), String> {
    let now = context.clock.monotonic();
    if context.targets.has_rights(uid, now) {
        return Ok(());
    }
    let applied = target::apply(client, &target::node_pool_objects()).await;
    if applied.in_place {
        context.targets.keep_rights(uid, now);
        return Ok(());
    }
    let problems = applied.problems.iter();
    let problems = problems.map(|problem| format!("{}: {}", problem.object, problem.message));
    Err(problems.collect::<Vec<_>>().join("; "))
}

/// The requests that nobody has decided, as they were at most a second ago.
async fn requests(
    uid: &str,
    client: &Client,
    context: &Context,
) -> Result<Arc<Vec<Request>>, CallError> {
    let now = context.clock.monotonic();
    if let Some(requests) = context.targets.requests(uid, now) {
        return Ok(requests);
    }
    let requests = Arc::new(target::undecided_requests(client).await?);
    context.targets.keep_requests(uid, &requests, now);
    Ok(requests)
}

/// Reads what concerns the pool. The requests come first: a token that is stored after they were
/// read cannot be theirs.
pub async fn look(
    uid: &str,
    client: Client,
    pool: &NodePool,
    stored: &Stored,
    observed: &Observed,
    context: &Context,
) -> Result<Result<Target, CallError>, Error> {
    let requests = match requests(uid, &client, context).await {
        Ok(requests) => requests.to_vec(),
        Err(error) => return Ok(Err(error)),
    };
    let mut target = Target {
        uid: uid.to_owned(),
        client,
        live: BTreeMap::new(),
        nodes: BTreeMap::new(),
        requests,
        unknown: BTreeSet::new(),
        taken: BTreeSet::new(),
    };
    let seen = async {
        let nodes = nodes(&target, pool, observed, stored, context);
        futures::try_join!(live(&target.client, pool, stored), nodes)
    };
    match seen.await {
        Ok((live, nodes)) => {
            target.live = live;
            target.nodes = nodes;
        }
        Err(error) => return Ok(Err(error)),
    }
    let strangers = |request: &&Request| {
        let ours = request.token_id().and_then(|id| stored.slot_of(id));
        request.is_of_node_pools() && ours.is_none()
    };
    if target.requests.iter().any(|request| strangers(&request)) {
        let known = observe::all_token_ids(&observed.object, context).await?;
        let unknown = target.requests.iter().filter(strangers).filter(|request| {
            let id = request.token_id();
            !id.is_some_and(|id| known.contains(id))
        });
        target.unknown = unknown.map(|request| request.uid.clone()).collect();
    }
    if matches!(pool.workers, Workers::Open { .. }) {
        let asked = asked_names(&target.requests, stored);
        let cluster = &pool.cluster.name;
        let wanted = asked.iter().map(|name| names::worker_config(cluster, name));
        let taken = observe::occupied(&observed.object, wanted.collect(), context).await?;
        let is_taken = |name: &String| taken.contains_key(&names::worker_config(cluster, name));
        target.taken = asked.into_iter().filter(is_taken).collect();
    }
    Ok(Ok(target))
}

/// What is said of a token in its Secret.
pub fn description(pool: &NodePool) -> String {
    format!("Seedbed NodePool {}/{}", pool.namespace, pool.name)
}

/// What the tokens of node pools are for.
pub fn purpose(description: &str) -> Purpose<'_> {
    Purpose {
        description,
        group: NODE_POOL_GROUP,
        // Machines have the CA in their user data and need no signed cluster-info.
        signing: false,
    }
}

async fn live(
    client: &Client,
    pool: &NodePool,
    stored: &Stored,
) -> Result<BTreeMap<String, Live>, CallError> {
    let ids = stored.ids().into_iter().map(str::to_owned);
    let found = target::tokens(client, ids.collect::<Vec<_>>()).await?;
    let text = description(pool);
    let tokens = stored.0.values().flat_map(|slot| slot.tokens());
    let live = tokens.filter_map(|token| {
        let secret = found.get(token.id())?;
        let live = format::live(secret, token, purpose(&text));
        Some((token.id().to_owned(), live))
    });
    Ok(live.collect())
}

/// The names that requests with tokens of the pool ask for.
fn asked_names(requests: &[Request], stored: &Stored) -> BTreeSet<String> {
    let ours = requests.iter().filter(|request| {
        let id = request.token_id();
        id.is_some_and(|id| stored.slot_of(id).is_some())
    });
    ours.filter_map(|request| node_asked_for(request).ok())
        .collect()
}

/// Whether Nodes carry the pool's label; of a pool that had some a moment ago it is not asked.
async fn has_nodes(
    target: &Target,
    pool: &NodePool,
    observed: &Observed,
    context: &Context,
) -> Result<bool, CallError> {
    let status = observed.object.status.as_ref();
    if status.and_then(|status| status.joined_replicas) > Some(0) {
        return Ok(true);
    }
    let now = context.clock.monotonic();
    if let Some(populated) = context.targets.is_populated(&target.uid, &pool.name, now) {
        return Ok(populated);
    }
    let api: Api<Node> = Api::all(target.client.clone());
    let of_pools = ListParams::default().labels(names::LABEL_NODE_POOL);
    let list = within(CALL_DEADLINE, api.list_metadata(&of_pools)).await?;
    let pools = list.items.iter();
    let pools = pools.filter_map(|node| node.labels().get(names::LABEL_NODE_POOL).cloned());
    let pools: BTreeSet<String> = pools.collect();
    let populated = pools.contains(&pool.name);
    context.targets.keep_populated(&target.uid, pools, now);
    Ok(populated)
}

/// The Nodes with the pool's label, and by name those that may not have it yet.
async fn nodes(
    target: &Target,
    pool: &NodePool,
    observed: &Observed,
    stored: &Stored,
    context: &Context,
) -> Result<BTreeMap<String, Node>, CallError> {
    let api: Api<Node> = Api::all(target.client.clone());
    let mut nodes: BTreeMap<String, Node> = BTreeMap::new();
    if has_nodes(target, pool, observed, context).await? {
        let ours = format!("{}={}", names::LABEL_NODE_POOL, pool.name);
        let ours = ListParams::default().labels(&ours);
        let labelled = within(CALL_DEADLINE, api.list(&ours)).await?;
        let labelled = labelled.items.into_iter();
        nodes.extend(labelled.map(|node| (node.name_any(), node)));
    }
    let mut others = asked_names(&target.requests, stored);
    if let Workers::Listed(workers) = &pool.workers {
        let names = workers.iter().filter_map(|worker| worker.name.as_ref());
        others.extend(names.map(ToString::to_string));
    }
    let secrets = observed.secrets.values();
    others.extend(
        secrets
            .filter_map(super::secrets::machine_of)
            .map(str::to_owned),
    );
    let admitted = stored.0.values().flat_map(|slot| slot.admitted.keys());
    others.extend(admitted.cloned());
    others.retain(|name| !nodes.contains_key(name));
    let calls: Vec<_> = others
        .into_iter()
        .map(|name| {
            let api = api.clone();
            async move { within(CALL_DEADLINE, api.get_opt(&name)).await }
        })
        .collect();
    let mut answers = stream::iter(calls).buffer_unordered(CALLS_AT_ONCE);
    while let Some(answer) = answers.next().await {
        nodes.extend(answer?.map(|node| (node.name_any(), node)));
    }
    Ok(nodes)
}
