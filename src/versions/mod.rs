//! What each Kubernetes patch release means, as data.
//!
//! Answers which releases are supported, which etcd, CoreDNS and pause belong to one, and the name
//! of every image. Never looks anything up and never guesses: an unknown minor is an error. A new
//! minor, or a patch that changes a tag, is a row of `releases::ROWS`; what a kubelet is given, which may
//! be older, is a row of `releases::KUBELETS`.

mod images;
mod releases;

pub use images::{
    Component, DEFAULT_REPOSITORY, core_dns_image, etcd_image, image, images, kubernetes_image,
    pause_image,
};
pub use releases::{
    KubeletRelease, Release, UnsupportedVersion, kubelet_minors, kubelet_release, newest_kubelet,
    release, supported_minors,
};

#[cfg(test)]
mod tests;
