//! Founding a cluster, once (invariant I16).
//!
//! The founders and a token that is unique to this founding are recorded before anything that
//! names them is published. The record stands in the EtcdCluster's status and in a ConfigMap that
//! outlives it; whoever finds one of them restores the other. With both gone and machine
//! configs already published, a second founding could make a second cluster beside the first, so
//! a person has to decide.

use serde::{Deserialize, Serialize};

use crate::crd::Founding;

/// The record as the ConfigMap holds it.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerRecord {
    pub founding: Founding,
    /// Hexadecimal; absent until the first founder has answered.
    #[serde(default, rename = "clusterID", skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
}

/// What is known before a founding.
#[derive(Clone, Debug, Default)]
pub struct FoundingFacts {
    /// From the EtcdCluster's status.
    pub ledger: Option<Founding>,
    /// From the ConfigMap.
    pub mirror: Option<LedgerRecord>,
    /// A machine config of this cluster has been published.
    pub published: bool,
    /// A machine of the inventory answers as an etcd member of this CA.
    pub answered: bool,
}

/// What to do about the founding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FoundingStep {
    /// Record a new founding (ConfigMap first, create-only; then status).
    Record,
    /// Write the status from the ConfigMap.
    RestoreStatus(LedgerRecord),
    /// Write the ConfigMap from the status.
    RestoreMirror(Founding),
    /// Both records are there and agree.
    Done,
    /// Nothing may be founded; the text says why and what a person can do.
    Halt(String),
}

/// Decides about the founding.
pub fn founding_step(facts: &FoundingFacts) -> FoundingStep {
    match (&facts.ledger, &facts.mirror) {
        (Some(ledger), Some(mirror)) if *ledger == mirror.founding => FoundingStep::Done,
        (Some(_), Some(_)) => FoundingStep::Halt(
            "the founding in the status and in the ledger ConfigMap differ; restore the status or \
             the ConfigMap from a backup so that both name the same token and members"
                .to_owned(),
        ),
        (None, Some(mirror)) => FoundingStep::RestoreStatus(mirror.clone()),
        (Some(ledger), None) => FoundingStep::RestoreMirror(ledger.clone()),
        (None, None) if facts.published || facts.answered => FoundingStep::Halt(
            "the record of this cluster's founding is gone although machines were given their \
             configuration; founding it again could start a second cluster beside the first. \
             Restore the ledger ConfigMap from a backup, or delete the ControlPlane and make it \
             anew"
                .to_owned(),
        ),
        (None, None) => FoundingStep::Record,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::FoundingMember;

    fn founding(token: &str) -> Founding {
        Founding {
            token: token.to_owned(),
            members: vec![FoundingMember {
                name: "cp-1".to_owned(),
                peer_url: "https://198.18.0.11:2380".to_owned(),
            }],
        }
    }

    fn record(token: &str) -> LedgerRecord {
        LedgerRecord {
            founding: founding(token),
            cluster_id: None,
        }
    }

    /// I16 over every combination of facts: only a cluster without any trace is founded.
    #[test]
    fn only_a_cluster_without_a_trace_is_founded() {
        for bits in 0..16u8 {
            let facts = FoundingFacts {
                ledger: (bits & 1 != 0).then(|| founding("a")),
                mirror: (bits & 2 != 0).then(|| record("a")),
                published: bits & 4 != 0,
                answered: bits & 8 != 0,
            };
            let step = founding_step(&facts);
            assert_eq!(
                step == FoundingStep::Record,
                bits == 0,
                "{facts:?} gave {step:?}"
            );
        }
    }

    #[test]
    fn a_lost_record_is_restored_from_the_other() {
        let lost_status = FoundingFacts {
            mirror: Some(record("a")),
            ..Default::default()
        };
        assert_eq!(
            founding_step(&lost_status),
            FoundingStep::RestoreStatus(record("a"))
        );
        let lost_mirror = FoundingFacts {
            ledger: Some(founding("a")),
            published: true,
            ..Default::default()
        };
        assert_eq!(
            founding_step(&lost_mirror),
            FoundingStep::RestoreMirror(founding("a"))
        );
    }

    #[test]
    fn records_that_differ_halt() {
        let facts = FoundingFacts {
            ledger: Some(founding("a")),
            mirror: Some(record("b")),
            ..Default::default()
        };
        assert!(matches!(founding_step(&facts), FoundingStep::Halt(_)));
    }
}
