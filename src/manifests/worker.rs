//! Every file of a worker, as `kubeadm join` writes them.

use super::files::{KUBERNETES_DIR, kubelet_files, node_file};
use super::kubeconfig::bootstrap_kubeconfig;
use super::{ManifestError, NodeFile};
use crate::domain::{HostPort, NodePool, Worker};
use crate::tokens::Token;

/// Every file of `worker`, sorted by path, with kubeadm's modes.
///
/// `ca_pem` is all that it trusts: one certificate, or a bundle while the CA is being replaced.
/// Without a `token`, what a machine has that has joined: kubeadm deletes the kubeconfig then.
pub fn worker_files(
    pool: &NodePool,
    worker: &Worker,
    server: &HostPort,
    ca_pem: &str,
    token: Option<&Token>,
) -> Result<Vec<NodeFile>, ManifestError> {
    let folder = &pool.cluster.certificates_dir;
    let mut files = vec![node_file(format!("{folder}/ca.crt"), 0o644, ca_pem)];
    if let Some(token) = token {
        let text = bootstrap_kubeconfig(&format!("https://{server}"), ca_pem, token)?;
        let path = format!("{KUBERNETES_DIR}/bootstrap-kubelet.conf");
        files.push(node_file(path, 0o600, &text));
    }
    kubelet_files(&pool.cluster, worker.into(), &mut files)?;
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}
