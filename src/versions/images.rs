//! Names of images (kubeadm `app/images`).

use super::{KubeletRelease, Release, UnsupportedVersion, kubelet_release, release};
use crate::domain::{ControlPlane, KubeVersion};

/// kubeadm's default `imageRepository`.
pub const DEFAULT_REPOSITORY: &str = "registry.k8s.io";

/// Everything of a cluster that comes as an image, but etcd: the spec may name that whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Component {
    ApiServer,
    ControllerManager,
    Scheduler,
    KubeProxy,
    CoreDns,
    Pause,
}

/// `<repository>/<component>:<version>`, for components of the Kubernetes repository.
pub fn kubernetes_image(repository: &str, component: &str, version: KubeVersion) -> String {
    format!("{repository}/{component}:{version}")
}

/// `<repository>/etcd:<tag>`; `tag` replaces the release's.
pub fn etcd_image(repository: &str, tag: Option<&str>, release: &Release) -> String {
    format!("{repository}/etcd:{}", tag.unwrap_or(release.etcd_tag))
}

/// `<repository>/coredns:<tag>`, and `registry.k8s.io/coredns/coredns:<tag>` on the default
/// registry, where the image has a folder of its own. `own_repository` is `coreDNS.imageRepository`;
/// it replaces `repository` before that rule is applied (kubeadm `GetDNSImage`).
pub fn core_dns_image(
    repository: &str,
    own_repository: Option<&str>,
    tag: Option<&str>,
    release: &Release,
) -> String {
    let repository = own_repository
        .filter(|own| !own.is_empty())
        .unwrap_or(repository);
    let folder = if repository == DEFAULT_REPOSITORY {
        "/coredns"
    } else {
        ""
    };
    let tag = tag.unwrap_or(release.core_dns_tag);
    format!("{repository}{folder}/coredns:{tag}")
}

/// `<repository>/pause:<tag>`, the sandbox image of the container runtime.
pub fn pause_image(repository: &str, kubelet: &KubeletRelease) -> String {
    format!("{repository}/pause:{}", kubelet.pause_tag)
}

/// The image of a component of this control plane.
pub fn image(
    control_plane: &ControlPlane,
    component: Component,
) -> Result<String, UnsupportedVersion> {
    let version = control_plane.version;
    let repository = control_plane.image_repository.as_str();
    let kubernetes = |name| kubernetes_image(repository, name, version);
    Ok(match component {
        Component::ApiServer => kubernetes("kube-apiserver"),
        Component::ControllerManager => kubernetes("kube-controller-manager"),
        Component::Scheduler => kubernetes("kube-scheduler"),
        Component::KubeProxy => kubernetes("kube-proxy"),
        Component::CoreDns => core_dns_image(
            repository,
            control_plane.core_dns.image_repository.as_deref(),
            control_plane.core_dns.image_tag.as_deref(),
            release(version)?,
        ),
        Component::Pause => pause_image(repository, kubelet_release(version)?),
    })
}

/// Every image that the cluster needs, in the order of `kubeadm config images list`.
pub fn images(control_plane: &ControlPlane) -> Result<Vec<String>, UnsupportedVersion> {
    let mut components = vec![
        Component::ApiServer,
        Component::ControllerManager,
        Component::Scheduler,
    ];
    if !control_plane.kube_proxy.disabled {
        components.push(Component::KubeProxy);
    }
    if !control_plane.core_dns.disabled {
        components.push(Component::CoreDns);
    }
    components.push(Component::Pause);
    let etcd = control_plane.etcd.stacked();
    let etcd = etcd.map(|members| Ok(members.image.clone()));
    components
        .into_iter()
        .map(|component| image(control_plane, component))
        .chain(etcd)
        .collect()
}
