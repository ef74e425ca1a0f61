//! The objects, in the order in which they are made.

use std::fmt;

use serde_json::Value;

use super::{config_maps, core_dns, kube_proxy, rbac};
use crate::domain::ControlPlane;
use crate::manifests::ManifestError;
use crate::versions::UnsupportedVersion;
use crate::yaml::YamlError;

/// When an object is made. Later stages rely on earlier ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Rights of identities in certificates: nothing may rely on such a certificate before.
    Access,
    /// Configuration, accounts and rights that nodes and addons read.
    Foundation,
    /// Workloads and their Service.
    Addons,
}

impl Stage {
    /// Every stage, first to last.
    pub const ALL: [Self; 3] = [Self::Access, Self::Foundation, Self::Addons];
}

/// An object that shall be in the target.
#[derive(Clone, Debug, PartialEq)]
pub struct Desired {
    pub stage: Stage,
    /// The object with apiVersion, kind and metadata; only fields that are kept as they are here.
    pub object: Value,
    /// JSON pointers of fields that belong to the people of the target once they exist, as kubeadm
    /// has it: a live value is left alone.
    pub live_wins: &'static [&'static str],
}

/// Why the objects of a control plane cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    #[error("no machine serves; spec.machines needs at least one")]
    NoMachine,
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Version(#[from] UnsupportedVersion),
    #[error(transparent)]
    Yaml(#[from] YamlError),
}

impl Desired {
    pub(super) fn new(stage: Stage, object: Value) -> Self {
        Self {
            stage,
            object,
            live_wins: &[],
        }
    }

    /// Kind of the object.
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// Name of the object.
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// Namespace; `None` for cluster-scoped objects.
    pub fn namespace(&self) -> Option<&str> {
        self.object
            .pointer("/metadata/namespace")
            .and_then(Value::as_str)
    }

    fn text(&self, pointer: &str) -> &str {
        self.object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }
}

impl fmt::Display for Desired {
    /// `ConfigMap kube-system/kubeadm-config`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace() {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind(), self.name()),
            None => write!(f, "{} {}", self.kind(), self.name()),
        }
    }
}

/// Everything that belongs into the target except marks of nodes, in the order of making.
///
/// `ca_certificate_pem` is the cluster CA's certificate, published in `cluster-info`.
pub fn desired_objects(
    control_plane: &ControlPlane,
    ca_certificate_pem: &str,
) -> Result<Vec<Desired>, BuildError> {
    let mut objects = rbac::certificate_identities();
    objects.extend(config_maps::objects(control_plane, ca_certificate_pem)?);
    objects.extend(rbac::nodes_and_bootstrap());
    if !control_plane.kube_proxy.disabled {
        objects.extend(kube_proxy::objects(control_plane)?);
    }
    if !control_plane.core_dns.disabled {
        objects.extend(core_dns::objects(control_plane)?);
    }
    objects.sort_by_key(|object| object.stage);
    Ok(objects)
}
