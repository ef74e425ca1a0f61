//! Which Nodes are the pool's, which are on their way in and which on their way out.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Node;

use super::{Facts, pool_of};
use crate::controllers::fields::{Problem, ProblemReason, show};
use crate::controllers::node_pool::secrets::machine_of;
use crate::domain::{NodePool, Workers};
use crate::tokens::SHARED;

/// The pool's machines, by name.
#[derive(Default)]
pub struct Members<'a> {
    /// Nodes that belong to the pool and stay.
    pub joined: BTreeMap<&'a str, &'a Node>,
    /// Nodes that are taken out.
    pub leaving: BTreeMap<&'a str, &'a Node>,
    /// Slots that need a token.
    pub needed: BTreeSet<String>,
    /// Names that cannot be the pool's.
    pub problems: Vec<Problem>,
}

impl<'a> Members<'a> {
    /// Sorts the Nodes that were read.
    pub fn of(facts: &Facts<'a>) -> Self {
        let mut members = Self::default();
        let own = |node: &Node| pool_of(node) == Some(facts.pool.name.as_str());
        let wanted = wanted(facts);
        // A Node that has joined and is not labelled yet is known by its Secret, or was let in.
        let secrets = facts.observed.secrets.values();
        let known: BTreeSet<&str> = secrets.filter_map(machine_of).collect();
        let admitted = facts.stored.0.get(SHARED).map(|slot| &slot.admitted);
        let open = matches!(facts.pool.workers, Workers::Open { .. }) && !facts.deleting;
        for (name, node) in &facts.target.nodes {
            let name = name.as_str();
            let let_in = admitted.is_some_and(|admitted| admitted.contains_key(name));
            let foreign = pool_of(node).is_some() && !own(node);
            if foreign || is_control_plane_node(node) {
                if wanted.contains(name) {
                    members.problems.push(foreign_node(name, node));
                }
            } else if wanted.contains(name) || (open && (own(node) || let_in)) {
                members.joined.insert(name, node);
            } else if own(node) || known.contains(name) || let_in {
                members.leaving.insert(name, node);
            }
        }
        members.problems.extend(facts.claimed.values().cloned());
        let missing =
            |name: &&str| !members.joined.contains_key(*name) && !facts.claimed.contains_key(*name);
        members.needed = if open && facts.claimed.contains_key(SHARED) {
            BTreeSet::new()
        } else if open {
            BTreeSet::from([SHARED.to_owned()])
        } else {
            wanted
                .into_iter()
                .filter(missing)
                .map(str::to_owned)
                .collect()
        };
        members
    }

    /// Slots with a machine config.
    pub fn slots<'b>(&'b self, pool: &'b NodePool) -> impl Iterator<Item = &'b str> {
        let names: Vec<&str> = match &pool.workers {
            Workers::Open { .. } if self.needed.contains(SHARED) => vec![SHARED],
            Workers::Open { .. } => Vec::new(),
            Workers::Listed(workers) => {
                let names = workers.iter().filter_map(|worker| worker.name.as_ref());
                let names = names.map(|name| name.as_str());
                names
                    .filter(|name| self.needed.contains(*name) || self.joined.contains_key(name))
                    .collect()
            }
        };
        names.into_iter()
    }
}

fn wanted<'a>(facts: &Facts<'a>) -> BTreeSet<&'a str> {
    match &facts.pool.workers {
        Workers::Listed(workers) if !facts.deleting => workers
            .iter()
            .filter_map(|worker| worker.name.as_ref())
            .map(|name| name.as_str())
            .collect(),
        Workers::Listed(_) | Workers::Open { .. } => BTreeSet::new(),
    }
}

/// kubeadm's mark: it may be one that nobody listed.
fn is_control_plane_node(node: &Node) -> bool {
    let labels = node.metadata.labels.as_ref();
    labels.is_some_and(|labels| labels.contains_key("node-role.kubernetes.io/control-plane"))
}

fn foreign_node(name: &str, node: &Node) -> Problem {
    let message = match pool_of(node) {
        Some(pool) => format!(
            "Node {} belongs to NodePool {}; take it out there, or choose another name",
            show(name),
            show(pool)
        ),
        None => format!(
            "Node {} is a control-plane node; a worker needs a name of its own",
            show(name)
        ),
    };
    Problem {
        path: format!("spec.machines[{name}].name"),
        reason: ProblemReason::InvalidSpec,
        message,
    }
}
