//! Every file of a machine that runs nothing but etcd: kubeadm's guide "Set up a high availability
//! etcd cluster with kubeadm", where the kubelet starts static pods and knows no API server.

use super::files::{KUBELET_CONFIG, KUBELET_FLAGS, PkiFolder, manifest, node_file};
use super::kubelet::{self, Host};
use super::os_preparation::{self, DROP_IN_PATH, Prepared, STANDALONE_DROP_IN};
use super::pod::to_manifest;
use super::{ManifestError, NodeFile, etcd};
use crate::domain::{EtcdCluster, Founding, Machine};
use crate::pki::{Leaf, MachinePki};

/// Where each leaf goes, below the folder of certificates.
const PLACES: [(Leaf, &str); 3] = [
    (Leaf::EtcdServer, "etcd/server"),
    (Leaf::EtcdPeer, "etcd/peer"),
    (Leaf::EtcdHealthcheckClient, "etcd/healthcheck-client"),
];

/// Every file of `machine`, sorted by path, with kubeadm's modes. `ca_pem` is the certificate of the
/// CA: its key never leaves the seed.
pub fn etcd_machine_files(
    cluster: &EtcdCluster,
    machine: &Machine,
    founding: &Founding,
    ca_pem: &str,
    leaves: &MachinePki,
) -> Result<Vec<NodeFile>, ManifestError> {
    let folder = PkiFolder(&cluster.certificates_dir);
    let mut files = vec![folder.file("etcd/ca.crt", 0o644, ca_pem)];
    for (leaf, place) in PLACES {
        let pair = leaves
            .get(&leaf)
            .ok_or_else(|| ManifestError::MissingLeaf {
                machine: machine.name.to_string(),
                leaf,
            })?;
        files.push(folder.certificate(place, pair));
        files.push(folder.key(place, pair));
    }
    let pod = etcd::pod(&cluster.members, folder.0, machine, founding)?;
    files.push(manifest("etcd", &to_manifest(&pod)?));
    kubelet_files(cluster, machine.into(), &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn kubelet_files(
    cluster: &EtcdCluster,
    host: Host<'_>,
    files: &mut Vec<NodeFile>,
) -> Result<(), ManifestError> {
    let mut add = |path: &str, text: &str| files.push(node_file(path.to_owned(), 0o644, text));
    add(
        KUBELET_CONFIG,
        &kubelet::standalone_config_file(cluster, host)?,
    );
    let shared = &cluster.kubelet.extra_args;
    add(KUBELET_FLAGS, &kubelet::flags_file(shared, None, host));
    add(DROP_IN_PATH, STANDALONE_DROP_IN);
    if cluster.os_preparation {
        let prepared = Prepared {
            cri_socket: host.cri_socket,
            pause_image: cluster.pause_image.clone(),
            systemd_cgroups: kubelet::uses_systemd_cgroups(cluster),
            forward_ipv6: false,
        };
        for (path, text) in os_preparation::files(&prepared) {
            add(path, &text);
        }
    }
    Ok(())
}
