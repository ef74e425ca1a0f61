//! What earlier rounds of questions to etcd's members have shown, by the EtcdCluster's UID. It is
//! lost with the process: whatever needs two looks then takes two looks again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use kube::ResourceExt;

use crate::crd::EtcdCluster;
use crate::membership::Memory;

/// The memories of all clusters.
#[derive(Default)]
pub struct Memories(Mutex<HashMap<String, Remembered>>);

#[derive(Clone, Debug, Default)]
struct Remembered {
    rounds: Memory,
    snapshot_verified_at: Option<Timestamp>,
    called_at: Option<Timestamp>,
}

impl Memories {
    /// What earlier rounds have shown.
    pub fn rounds(&self, cluster: &EtcdCluster) -> Memory {
        self.with(cluster, |remembered| remembered.rounds.clone())
    }

    /// Keeps what they have shown together with this one.
    pub fn keep(&self, cluster: &EtcdCluster, rounds: Memory) {
        self.with(cluster, |remembered| remembered.rounds = rounds);
    }

    /// When a snapshot was last verified.
    pub fn snapshot_verified_at(&self, cluster: &EtcdCluster) -> Option<Timestamp> {
        self.with(cluster, |remembered| remembered.snapshot_verified_at)
    }

    /// A snapshot was verified.
    pub fn note_snapshot(&self, cluster: &EtcdCluster, at: Timestamp) {
        self.with(cluster, |remembered| {
            remembered.snapshot_verified_at = Some(at)
        });
    }

    /// When this process last made the call of a recorded operation.
    pub fn called_at(&self, cluster: &EtcdCluster) -> Option<Timestamp> {
        self.with(cluster, |remembered| remembered.called_at)
    }

    /// A call is made; `None`: etcd has refused it, so that it can no longer come through.
    pub fn note_call(&self, cluster: &EtcdCluster, at: Option<Timestamp>) {
        self.with(cluster, |remembered| remembered.called_at = at);
    }

    /// Forgets an object that is gone.
    pub fn forget(&self, uid: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(uid);
    }

    fn with<T>(&self, cluster: &EtcdCluster, work: impl FnOnce(&mut Remembered) -> T) -> T {
        let uid = cluster.uid().unwrap_or_default();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        work(all.entry(uid).or_default())
    }
}
