//! The API `seedbed.dev/v1alpha1`: types only.
//!
//! Answers what a user may write and what status says. Never holds behaviour: defaults are applied
//! by the controllers' `resolve`, not here and not in the schema, so that a later default reaches
//! old objects. A new field goes into its kind, then `resolve`, then the one consumer, then
//! `UPDATE=1 cargo test --test crds`.

pub mod common;
pub mod control_plane;
pub mod control_plane_status;
pub mod etcd_cluster;
pub mod etcd_cluster_status;
pub mod machine_config;
pub mod node_pool;
pub(crate) mod rules;
mod schema;

pub use common::*;
pub use control_plane::*;
pub use control_plane_status::*;
pub use etcd_cluster::*;
pub use etcd_cluster_status::*;
pub use machine_config::*;
pub use node_pool::*;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;

/// The CustomResourceDefinitions of all kinds, as they are installed.
pub fn all_crds() -> Vec<CustomResourceDefinition> {
    [ControlPlane::crd(), EtcdCluster::crd(), NodePool::crd()]
        .iter()
        .map(schema::finish)
        .collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_kind_generates_its_schema() {
        for crd in super::all_crds() {
            let yaml = serde_json::to_string(&crd).expect("serialisable");
            assert!(
                yaml.len() < 120_000,
                "{}: {}",
                crd.spec.names.kind,
                yaml.len()
            );
        }
    }
}
