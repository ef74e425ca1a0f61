//! Every file of one machine.

use zeroize::Zeroizing;

use super::kubeconfig::{Kubeconfig, kubeconfig};
use super::pod::to_manifest;
use super::{
    ManifestError, NodeFile, apiserver, controller_manager, etcd, kubelet, os_preparation,
    scheduler,
};
use crate::domain::{CaKeyPlacement, ControlPlane, Founding, Machine, Profile};
use crate::pki::{ClusterPki, KeyPair, Leaf, MachinePki};

/// Folder of kubeconfigs; the one of static pods lies in it.
const KUBERNETES_DIR: &str = "/etc/kubernetes";
const KUBELET_DIR: &str = "/var/lib/kubelet";

/// Every file of `machine`, sorted by path, with kubeadm's modes. The user's own files
/// (`machineConfig.files`) are not among them.
///
/// Profile `Kubeadm` gives what `kubeadm init` leaves on the first machine and
/// `kubeadm join --control-plane` on the others. `Standard` leaves out what no component reads:
/// administrator kubeconfigs, the etcd health check's client, and the CA keys that
/// `caKeysOnNodes` does not name.
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
    renderer.certificates(&mut files)?;
    renderer.kubeconfigs(&mut files)?;
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

/// A kubeconfig on the machine.
struct KubeconfigFile {
    name: &'static str,
    leaf: Leaf,
    /// Common name of the certificate.
    user: String,
    /// Whether it goes through the endpoint, or to the machine's own API server.
    through_endpoint: bool,
}

impl Renderer<'_> {
    fn certificates(&self, files: &mut Vec<NodeFile>) -> Result<(), ManifestError> {
        let cluster = self.cluster;
        let all_keys = self.control_plane.ca_keys_on_nodes == CaKeyPlacement::All;
        // The controller manager signs kubelet certificates with the cluster CA's key.
        let authorities = [
            ("ca", &cluster.ca, true),
            ("etcd/ca", &cluster.etcd_ca, all_keys),
            ("front-proxy-ca", &cluster.front_proxy_ca, all_keys),
        ];
        for (name, authority, with_key) in authorities {
            files.push(self.certificate(name, authority));
            if with_key {
                files.push(self.key(name, authority));
            }
        }
        for (leaf, name) in self.leaf_files() {
            let pair = self.leaf(leaf)?;
            files.push(self.certificate(name, pair));
            files.push(self.key(name, pair));
        }
        let service_account = &cluster.service_account;
        files.push(self.pki_file("sa.pub", 0o600, &service_account.public_pem));
        files.push(self.pki_file("sa.key", 0o600, &service_account.private_pem));
        Ok(())
    }

    /// Leaf certificates that lie in files, by name below the certificates' folder.
    fn leaf_files(&self) -> Vec<(Leaf, &'static str)> {
        let mut leaves = vec![
            (Leaf::ApiServer, "apiserver"),
            (Leaf::ApiServerKubeletClient, "apiserver-kubelet-client"),
            (Leaf::ApiServerEtcdClient, "apiserver-etcd-client"),
            (Leaf::FrontProxyClient, "front-proxy-client"),
            (Leaf::EtcdServer, "etcd/server"),
            (Leaf::EtcdPeer, "etcd/peer"),
        ];
        match self.control_plane.profile {
            Profile::Kubeadm => {
                leaves.push((Leaf::EtcdHealthcheckClient, "etcd/healthcheck-client"));
            }
            Profile::Standard => {}
        }
        leaves
    }

    fn kubeconfigs(&self, files: &mut Vec<NodeFile>) -> Result<(), ManifestError> {
        for file in self.kubeconfig_files() {
            let server = match &self.control_plane.endpoint {
                Some(endpoint) if file.through_endpoint => endpoint.clone(),
                _ => self.machine.api_endpoint(),
            };
            let text = kubeconfig(&Kubeconfig {
                cluster: &self.control_plane.cluster_name,
                server: &format!("https://{server}"),
                ca_pem: &self.cluster.ca.certificate_pem,
                user: &file.user,
                client: self.leaf(file.leaf)?,
            })?;
            files.push(node_file(
                format!("{KUBERNETES_DIR}/{}", file.name),
                0o600,
                &text,
            ));
        }
        Ok(())
    }

    fn kubeconfig_files(&self) -> Vec<KubeconfigFile> {
        let file = |name, leaf, user: &str, through_endpoint| KubeconfigFile {
            name,
            leaf,
            user: user.to_owned(),
            through_endpoint,
        };
        let mut kubeconfigs = vec![
            file(
                "controller-manager.conf",
                Leaf::ControllerManagerKubeconfig,
                "system:kube-controller-manager",
                false,
            ),
            file(
                "scheduler.conf",
                Leaf::SchedulerKubeconfig,
                "system:kube-scheduler",
                false,
            ),
            // Its own API server since 1.33 (ControlPlaneKubeletLocalMode).
            file(
                "kubelet.conf",
                Leaf::KubeletKubeconfig,
                &format!("system:node:{}", self.machine.name),
                false,
            ),
        ];
        if self.control_plane.profile == Profile::Kubeadm {
            let admin = Leaf::AdminKubeconfig;
            kubeconfigs.push(file("admin.conf", admin, "kubernetes-admin", true));
            let first = self.control_plane.machines.first();
            if first.is_some_and(|first| first.name == self.machine.name) {
                let leaf = Leaf::SuperAdminKubeconfig;
                kubeconfigs.push(file(
                    "super-admin.conf",
                    leaf,
                    "kubernetes-super-admin",
                    true,
                ));
            }
        }
        kubeconfigs
    }

    fn manifests(
        &self,
        files: &mut Vec<NodeFile>,
        founding: &Founding,
    ) -> Result<(), ManifestError> {
        let pods = [
            (
                "etcd",
                etcd::pod(self.control_plane, self.machine, founding)?,
            ),
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
            let path = format!("{KUBERNETES_DIR}/manifests/{name}.yaml");
            files.push(node_file(path, 0o600, &to_manifest(&pod)?));
        }
        Ok(())
    }

    fn kubelet(&self, files: &mut Vec<NodeFile>) -> Result<(), ManifestError> {
        let (control_plane, machine) = (self.control_plane, self.machine);
        let mut add = |path: &str, text: &str| files.push(node_file(path.to_owned(), 0o644, text));
        add(
            &format!("{KUBELET_DIR}/config.yaml"),
            &kubelet::config_file(control_plane, machine)?,
        );
        add(
            &format!("{KUBELET_DIR}/instance-config.yaml"),
            &kubelet::instance_config_file(machine),
        );
        add(
            &format!("{KUBELET_DIR}/kubeadm-flags.env"),
            &kubelet::flags_file(control_plane, machine),
        );
        add(os_preparation::DROP_IN_PATH, os_preparation::DROP_IN);
        if control_plane.os_preparation {
            for (path, text) in os_preparation::files(control_plane, machine)? {
                add(path, &text);
            }
        }
        Ok(())
    }

    fn leaf(&self, leaf: Leaf) -> Result<&KeyPair, ManifestError> {
        self.leaves
            .get(&leaf)
            .ok_or_else(|| ManifestError::MissingLeaf {
                machine: self.machine.name.to_string(),
                leaf,
            })
    }

    fn certificate(&self, name: &str, pair: &KeyPair) -> NodeFile {
        self.pki_file(&format!("{name}.crt"), 0o644, &pair.certificate_pem)
    }

    fn key(&self, name: &str, pair: &KeyPair) -> NodeFile {
        self.pki_file(&format!("{name}.key"), 0o600, &pair.key_pem)
    }

    fn pki_file(&self, name: &str, mode: u32, content: &str) -> NodeFile {
        let folder = &self.control_plane.certificates_dir;
        node_file(format!("{folder}/{name}"), mode, content)
    }
}

fn node_file(path: String, mode: u32, content: &str) -> NodeFile {
    NodeFile {
        path,
        mode,
        owner: "root:root".to_owned(),
        content: Zeroizing::new(content.as_bytes().to_vec()),
    }
}
