//! Why a machine has no files.

use crate::pki::Leaf;
use crate::pki::inventory::InventoryError;
use crate::versions::UnsupportedVersion;
use crate::yaml::YamlError;

/// An input that is missing or cannot be rendered. Never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error(transparent)]
    Version(#[from] UnsupportedVersion),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error(transparent)]
    Yaml(#[from] YamlError),
    #[error("a manifest cannot be written as JSON")]
    Json(#[from] serde_json::Error),
    #[error("the certificate of etcd's CA is not stored")]
    MissingEtcdCa,
    #[error("machine {machine}: certificate {leaf:?} has not been issued")]
    MissingLeaf { machine: String, leaf: Leaf },
    #[error(
        "machine {machine} is not in the list of etcd members; \
         it has to be added to the etcd cluster before its files are rendered"
    )]
    NotAMember { machine: String },
    #[error(
        "machine {machine}: the etcd ledger has peer URL {recorded}, its address makes it {actual}; \
         give the machine its old address back or replace the member"
    )]
    PeerUrlChanged {
        machine: String,
        recorded: String,
        actual: String,
    },
    #[error("spec.network.serviceCIDRs: {range} has no tenth address for the DNS service")]
    NoDnsAddress { range: String },
    #[error(
        "{path}: cannot be applied to the kubelet's configuration: {fault}; correct or remove it"
    )]
    Patch { path: String, fault: String },
}
