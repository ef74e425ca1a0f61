//! The version of the kubelets, against the control plane's (Kubernetes' version skew policy).

use crate::controllers::fields::Checker;
use crate::crd::NodePoolSpec;
use crate::domain::KubeVersion;
use crate::versions::kubelet_release;

/// How many minor releases a kubelet may be older than the API server.
const OLDEST: u32 = 3;

/// Checks the version; default: what the control plane shall run. `running` is the lowest version
/// that its machines report.
pub fn kubelet(
    checker: &mut Checker,
    spec: &NodePoolSpec,
    control_plane: KubeVersion,
    running: Option<KubeVersion>,
) -> Option<KubeVersion> {
    let path = "spec.version";
    let served = running.map_or(control_plane, |running| running.min(control_plane));
    let Some(text) = &spec.version else {
        // A control plane that is being upgraded is followed when it is done.
        checker.note_default(path, &served);
        return Some(served);
    };
    let version = checker.take(path, text.parse::<KubeVersion>())?;
    if version > served {
        let message = format!(
            "{version} is newer than the API servers of the control plane, which run {served}; \
             kubelets may not be: choose {served} or older, or upgrade the control plane first"
        );
        checker.invalid(path, message);
        return None;
    }
    if version.major != served.major || version.minor + OLDEST < served.minor {
        let message = format!(
            "{version} is more than {OLDEST} minor releases older than the API servers, which run \
             {served}; choose v{}.{}.0 or later",
            served.major,
            served.minor.saturating_sub(OLDEST)
        );
        checker.invalid(path, message);
        return None;
    }
    checker.take(path, kubelet_release(version))?;
    Some(version)
}
