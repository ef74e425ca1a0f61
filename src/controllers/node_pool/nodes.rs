//! Seeing to the pool's Nodes: labels and taints of those that stay, the way out of the others.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Node;

use super::plan::{Facts, Members, Settled};
use crate::controllers::context::Context;
use crate::controllers::names;
use crate::domain::NodeName;
use crate::kube_ext::events::EventSpec;
use crate::target::{self, Drained, NodeMarks, NodeView};
use crate::tokens::SHARED;

/// What became of the Nodes.
#[derive(Default)]
pub struct Outcome {
    /// By name of a Node that leaves: what it waits for.
    pub leaving: BTreeMap<String, String>,
    /// What went wrong, for people.
    pub problems: Vec<String>,
}

/// Marks those that stay and takes out those that leave, a step each.
pub async fn see_to(
    facts: &Facts<'_>,
    members: &Members<'_>,
    settled: &Settled,
    context: &Context,
) -> Outcome {
    let mut outcome = Outcome::default();
    mark(facts, members, settled, &mut outcome, context).await;
    let client = &facts.target.client;
    for (name, node) in &members.joined {
        if target::drain_started(node).is_some()
            && let Err(error) = target::undo_drain(client, node).await
        {
            outcome.problems.push(format!("Node {name}: {error}"));
        }
    }
    for (name, node) in &members.leaving {
        let timeout = facts.pool.drain_timeout;
        match target::drain(client, node, timeout, facts.now).await {
            Ok(Drained::Gone) => {
                let event = EventSpec {
                    warning: false,
                    reason: "NodeDeleted",
                    action: "Draining",
                    note: format!("Node {name} is drained and deleted"),
                };
                context
                    .events
                    .publish(&*facts.observed.object, &event)
                    .await;
            }
            Ok(Drained::Waiting(text)) => {
                outcome.leaving.insert((*name).to_owned(), text);
            }
            Err(error) => {
                outcome
                    .leaving
                    .insert((*name).to_owned(), error.to_string());
            }
        }
    }
    outcome
}

/// Labels and taints go through the API: a kubelet may not give itself most of them.
async fn mark(
    facts: &Facts<'_>,
    members: &Members<'_>,
    settled: &Settled,
    outcome: &mut Outcome,
    context: &Context,
) {
    let mut marks = Vec::new();
    let mut seen = Vec::new();
    // Those that leave are labelled as well: the label is how they are found again.
    for (name, node) in members.joined.iter().chain(&members.leaving) {
        let Ok(parsed) = name.parse::<NodeName>() else {
            continue;
        };
        if members.leaving.contains_key(name) && super::plan::pool_of(node).is_some() {
            continue;
        }
        marks.push(marks_of(facts, settled, parsed, node));
        seen.push(NodeView::from((*node).clone()));
    }
    let applied = target::mark_nodes(&facts.target.client, &marks, &seen).await;
    if !applied.in_place || applied.written > 0 {
        let now = context.clock.monotonic();
        context.targets.labelled(&facts.target.uid, now);
    }
    let problems = applied.problems.into_iter();
    let texts = problems.map(|problem| format!("{}: {}", problem.object, problem.message));
    outcome.problems.extend(texts);
}

fn marks_of(facts: &Facts<'_>, settled: &Settled, name: NodeName, node: &Node) -> NodeMarks {
    let worker = facts.pool.worker(name.as_str());
    let mut labels = worker
        .map(|worker| worker.labels.clone())
        .unwrap_or_default();
    labels.insert(names::LABEL_NODE_POOL.to_owned(), facts.pool.name.clone());
    // What it has joined with stays, whatever is published later.
    let known = revision_of(node).map(str::to_owned);
    let revisions = &settled.configs.revisions;
    let published = revisions.get(name.as_str());
    let published = published.or_else(|| revisions.get(SHARED)).cloned();
    if let Some(revision) = known.or(published) {
        labels.insert(names::LABEL_NODE_REVISION.to_owned(), revision);
    }
    NodeMarks {
        node: name,
        labels,
        taints: worker
            .map(|worker| worker.taints.clone())
            .unwrap_or_default(),
    }
}

/// The revision of the machine config that a Node has joined with.
pub fn revision_of(node: &Node) -> Option<&str> {
    let labels = node.metadata.labels.as_ref()?;
    labels.get(names::LABEL_NODE_REVISION).map(String::as_str)
}
