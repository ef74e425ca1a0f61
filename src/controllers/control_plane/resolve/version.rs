//! The Kubernetes version.

use crate::controllers::fields::{Checker, show};
use crate::domain::KubeVersion;

/// Minor releases that can be rendered.
const SUPPORTED_MINORS: [u32; 1] = [37];

/// Parses the version and refuses one that cannot be rendered.
pub fn supported(checker: &mut Checker, text: &str) -> Option<KubeVersion> {
    let version = checker.take("spec.version", text.parse::<KubeVersion>())?;
    if version.major != 1 || !SUPPORTED_MINORS.contains(&version.minor) {
        let message = format!(
            "{} is not supported; this release of Seedbed supports v1.37.x",
            show(text)
        );
        checker.invalid("spec.version", message);
        return None;
    }
    Some(version)
}

/// Tag of the etcd image that kubeadm of this version uses.
pub fn etcd_tag(_: KubeVersion) -> &'static str {
    "3.7.0-0"
}
