//! The Kubernetes version.

use crate::controllers::fields::Checker;
use crate::domain::KubeVersion;
use crate::versions::{Release, release};

/// Parses the version and finds what it means; refuses one that cannot be rendered.
pub fn supported(checker: &mut Checker, text: &str) -> Option<(KubeVersion, &'static Release)> {
    let version = checker.take("spec.version", text.parse::<KubeVersion>())?;
    let release = checker.take("spec.version", release(version))?;
    Some((version, release))
}
