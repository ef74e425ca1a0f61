//! Rights of the machines that node pools let join. Pure.

use super::desired::{Desired, Stage};
use super::rbac::{cluster_role_binding, group};
use crate::tokens::NODE_POOL_GROUP;

/// What a machine's token may do: ask for a certificate and fetch it (`system:node-bootstrapper`),
/// nothing else. Unlike kubeadm's group, nothing approves the request by itself.
pub fn node_pool_objects() -> Vec<Desired> {
    vec![cluster_role_binding(
        Stage::Foundation,
        "seedbed:node-bootstrapper",
        "system:node-bootstrapper",
        &[group(NODE_POOL_GROUP)],
    )]
}
