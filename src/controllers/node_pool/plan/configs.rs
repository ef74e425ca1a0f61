//! The machine configs of a pool: rendered, unless nothing has changed that they are made of.

use std::collections::BTreeMap;

use kube::ResourceExt;
use sha2::{Digest, Sha256};

use super::members::Members;
use super::{Facts, Publication};
use crate::controllers::fields::{Problem, ProblemReason};
use crate::controllers::node_pool::observe::Observed;
use crate::controllers::secrets::in_place;
use crate::domain::Workers;
use crate::machine_config::{MachineConfig, worker_config};
use crate::tokens::Token;
use crate::tokens::plan::{self as tokens, Renewal};

/// What is to be written, and what is in place when nothing is.
pub struct Configs {
    pub publications: Vec<Publication>,
    pub in_place: InPlace,
}

/// Machine configs that are as they shall be. No user data and no token is part of it.
#[derive(Default)]
pub struct InPlace {
    /// Revision by slot.
    pub revisions: BTreeMap<String, String>,
    versions: Versions,
}

/// Changes with everything that machine configs are made of, and with what is stored of them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Versions {
    generation: Option<i64>,
    /// UID, generation and running version of the control plane.
    control_plane: Option<(Option<String>, Option<i64>, Option<String>)>,
    /// SHA-256 of the CA and of what the spec refers to.
    ca: [u8; 32],
    contents: [u8; 32],
    /// Id of the token that each slot names.
    tokens: BTreeMap<String, Option<String>>,
    /// UID and resource version of the Secret of each slot.
    secrets: BTreeMap<String, (Option<String>, Option<String>)>,
}

impl Versions {
    fn of(
        observed: &Observed,
        ca_pem: &str,
        slots: &[(&str, Option<&Token>)],
        config_name: impl Fn(&str) -> String,
    ) -> Self {
        let control_plane = observed.control_plane.as_ref();
        let stored = |slot: &str| {
            let stored = observed.secrets.get(&config_name(slot))?;
            Some((slot.to_owned(), (stored.uid(), stored.resource_version())))
        };
        let tokens = slots.iter().map(|(slot, token)| {
            let id = token.map(|token| token.id().to_owned());
            ((*slot).to_owned(), id)
        });
        Self {
            generation: observed.object.metadata.generation,
            control_plane: control_plane.map(|found| {
                let status = found.status.as_ref();
                let running = status.and_then(|status| status.version.clone());
                (found.uid(), found.metadata.generation, running)
            }),
            ca: Sha256::digest(ca_pem).into(),
            contents: observed.contents_digest,
            tokens: tokens.collect(),
            secrets: slots.iter().filter_map(|(slot, _)| stored(slot)).collect(),
        }
    }
}

/// Every machine config that is not in place; all, or with a problem none.
pub fn configs(
    facts: &Facts<'_>,
    members: &Members<'_>,
    token_facts: &tokens::Facts<'_>,
) -> Result<Configs, Vec<Problem>> {
    let mut slots: Vec<(&str, Option<&Token>)> = Vec::new();
    for slot in members.slots(facts.pool) {
        match facts.stored.0.get(slot) {
            Some(held) if members.needed.contains(slot) => {
                // Not in the target: what is published stays until it is.
                if tokens::is_usable(token_facts, held) {
                    slots.push((slot, Some(&held.current)));
                }
            }
            _ => slots.push((slot, None)),
        }
    }
    let config_name = |slot: &str| facts.maker().config_name(slot);
    let versions = Versions::of(facts.observed, facts.ca_pem, &slots, config_name);
    let same = facts.in_place.filter(|known| known.versions == versions);
    if let Some(known) = same {
        return Ok(Configs {
            publications: Vec::new(),
            in_place: InPlace {
                revisions: known.revisions.clone(),
                versions,
            },
        });
    }
    let mut publications = Vec::new();
    let mut revisions = BTreeMap::new();
    let mut problems = Vec::new();
    for (slot, token) in slots {
        match render(facts, slot, token) {
            Err(problem) => problems.push(problem),
            Ok(config) => {
                let desired = facts.maker().config(slot, &config, token);
                revisions.insert(slot.to_owned(), config.revision);
                let name = facts.maker().config_name(slot);
                let stored = facts.observed.secrets.get(&name);
                if !stored.is_some_and(|stored| in_place(stored, &desired)) {
                    publications.push(Publication {
                        desired,
                        stored: stored.cloned(),
                    });
                }
            }
        }
    }
    if problems.is_empty() {
        Ok(Configs {
            publications,
            in_place: InPlace {
                revisions,
                versions,
            },
        })
    } else {
        Err(problems)
    }
}

/// What keeps machine configs from being written, before there are tokens for them.
pub fn unwritable(facts: &Facts<'_>, renew: &BTreeMap<String, Renewal>) -> Vec<Problem> {
    let first = renew.iter();
    let first = first.filter(|(_, renewal)| **renewal == Renewal::First);
    first
        .filter_map(|(slot, _)| render(facts, slot, None).err())
        .collect()
}

fn render(facts: &Facts<'_>, slot: &str, token: Option<&Token>) -> Result<MachineConfig, Problem> {
    let path = match &facts.pool.workers {
        Workers::Listed(_) => format!("spec.machines[{slot}]"),
        Workers::Open { .. } => "spec".to_owned(),
    };
    let problem = |message: String| Problem {
        path: path.clone(),
        reason: ProblemReason::InvalidSpec,
        message,
    };
    let worker = facts.pool.worker(slot);
    let worker = worker.ok_or_else(|| problem("is not a machine of the pool".to_owned()))?;
    let server = facts.pool.cluster.public_endpoint();
    let server = server.ok_or_else(|| problem("no machine serves".to_owned()))?;
    worker_config(facts.pool, worker, &server, facts.ca_pem, token)
        .map_err(|error| problem(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_openapi::api::core::v1::Secret;
    use serde_json::{Value, json};

    use super::*;

    fn versions(world: &Value) -> Versions {
        let secret = |(name, of): (&String, &Value)| {
            let metadata = json!({"name": name, "uid": of[0], "resourceVersion": of[1]});
            let secret: Secret = serde_json::from_value(json!({"metadata": metadata})).unwrap();
            (name.clone(), secret)
        };
        let pool = json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "NodePool",
            "metadata": {"name": "workers", "generation": world["generation"]},
            "spec": {"controlPlaneRef": {"name": "prod"}},
        });
        let control_plane = json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "ControlPlane",
            "metadata": {"name": "prod", "uid": "1", "generation": world["cluster"]},
            "spec": {"version": "v1.37.1", "replicas": 1, "machines": []},
            "status": {"version": world["running"]},
        });
        let observed = Observed {
            object: Arc::new(serde_json::from_value(pool).unwrap()),
            control_plane: serde_json::from_value(control_plane).unwrap(),
            ca_pem: None,
            secrets: world["secrets"]
                .as_object()
                .unwrap()
                .iter()
                .map(secret)
                .collect(),
            contents: BTreeMap::new(),
            contents_digest: [u8::try_from(world["content"].as_u64().unwrap()).unwrap(); 32],
        };
        let token = world["token"].as_str();
        let token = token.map(|id| Token::new(id, "0123456789abcdef").unwrap());
        let slots = [("w-1", token.as_ref())];
        let slots = &slots[..usize::from(world["needed"] == true)];
        let ca = world["ca"].as_str().unwrap();
        Versions::of(&observed, ca, slots, |slot| format!("prod-{slot}"))
    }

    #[test]
    fn whatever_machine_configs_are_made_of_changes_the_versions() {
        let world = json!({
            "generation": 1, "cluster": 1, "running": "v1.37.1", "ca": "A", "content": 1,
            "token": "abcdef", "needed": true,
            "secrets": {"prod-w-1": ["u", "7"], "prod-workers-tokens": ["v", "8"]},
        });
        assert_eq!(versions(&world), versions(&world));
        for (pointer, value) in [
            ("/generation", json!(2)),
            ("/cluster", json!(2)),
            ("/running", json!("v1.37.2")),
            ("/ca", json!("AB")),
            ("/content", json!(2)),
            ("/token", json!("bbbbbb")),
            ("/token", json!(null)),
            ("/needed", json!(false)),
            ("/secrets/prod-w-1/1", json!("9")),
            // Deleted and made again.
            ("/secrets/prod-w-1/0", json!("w")),
            ("/secrets", json!({})),
        ] {
            let mut changed = world.clone();
            *changed.pointer_mut(pointer).unwrap() = value;
            assert_ne!(versions(&changed), versions(&world), "{pointer}");
        }
        // Whom it has approved, and what it has retired, is no part of a machine config.
        let mut same = world.clone();
        same["secrets"]["prod-workers-tokens"] = json!(["v", "9"]);
        assert_eq!(versions(&same), versions(&world));
    }
}
