//! A node pool with every default applied and every value parsed.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Taint;

use super::{ControlPlane, KubeletPatch, NodeName};
use crate::crd::Arg;

/// A node pool as it shall be.
#[derive(Clone, Debug)]
pub struct NodePool {
    /// Name of the object in the seed.
    pub name: String,
    /// Namespace of the object in the seed.
    pub namespace: String,
    /// The control plane as a machine of this pool sees it: version, kubelet settings, and the
    /// files, commands and limits of the machine config are the pool's.
    pub cluster: ControlPlane,
    pub workers: Workers,
    /// How long a bootstrap token is valid.
    pub token_ttl: Duration,
    /// How long evictions may be refused.
    pub drain_timeout: Duration,
    /// Whether the kubelets ask for serving certificates of the cluster CA.
    pub server_tls_bootstrap: bool,
}

/// The machines of a pool.
#[derive(Clone, Debug)]
pub enum Workers {
    /// Each by its name: those that are used, in the order of the list.
    Listed(Vec<Worker>),
    /// Any machine, up to a number of Nodes.
    Open { worker: Worker, max_nodes: usize },
}

/// A machine of a pool.
#[derive(Clone, Debug)]
pub struct Worker {
    /// `None` in an open pool: the Node is called like the machine.
    pub name: Option<NodeName>,
    /// `--hostname-override` is rendered when the operating system's hostname differs from the name.
    pub hostname: Option<String>,
    pub cri_socket: String,
    /// Of the pool and its own, failure domain included.
    pub labels: BTreeMap<String, String>,
    /// Inherited or its own; empty: none.
    pub taints: Vec<Taint>,
    pub resolv_conf: Option<String>,
    pub kubelet_extra_args: Vec<Arg>,
    /// The pool's, then its own.
    pub kubelet_patches: Vec<KubeletPatch>,
}

impl NodePool {
    /// The worker with this name; in an open pool, any.
    pub fn worker(&self, name: &str) -> Option<&Worker> {
        match &self.workers {
            Workers::Listed(workers) => workers
                .iter()
                .find(|worker| worker.name.as_ref().is_some_and(|own| own.as_str() == name)),
            Workers::Open { worker, .. } => Some(worker),
        }
    }
}
