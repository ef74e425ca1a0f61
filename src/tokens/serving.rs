//! Whether a kubelet's request for a serving certificate is granted. Pure.
//!
//! Kubernetes approves none of them by itself. The rules of the signer
//! `kubernetes.io/kubelet-serving` hold, and each name and address has to be the Node's own.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::refusal::Refusal;
use super::request::{AUTHENTICATED, NODES, Request, content, usages};

/// Signer of kubelets' serving certificates.
pub const SERVING_SIGNER: &str = "kubernetes.io/kubelet-serving";

/// What the target knows of the Node that asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KnownNode {
    pub name: String,
    /// Its host names, beside its name.
    pub names: BTreeSet<String>,
    pub addresses: BTreeSet<IpAddr>,
}

/// The Node whose kubelet asks for a serving certificate.
pub fn asking_node(request: &Request) -> Option<&str> {
    let node = request.username.strip_prefix("system:node:")?;
    (request.signer == SERVING_SIGNER).then_some(node)
}

/// Judges a request for a serving certificate of `node`.
pub fn judge(request: &Request, node: &KnownNode) -> Result<(), Refusal> {
    if asking_node(request) != Some(node.name.as_str()) {
        return Err(Refusal::WrongSigner);
    }
    if !request.groups.iter().eq([AUTHENTICATED, NODES]) {
        return Err(Refusal::WrongGroups);
    }
    usages(request, "server auth")?;
    let content = content(&request.request)?;
    if content.node != node.name {
        return Err(Refusal::OtherName);
    }
    if content.other_extensions {
        return Err(Refusal::Extensions);
    }
    let own_name = |name: &String| *name == node.name || node.names.contains(name);
    let own = content.dns_names.iter().all(own_name)
        && content.addresses.iter().all(|a| node.addresses.contains(a));
    if !own || !content.alternative_names {
        return Err(Refusal::UnknownAddress);
    }
    Ok(())
}
