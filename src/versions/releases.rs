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
    /// Tag of the pause image (kubeadm `PauseVersion`).
    pub pause_tag: &'static str,
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
        pause_tag: "3.10.2",
    },
}];

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
            supported: supported_text(),
        })
}

/// Minors of Kubernetes 1 that can be rendered, ascending.
pub fn supported_minors() -> Vec<u32> {
    let mut minors: Vec<u32> = ROWS.iter().map(|row| row.minor).collect();
    minors.dedup();
    minors
}

/// The newest release that can be rendered, for what no Kubernetes version decides.
pub fn newest() -> Option<&'static Release> {
    ROWS.last().map(|row| &row.release)
}

fn supported_text() -> String {
    supported_minors()
        .into_iter()
        .fold(String::new(), |mut text, minor| {
            let comma = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{comma}v1.{minor}.x");
            text
        })
}
