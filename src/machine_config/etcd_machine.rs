//! From an EtcdCluster on machines of its own to the machine config of one of them.

use super::compose::{
    CONTAINERD_CONFIG, PRIVATE_DIRECTORIES, alone, data_dir_of, restarted_services,
};
use super::{Additions, Contents, MachineConfig, MachineConfigError};
use crate::domain::{EtcdCluster, Founding, Machine};
use crate::manifests::etcd_machine_files;
use crate::pki::MachinePki;

/// The machine config of `machine`. Its revision says nothing of the other members, as that of a
/// machine with a stacked member ([`super::machine_config`]).
pub fn etcd_machine_config(
    cluster: &EtcdCluster,
    machine: &Machine,
    founding: &Founding,
    ca_pem: &str,
    leaves: &MachinePki,
) -> Result<MachineConfig, MachineConfigError> {
    let contents =
        |founding: &Founding| etcd_machine_contents(cluster, machine, founding, ca_pem, leaves);
    let revision = contents(&alone(machine))?.revision();
    contents(founding)?.assemble(revision, cluster.size_budget_bytes)
}

/// The files, folders and commands of `machine`, not yet put into a format.
pub fn etcd_machine_contents(
    cluster: &EtcdCluster,
    machine: &Machine,
    founding: &Founding,
    ca_pem: &str,
    leaves: &MachinePki,
) -> Result<Contents, MachineConfigError> {
    let files = etcd_machine_files(cluster, machine, founding, ca_pem, leaves)?;
    let data_dir = &cluster.members.data_dir;
    let with_containerd = files.iter().any(|file| file.path == CONTAINERD_CONFIG);
    let private = PRIVATE_DIRECTORIES.map(str::to_owned).into_iter();
    let additions = Additions {
        format: cluster.user_data_format,
        files: &cluster.files,
        pre_commands: &cluster.pre_commands,
        post_commands: &cluster.post_commands,
        private_directories: private.chain([data_dir.clone()]).collect(),
        reserved_directories: vec![data_dir.clone()],
        restarted_services: restarted_services(cluster.os_preparation, with_containerd),
        data_dir: data_dir_of(founding, machine, data_dir, &cluster.certificates_dir),
        joins: false,
    };
    Contents::new(files, additions)
}
