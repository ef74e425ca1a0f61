//! Names of the Secrets in the seed and of their keys. The first four Secrets and the kubeconfig
//! follow the contract of Cluster API, so that tools which know it find them.

use super::{Ca, Leaf};
use crate::domain::NodeName;

/// Key of a certificate (a CA's) or of the public key (service accounts).
pub const CERTIFICATE: &str = "tls.crt";
/// Key of the certificate of the CA behind a pair, as in Secrets of type `kubernetes.io/tls`.
pub const CA_CERTIFICATE: &str = "ca.crt";
/// Key of the private key.
pub const PRIVATE_KEY: &str = "tls.key";
/// Key of the content of the kubeconfig Secret and of a machine config.
pub const VALUE: &str = "value";

/// Secret of a CA: `<cp>-ca`, `<cp>-etcd`, `<cp>-proxy`.
pub fn ca(control_plane: &str, ca: Ca) -> String {
    match ca {
        Ca::Cluster => format!("{control_plane}-ca"),
        Ca::Etcd => format!("{control_plane}-etcd"),
        Ca::FrontProxy => format!("{control_plane}-proxy"),
    }
}

/// Secret of the service-account keys: `<cp>-sa`.
pub fn service_account(control_plane: &str) -> String {
    format!("{control_plane}-sa")
}

/// Secret of the administrators' kubeconfig: `<cp>-kubeconfig`.
pub fn kubeconfig(control_plane: &str) -> String {
    format!("{control_plane}-kubeconfig")
}

/// Secret that a machine boots from: `<cp>-<machine>`.
pub fn machine_config(control_plane: &str, machine: &NodeName) -> String {
    format!("{control_plane}-{machine}")
}

/// Secret of a machine's leaf certificates: `<cp>-<machine>-certs`.
pub fn machine_certificates(control_plane: &str, machine: &NodeName) -> String {
    format!("{control_plane}-{machine}-certs")
}

/// Key of a leaf certificate in the Secret of a machine's certificates.
pub fn leaf_certificate(leaf: Leaf) -> String {
    format!("{}.crt", leaf.name())
}

/// Key of a leaf's private key in the Secret of a machine's certificates.
pub fn leaf_key(leaf: Leaf) -> String {
    format!("{}.key", leaf.name())
}
