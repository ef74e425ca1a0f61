//! What is answered to requests for certificates.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Node;

use super::Facts;
use super::members::Members;
use crate::controllers::node_pool::resolve::is_control_plane;
use crate::domain::{NodeName, Workers};
use crate::tokens::request::{
    Bearer, OpenPlace, Request, judge_listed, judge_open, node_asked_for,
};
use crate::tokens::serving::{self, KnownNode};
use crate::tokens::{Approval, Refusal, SHARED, Slot};

/// An answer to a request: a sentence for people, or why not.
pub struct Answer {
    pub request: Request,
    pub answer: Result<String, Refusal>,
}

/// What has to be recorded before it is granted, and what can be answered now.
#[derive(Default)]
pub struct Decision {
    /// Slot, Node and request.
    pub granted: Vec<(String, String, Approval)>,
    pub answers: Vec<Answer>,
}

/// Decides on every request that concerns the pool.
pub fn decide(facts: &Facts<'_>, members: &Members<'_>) -> Decision {
    let mut decision = Decision::default();
    for request in &facts.target.requests {
        let slot = request
            .token_id()
            .and_then(|id| facts.stored.slot_of(id).map(|found| (id, found)));
        if let Some((id, (name, slot))) = slot {
            let judged = match name {
                SHARED => open(facts, members, request, id, slot, &decision),
                _ => listed(facts, members, request, id, (name, slot)),
            };
            let recorded = |node: &String| match name {
                SHARED => slot.admitted.get(node),
                _ => slot.approval.as_ref(),
            };
            match judged {
                Ok(node) if recorded(&node).is_none() => {
                    let approval = Approval {
                        request: request.name.clone(),
                        uid: request.uid.clone(),
                        at: facts.now,
                    };
                    decision.granted.push((name.to_owned(), node, approval));
                }
                Ok(node) => {
                    let pool = &facts.pool.name;
                    let text = format!("{node} joins as a machine of NodePool {pool}");
                    decision.push(request, Ok(text));
                }
                Err(refusal) => decision.push(request, Err(refusal)),
            }
        } else if facts.target.unknown.contains(&request.uid) {
            decision.push(request, Err(Refusal::UnknownToken));
        } else if facts.pool.server_tls_bootstrap {
            serving_certificate(members, request, &mut decision);
        }
    }
    decision
}

impl Decision {
    fn push(&mut self, request: &Request, answer: Result<String, Refusal>) {
        self.answers.push(Answer {
            request: request.clone(),
            answer,
        });
    }
}

fn bearer<'a>(facts: &Facts<'a>, id: &str, granted: Option<&'a Approval>) -> Bearer<'a> {
    Bearer {
        expires: facts.target.live.get(id).and_then(|live| live.expires),
        now: facts.now,
        granted,
    }
}

fn listed(
    facts: &Facts<'_>,
    members: &Members<'_>,
    request: &Request,
    id: &str,
    (machine, slot): (&str, &Slot),
) -> Result<String, Refusal> {
    let node_exists = facts.target.nodes.contains_key(machine);
    let wanted = members.needed.contains(machine) || members.joined.contains_key(machine);
    let bearer = bearer(facts, id, slot.approval.as_ref());
    let judged = judge_listed(request, bearer, machine, node_exists, wanted);
    // A token that was replaced has granted its one request.
    match judged {
        Ok(_) if slot.current.id() != id => Err(Refusal::SecondUse),
        judged => judged,
    }
}

fn open(
    facts: &Facts<'_>,
    members: &Members<'_>,
    request: &Request,
    id: &str,
    slot: &Slot,
    decided: &Decision,
) -> Result<String, Refusal> {
    let node = node_asked_for(request)?;
    let max_nodes = match facts.pool.workers {
        Workers::Open { max_nodes, .. } => max_nodes,
        Workers::Listed(_) => 0,
    };
    let granted_now = decided.granted.iter();
    let mut granted_now = granted_now.filter(|(slot, _, _)| slot == SHARED);
    // Who was let in and has not come within one lifetime of a token gives its place to others.
    let ttl = SignedDuration::try_from(facts.pool.token_ttl).unwrap_or(SignedDuration::MAX);
    let coming = slot.admitted.iter().filter(|(_, approval)| {
        let since = facts.now.duration_since(approval.at);
        since < ttl
    });
    let coming = coming.map(|(name, _)| name.as_str());
    let mut all: BTreeSet<&str> = members.joined.keys().copied().chain(coming).collect();
    all.extend(granted_now.clone().map(|(_, node, _)| node.as_str()));
    let granted = granted_now
        .find(|(_, name, _)| *name == node)
        .map(|(_, _, approval)| approval)
        .or_else(|| slot.admitted.get(&node));
    let control_plane = node
        .parse::<NodeName>()
        .is_ok_and(|name| is_control_plane(&facts.pool.cluster, &name));
    let place = OpenPlace {
        node_exists: facts.target.nodes.contains_key(&node),
        name_taken: control_plane || facts.target.taken.contains(&node),
        free: max_nodes.saturating_sub(all.len()),
        closed: !members.needed.contains(SHARED),
    };
    let bearer = Bearer {
        expires: facts.target.live.get(id).and_then(|live| live.expires),
        now: facts.now,
        granted,
    };
    judge_open(request, bearer, place)
}

/// Kubelets of the pool's Nodes only; nobody else's request is touched.
fn serving_certificate(members: &Members<'_>, request: &Request, decision: &mut Decision) {
    let node = serving::asking_node(request).and_then(|name| members.joined.get(name));
    let Some(node) = node else { return };
    let node = known(node);
    let answer = serving::judge(request, &node)
        .map(|()| format!("{} serves at its own names and addresses", node.name));
    decision.push(request, answer);
}

fn known(node: &Node) -> KnownNode {
    let status = node.status.as_ref();
    let addresses = status.and_then(|status| status.addresses.as_ref());
    let mut by_kind: BTreeMap<bool, Vec<&str>> = BTreeMap::new();
    for address in addresses.into_iter().flatten() {
        let is_ip = matches!(address.type_.as_str(), "InternalIP" | "ExternalIP");
        by_kind.entry(is_ip).or_default().push(&address.address);
    }
    let texts = |is_ip: bool| by_kind.get(&is_ip).cloned().unwrap_or_default();
    KnownNode {
        name: node.metadata.name.clone().unwrap_or_default(),
        names: texts(false).into_iter().map(str::to_owned).collect(),
        addresses: texts(true)
            .into_iter()
            .filter_map(|text| text.parse::<IpAddr>().ok())
            .collect(),
    }
}
