//! Every file of one machine.

use zeroize::Zeroizing;

use super::kubeconfig::{Kubeconfig, kubeconfig};
use super::os_preparation::Prepared;
use super::pod::to_manifest;
use super::{
    ManifestError, NodeFile, apiserver, controller_manager, etcd, kubelet, os_preparation,
    scheduler,
};
use crate::domain::{
    CaKeyPlacement, Cidr, ControlPlane, Etcd, EtcdCredentials, Founding, HostPort, Machine,
};
use crate::pki::{CertSpec, ClusterPki, KeyPair, Leaf, MachinePki, inventory};
use crate::versions::{self, Component};

/// Folder of kubeconfigs; the one of static pods lies in it.
pub(super) const KUBERNETES_DIR: &str = "/etc/kubernetes";
const KUBELET_DIR: &str = "/var/lib/kubelet";
pub(super) const KUBELET_CONFIG: &str = "/var/lib/kubelet/config.yaml";
/// The variable that the drop-in hands to the kubelet.
pub(super) const KUBELET_FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";

/// Every file of `machine`, sorted by path, with kubeadm's modes. The user's own files
/// (`machineConfig.files`) are not among them.
///
/// Profile `Kubeadm` gives what `kubeadm init` leaves on the first machine and
/// `kubeadm join --control-plane` on the others. Which leaves a profile has is the inventory's
/// business ([`inventory::machine_leaves`]); which CA keys, `caKeysOnNodes`'.
pub fn machine_files(
    control_plane: &ControlPlane,
    machine: &Machine,
    founding: &Founding,
    cluster: &ClusterPki,
    leaves: &MachinePki,
) -> Result<Vec<NodeFile>, ManifestError> {
    let renderer = Renderer {
        control_plane,
        machine,
        cluster,
        leaves,
    };
    let mut files = Vec::new();
    renderer.authorities(&mut files);
    renderer.etcd_authority(&mut files)?;
    renderer.leaves(&mut files)?;
    renderer.manifests(&mut files, founding)?;
    renderer.kubelet(&mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

struct Renderer<'a> {
    control_plane: &'a ControlPlane,
    machine: &'a Machine,
    cluster: &'a ClusterPki,
    leaves: &'a MachinePki,
}

/// Where a leaf goes.
enum Place {
    /// Certificate and key in files of this name, below the certificates' folder.
    Pair(&'static str),
    /// Embedded in a kubeconfig that talks to the machine's own API server.
    LocalKubeconfig(&'static str),
    /// Embedded in a kubeconfig that goes through the endpoint.
    EndpointKubeconfig(&'static str),
}

fn place(leaf: Leaf) -> Place {
    match leaf {
        Leaf::ApiServer => Place::Pair("apiserver"),
        Leaf::ApiServerKubeletClient => Place::Pair("apiserver-kubelet-client"),
        Leaf::ApiServerEtcdClient => Place::Pair("apiserver-etcd-client"),
        Leaf::FrontProxyClient => Place::Pair("front-proxy-client"),
        Leaf::EtcdServer => Place::Pair("etcd/server"),
        Leaf::EtcdPeer => Place::Pair("etcd/peer"),
        Leaf::EtcdHealthcheckClient => Place::Pair("etcd/healthcheck-client"),
        Leaf::AdminKubeconfig => Place::EndpointKubeconfig("admin.conf"),
        Leaf::SuperAdminKubeconfig => Place::EndpointKubeconfig("super-admin.conf"),
        Leaf::ControllerManagerKubeconfig => Place::LocalKubeconfig("controller-manager.conf"),
        Leaf::SchedulerKubeconfig => Place::LocalKubeconfig("scheduler.conf"),
        // Since 1.33 (ControlPlaneKubeletLocalMode).
        Leaf::KubeletKubeconfig => Place::LocalKubeconfig("kubelet.conf"),
    }
}

impl Renderer<'_> {
    fn authorities(&self, files: &mut Vec<NodeFile>) {
        let cluster = self.cluster;
        let all_keys = self.control_plane.ca_keys_on_nodes == CaKeyPlacement::All;
        // The controller manager signs kubelet certificates with the cluster CA's key.
        let authorities = [
            ("ca", &cluster.ca, true),
            ("front-proxy-ca", &cluster.front_proxy_ca, all_keys),
        ];
        let pki = self.pki();
        for (name, authority, with_key) in authorities {
            files.push(pki.certificate(name, authority));
            if with_key {
                files.push(pki.key(name, authority));
            }
        }
        let service_account = &cluster.service_account;
        files.push(pki.file("sa.pub", 0o600, &service_account.public_pem));
        files.push(pki.file("sa.key", 0o600, &service_account.private_pem));
    }

    /// What etcd's certificates are checked against: its own CA's certificate, that of the EtcdCluster
    /// in the same place, or what the user brought.
    fn etcd_authority(&self, files: &mut Vec<NodeFile>) -> Result<(), ManifestError> {
        let (pki, ca) = (self.pki(), self.cluster.etcd_ca.as_ref());
        let ca = || ca.ok_or(ManifestError::MissingEtcdCa);
        match &self.control_plane.etcd {
            Etcd::Stacked(_) => {
                files.push(pki.certificate("etcd/ca", ca()?));
                if self.control_plane.ca_keys_on_nodes == CaKeyPlacement::All {
                    files.push(pki.key("etcd/ca", ca()?));
                }
            }
            Etcd::External(external) => match &external.credentials {
                // Its key is never here: other control planes may have their state there, too.
                EtcdCredentials::Issued { .. } => files.push(pki.certificate("etcd/ca", ca()?)),
                EtcdCredentials::Given(given) => files.extend(given.iter().map(|file| NodeFile {
                    path: file.path.clone(),
                    mode: file.mode,
                    owner: file.owner.clone(),
                    content: file.content.clone(),
                })),
            },
        }
        Ok(())
    }

    /// The leaves that the inventory lists for this machine and profile.
    fn leaves(&self, files: &mut Vec<NodeFile>) -> Result<(), ManifestError> {
        let specs = inventory::machine_leaves(self.control_plane, self.machine)?;
        let local = self.machine.api_endpoint();
        let endpoint = self.control_plane.endpoint.as_ref().unwrap_or(&local);
        for (leaf, spec) in &specs {
            let pair = self.leaf(*leaf)?;
            match place(*leaf) {
                Place::Pair(name) => {
                    files.push(self.pki().certificate(name, pair));
                    files.push(self.pki().key(name, pair));
                }
                Place::LocalKubeconfig(name) => {
                    files.push(self.kubeconfig(name, &local, spec, pair)?);
                }
                Place::EndpointKubeconfig(name) => {
                    files.push(self.kubeconfig(name, endpoint, spec, pair)?);
                }
            }
        }
        Ok(())
    }

    fn kubeconfig(
        &self,
        name: &str,
        server: &HostPort,
        spec: &CertSpec,
        client: &KeyPair,
    ) -> Result<NodeFile, ManifestError> {
        let text = kubeconfig(&Kubeconfig {
            cluster: &self.control_plane.cluster_name,
            server: &format!("https://{server}"),
            ca_pem: &self.cluster.ca.certificate_pem,
            user: &spec.subject.common_name,
            client,
        })?;
        Ok(node_file(format!("{KUBERNETES_DIR}/{name}"), 0o600, &text))
    }

    fn manifests(
        &self,
        files: &mut Vec<NodeFile>,
        founding: &Founding,
    ) -> Result<(), ManifestError> {
        let control_plane = self.control_plane;
        if let Etcd::Stacked(members) = &control_plane.etcd {
            let folder = &control_plane.certificates_dir;
            let pod = etcd::pod(members, folder, self.machine, founding)?;
            files.push(manifest("etcd", &to_manifest(&pod)?));
        }
        let pods = [
            (
                "kube-apiserver",
                apiserver::pod(self.control_plane, self.machine)?,
            ),
            (
                "kube-controller-manager",
                controller_manager::pod(self.control_plane, self.machine)?,
            ),
            ("kube-scheduler", scheduler::pod(self.control_plane)?),
        ];
        for (name, pod) in pods {
            files.push(manifest(name, &to_manifest(&pod)?));
        }
        Ok(())
    }

    fn kubelet(&self, files: &mut Vec<NodeFile>) -> Result<(), ManifestError> {
        kubelet_files(self.control_plane, self.machine.into(), files)
    }

    fn leaf(&self, leaf: Leaf) -> Result<&KeyPair, ManifestError> {
        self.leaves
            .get(&leaf)
            .ok_or_else(|| ManifestError::MissingLeaf {
                machine: self.machine.name.to_string(),
                leaf,
            })
    }

    fn pki(&self) -> PkiFolder<'_> {
        PkiFolder(&self.control_plane.certificates_dir)
    }
}

/// The folder of certificates on the node.
pub(super) struct PkiFolder<'a>(pub &'a str);

impl PkiFolder<'_> {
    pub(super) fn certificate(&self, name: &str, pair: &KeyPair) -> NodeFile {
        self.file(&format!("{name}.crt"), 0o644, &pair.certificate_pem)
    }

    pub(super) fn key(&self, name: &str, pair: &KeyPair) -> NodeFile {
        self.file(&format!("{name}.key"), 0o600, &pair.key_pem)
    }

    pub(super) fn file(&self, name: &str, mode: u32, content: &str) -> NodeFile {
        node_file(format!("{}/{name}", self.0), mode, content)
    }
}

/// The manifest of a static pod.
pub(super) fn manifest(name: &str, content: &str) -> NodeFile {
    let path = format!("{KUBERNETES_DIR}/manifests/{name}.yaml");
    node_file(path, 0o600, content)
}

/// What every kubelet reads, and what prepares its machine.
pub(super) fn kubelet_files(
    control_plane: &ControlPlane,
    host: kubelet::Host<'_>,
    files: &mut Vec<NodeFile>,
) -> Result<(), ManifestError> {
    let mut add = |path: &str, text: &str| files.push(node_file(path.to_owned(), 0o644, text));
    add(KUBELET_CONFIG, &kubelet::config_file(control_plane, host)?);
    add(
        &format!("{KUBELET_DIR}/instance-config.yaml"),
        &kubelet::instance_config_file(host),
    );
    let release = versions::kubelet_release(control_plane.version)?;
    let pause = release
        .pause_flag
        .then(|| versions::pause_image(&control_plane.image_repository, release));
    let shared = &control_plane.kubelet.extra_args;
    add(KUBELET_FLAGS, &kubelet::flags_file(shared, pause, host));
    add(os_preparation::DROP_IN_PATH, os_preparation::DROP_IN);
    if control_plane.os_preparation {
        let config = kubelet::kubelet_configuration(control_plane)?;
        let ranges = &control_plane.pod_cidrs;
        let mut ranges = ranges.iter().chain(&control_plane.service_cidrs);
        let prepared = Prepared {
            cri_socket: host.cri_socket,
            pause_image: versions::image(control_plane, Component::Pause)?,
            systemd_cgroups: config["cgroupDriver"] == "systemd",
            forward_ipv6: ranges.any(Cidr::is_ipv6),
        };
        for (path, text) in os_preparation::files(&prepared) {
            add(path, &text);
        }
    }
    Ok(())
}

pub(super) fn node_file(path: String, mode: u32, content: &str) -> NodeFile {
    NodeFile {
        path,
        mode,
        owner: "root:root".to_owned(),
        content: Zeroizing::new(content.as_bytes().to_vec()),
    }
}
