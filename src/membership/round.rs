//! What one round of questions brought, with its time: the input of `evidence`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::goal::Goal;
use super::operation::Operation;
use super::snapshot::Snapshot;
use crate::domain::{ClusterId, MemberId};

/// Everything that was seen in one round.
#[derive(Clone, Debug)]
pub struct Round<'a> {
    /// When the first question was asked.
    pub asked_at: Timestamp,
    /// When the last answer was there.
    pub now: Timestamp,
    /// From the spec and the marks on machines; `came_back` is filled in by `evidence`.
    pub goal: Goal,
    pub ledger: &'a Recorded,
    pub pending: Option<&'a Operation>,
    /// When this process last made the call of the pending operation, unless etcd refused it.
    pub called_at: Option<Timestamp>,
    pub snapshot: &'a Snapshot,
    /// Whether a machine's kubelet or API server answers. Asked of machines whose member is silent,
    /// and of spares; a machine that was not asked is absent.
    pub machines: &'a BTreeMap<String, bool>,
    /// Which members a member has live peer connections to, and a leader hears from, by its own
    /// metrics. Asked of healthy members while another is silent.
    pub sees: &'a BTreeMap<MemberId, BTreeSet<MemberId>>,
    /// `nodeLoss.timeout`.
    pub loss_timeout: Duration,
    /// When a snapshot of the only voter was last verified.
    pub snapshot_verified_at: Option<Timestamp>,
}

/// What the ledger holds, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    pub cluster_id: Option<ClusterId>,
    /// One a slot, in the ledger's order.
    pub members: Vec<RecordedMember>,
    /// IDs of removed members: what answers under one of them is as good as silent (I10).
    pub tombstones: Vec<MemberId>,
    /// The largest generation ever used.
    pub last_generation: u64,
    /// When a voter was last removed for its silence.
    pub last_loss_removal: Option<Timestamp>,
}

/// A slot: the member of a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordedMember {
    pub machine: String,
    pub name: String,
    pub peer_url: String,
    /// Known from the first list it was seen in.
    pub id: Option<MemberId>,
    /// The machine config that is published for it refuses to start it on an empty disk (I9).
    pub guarded: bool,
    /// Since when it and its machine were silent, as an earlier process wrote down.
    pub silent_since: Option<Timestamp>,
}

impl Recorded {
    /// The slot of this member: by ID, or by peer URL while its ID is unknown (I8).
    pub fn slot(&self, id: MemberId, peer_urls: &[String]) -> Option<&RecordedMember> {
        let by_id = self.members.iter().find(|slot| slot.id == Some(id));
        by_id.or_else(|| {
            self.members
                .iter()
                .find(|slot| slot.id.is_none() && peer_urls.contains(&slot.peer_url))
        })
    }
}
