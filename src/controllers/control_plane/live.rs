//! What the machines answer, and what kubeadm's post-init phases make, brought into the target.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures::future::join_all;
use kube::Client;
use sha2::{Digest, Sha256};
use tokio::net::TcpStream;

use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::domain::{ControlPlane, Machine, NodeName};
use crate::pki::KeyPair;
use crate::target::{self, Applied, NodeView, Readiness};

/// Longest wait for a TCP connection to an API server.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Objects in the target that were in place are looked at again after this time.
const OBJECTS_PERIOD: Duration = Duration::from_secs(300);

/// What the machines answer.
#[derive(Debug, Default)]
pub struct Live {
    /// One a serving machine.
    pub api_servers: BTreeMap<NodeName, Option<Readiness>>,
    /// The registered Nodes among the serving machines.
    pub nodes: Vec<NodeView>,
    /// Machines that were to go and have no Node any more.
    pub gone: Vec<NodeName>,
    /// kubeadm's objects and node marks are in place.
    pub objects_in_place: bool,
    /// What went wrong in the target, for people.
    pub problems: Vec<String>,
}

impl Live {
    /// Whether every API server is ready.
    pub fn all_ready(&self) -> bool {
        !self.api_servers.is_empty()
            && self
                .api_servers
                .values()
                .all(|answer| ready(answer.as_ref()))
    }

    /// Whether this machine's API server is ready.
    pub fn is_ready(&self, machine: &NodeName) -> bool {
        ready(self.api_servers.get(machine).and_then(Option::as_ref))
    }

    /// The Node of a machine.
    pub fn node(&self, machine: &NodeName) -> Option<&NodeView> {
        self.nodes.iter().find(|node| node.name == machine.as_str())
    }
}

fn ready(answer: Option<&Readiness>) -> bool {
    answer.is_some_and(Readiness::is_ready)
}

/// Whom the operator trusts as a target's API server, and who it is there.
#[derive(Clone)]
pub struct Trust {
    /// The cluster CA's certificate.
    pub ca_pem: String,
    pub identity: Arc<KeyPair>,
}

/// Asks every serving machine, each at its own address, and brings the target in place through the
/// first that is ready. The endpoint is not used: a load balancer may come later. Takes the Nodes
/// of machines that `go` away.
pub async fn look(
    uid: &str,
    control_plane: &ControlPlane,
    trust: &Trust,
    go: &[NodeName],
    context: &Context,
) -> Result<Live, Error> {
    let asked = control_plane
        .machines
        .iter()
        .map(|machine| ask(machine, trust));
    let answers = join_all(asked).await;
    let mut live = Live::default();
    let mut through = None;
    for (machine, (readiness, client)) in control_plane.machines.iter().zip(answers) {
        if ready(readiness.as_ref()) && through.is_none() {
            through = client;
        }
        live.api_servers.insert(machine.name.clone(), readiness);
    }
    if let Some(client) = through {
        bring_in_place(uid, control_plane, trust, &client, context, &mut live).await;
        for machine in go {
            match target::remove_node(&client, machine).await {
                Ok(()) => live.gone.push(machine.clone()),
                Err(error) => live.problems.push(format!("Node {machine}: {error}")),
            }
        }
    }
    Ok(live)
}

/// `None`: nothing listens, the machine has probably not booted.
async fn ask(machine: &Machine, trust: &Trust) -> (Option<Readiness>, Option<Client>) {
    let endpoint = machine.api_endpoint();
    let connected =
        tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(endpoint.to_string())).await;
    if !matches!(connected, Ok(Ok(_))) {
        return (None, None);
    }
    match target::connect(&endpoint, &trust.ca_pem, &trust.identity) {
        Ok(client) => (Some(target::readyz(&client).await), Some(client)),
        Err(error) => (Some(Readiness::Unreachable(error.to_string())), None),
    }
}

async fn bring_in_place(
    uid: &str,
    control_plane: &ControlPlane,
    trust: &Trust,
    client: &Client,
    context: &Context,
    live: &mut Live,
) {
    let objects = match target::desired_objects(control_plane, &trust.ca_pem) {
        Ok(objects) => objects,
        Err(error) => return live.problems.push(error.to_string()),
    };
    let fingerprint = fingerprint(&objects);
    let now = context.clock.monotonic();
    let mut objects_in_place = context
        .in_place
        .is_recent(uid, &fingerprint, now, OBJECTS_PERIOD);
    if !objects_in_place {
        let applied = target::apply(client, &objects).await;
        objects_in_place = settled(applied, live);
        if objects_in_place {
            context.in_place.note(uid, &fingerprint, now);
        }
    }
    let names: Vec<NodeName> = control_plane
        .machines
        .iter()
        .map(|machine| machine.name.clone())
        .collect();
    match target::nodes(client, &names).await {
        Ok(nodes) => live.nodes = nodes,
        Err(error) => return live.problems.push(format!("reading the Nodes: {error}")),
    }
    let marked = target::mark_nodes(client, &target::node_marks(control_plane), &live.nodes).await;
    live.objects_in_place = settled(marked, live) && objects_in_place;
}

/// Changes with any of the objects.
fn fingerprint(objects: &[target::Desired]) -> String {
    let mut hash = Sha256::new();
    for desired in objects {
        hash.update(desired.object.to_string());
    }
    BASE64.encode(hash.finalize())
}

/// Takes problems over; whether everything is in place.
fn settled(applied: Applied, live: &mut Live) -> bool {
    let problems = applied.problems.into_iter();
    live.problems
        .extend(problems.map(|problem| format!("{}: {}", problem.object, problem.message)));
    applied.in_place
}
