//! From a node pool to the machine config of one of its machines.

use super::compose::{CONTAINERD_CONFIG, PRIVATE_DIRECTORIES, restarted_services};
use super::{Additions, Contents, MachineConfig, MachineConfigError};
use crate::domain::{HostPort, NodePool, Worker};
use crate::manifests::worker_files;
use crate::tokens::Token;

/// The machine config of `worker`, with the credential to join once, or without any for a machine
/// that has joined.
///
/// The token is no part of what the machine should be, so the revision is taken without it: it
/// stays when a token is replaced and when the machine has joined.
pub fn worker_config(
    pool: &NodePool,
    worker: &Worker,
    server: &HostPort,
    ca_pem: &str,
    token: Option<&Token>,
) -> Result<MachineConfig, MachineConfigError> {
    let contents = |token| worker_contents(pool, worker, server, ca_pem, token);
    let revision = contents(None)?.revision();
    contents(token)?.assemble(revision, pool.cluster.size_budget_bytes)
}

/// The files, folders and commands of `worker`, not yet put into a format.
pub fn worker_contents(
    pool: &NodePool,
    worker: &Worker,
    server: &HostPort,
    ca_pem: &str,
    token: Option<&Token>,
) -> Result<Contents, MachineConfigError> {
    let files = worker_files(pool, worker, server, ca_pem, token)?;
    let cluster = &pool.cluster;
    let with_containerd = files.iter().any(|file| file.path == CONTAINERD_CONFIG);
    let additions = Additions {
        format: cluster.user_data_format,
        files: &cluster.files,
        pre_commands: &cluster.pre_commands,
        post_commands: &cluster.post_commands,
        private_directories: PRIVATE_DIRECTORIES.map(str::to_owned).to_vec(),
        restarted_services: restarted_services(cluster.os_preparation, with_containerd),
        joins: true,
        ..Additions::default()
    };
    Contents::new(files, additions)
}
