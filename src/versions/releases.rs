//! The table of releases.

use std::fmt::Write as _;

use crate::domain::KubeVersion;

/// Image tags that kubeadm of one Kubernetes release uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// Tag of the etcd image: an etcd version and the image's own revision, `3.7.0-0`
    /// (kubeadm `DefaultEtcdVersion`).
    pub etcd_tag: &'static str,
    /// Tag of the CoreDNS image (kubeadm `CoreDNSVersion`).
    pub core_dns_tag: &'static str,
}

/// What a kubelet of one minor release is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubeletRelease {
    minor: u32,
    /// Tag of the pause image (kubeadm `PauseVersion`).
    pub pause_tag: &'static str,
    /// It is told the pause image by `--pod-infra-container-image`: until 1.34; 1.35 does not know
    /// the flag and would not start.
    pub pause_flag: bool,
}

impl Release {
    /// The etcd version without the image's revision: `3.7.0`.
    pub fn etcd_version(&self) -> &'static str {
        self.etcd_tag
            .split_once('-')
            .map_or(self.etcd_tag, |(version, _)| version)
    }
}

/// Tags from one patch release of a minor on, until the next row of that minor.
struct Row {
    minor: u32,
    from_patch: u32,
    release: Release,
}

/// Ordered by minor and patch. The first row of a minor makes it supported.
const ROWS: &[Row] = &[Row {
    minor: 37,
    from_patch: 0,
    release: Release {
        etcd_tag: "3.7.0-0",
        core_dns_tag: "v1.14.6",
    },
}];

/// Kubelets by minor, ascending: those of the control planes' releases, and up to three older.
const KUBELETS: &[KubeletRelease] = &[
    KubeletRelease {
        minor: 34,
        pause_tag: "3.10.1",
        pause_flag: true,
    },
    KubeletRelease {
        minor: 35,
        pause_tag: "3.10.1",
        pause_flag: false,
    },
    KubeletRelease {
        minor: 36,
        pause_tag: "3.10.2",
        pause_flag: false,
    },
    KubeletRelease {
        minor: 37,
        pause_tag: "3.10.2",
        pause_flag: false,
    },
];

/// A Kubernetes version that this build of Seedbed does not know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Kubernetes {version} is not supported; supported are {supported}")]
pub struct UnsupportedVersion {
    pub version: KubeVersion,
    /// `v1.36.x, v1.37.x`
    pub supported: String,
}

/// What a Kubernetes release means. Patch releases newer than the table's last row of a known
/// minor count as that row: patches rarely move a tag, and the spec can override each.
pub fn release(version: KubeVersion) -> Result<&'static Release, UnsupportedVersion> {
    ROWS.iter()
        .rev()
        .find(|row| {
            version.major == 1 && version.minor == row.minor && version.patch >= row.from_patch
        })
        .map(|row| &row.release)
        .ok_or_else(|| UnsupportedVersion {
            version,
            supported: text(supported_minors()),
        })
}

/// What a kubelet of this version is given, on a machine of a node pool or of a control plane.
pub fn kubelet_release(
    version: KubeVersion,
) -> Result<&'static KubeletRelease, UnsupportedVersion> {
    let mut kubelets = KUBELETS.iter();
    kubelets
        .find(|kubelet| version.major == 1 && version.minor == kubelet.minor)
        .ok_or_else(|| UnsupportedVersion {
            version,
            supported: text(kubelet_minors()),
        })
}

/// Minors of Kubernetes 1 that a control plane can be rendered for, ascending.
pub fn supported_minors() -> Vec<u32> {
    let mut minors: Vec<u32> = ROWS.iter().map(|row| row.minor).collect();
    minors.dedup();
    minors
}

/// The newest kubelet that can be rendered for, where no Kubernetes version decides.
pub fn newest_kubelet() -> Option<&'static KubeletRelease> {
    KUBELETS.last()
}

/// Minors of Kubernetes 1 that a kubelet can be rendered for, ascending.
pub fn kubelet_minors() -> Vec<u32> {
    KUBELETS.iter().map(|kubelet| kubelet.minor).collect()
}

fn text(minors: Vec<u32>) -> String {
    minors.into_iter().fold(String::new(), |mut text, minor| {
        let comma = if text.is_empty() { "" } else { ", " };
        let _ = write!(text, "{comma}v1.{minor}.x");
        text
    })
}
