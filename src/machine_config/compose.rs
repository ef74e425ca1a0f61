//! From a control plane, its certificates and its founding to the machine config of one machine.
//! The operator and `seedbed render` both come through here.

use super::{Additions, Contents, DataDir, Founder, MachineConfig, MachineConfigError};
use crate::domain::{ControlPlane, Founding, InitialClusterState, Machine, Member};
use crate::manifests::machine_files;
use crate::pki::{ClusterPki, MachinePki};

/// Folders that kubeadm makes with mode 0700, beside etcd's.
pub(super) const PRIVATE_DIRECTORIES: [&str; 2] = ["/etc/kubernetes/manifests", "/var/lib/kubelet"];

/// The file of `machineConfig.osPreparation` that containerd reads.
pub(super) const CONTAINERD_CONFIG: &str = "/etc/containerd/config.toml";

/// The machine config of `machine`.
///
/// The revision is a hash of what the machine should be ([`Contents::revision`]), and how its etcd
/// cluster was founded is no part of that: a member that has started takes nothing from
/// `--initial-cluster`, `--initial-cluster-token` and `--initial-cluster-state`. So the revision is
/// taken of the same files rendered for a founding of this machine alone. It stays when `new`
/// becomes `existing`, which happens right after every founding, and when members come and go; the
/// user data and the hash of the etcd manifest do change, for a machine that boots later.
pub fn machine_config(
    control_plane: &ControlPlane,
    machine: &Machine,
    founding: &Founding,
    cluster: &ClusterPki,
    leaves: &MachinePki,
) -> Result<MachineConfig, MachineConfigError> {
    let contents =
        |founding: &Founding| machine_contents(control_plane, machine, founding, cluster, leaves);
    let revision = contents(&alone(machine))?.revision();
    contents(founding)?.assemble(revision, control_plane.size_budget_bytes)
}

/// The files, folders and commands of `machine`, not yet put into a format.
pub fn machine_contents(
    control_plane: &ControlPlane,
    machine: &Machine,
    founding: &Founding,
    cluster: &ClusterPki,
    leaves: &MachinePki,
) -> Result<Contents, MachineConfigError> {
    let files = machine_files(control_plane, machine, founding, cluster, leaves)?;
    // Etcd's data is there where a member is.
    let members = control_plane.etcd.stacked();
    let data_dir = members.map(|members| members.data_dir.clone());
    let with_containerd = files.iter().any(|file| file.path == CONTAINERD_CONFIG);
    let additions = Additions {
        format: control_plane.user_data_format,
        files: &control_plane.files,
        pre_commands: &control_plane.pre_commands,
        post_commands: &control_plane.post_commands,
        private_directories: PRIVATE_DIRECTORIES
            .iter()
            .map(|folder| (*folder).to_owned())
            .chain(data_dir.clone())
            .collect(),
        reserved_directories: data_dir.iter().cloned().collect(),
        restarted_services: restarted_services(control_plane.os_preparation, with_containerd),
        data_dir: data_dir.and_then(|folder| {
            data_dir_of(founding, machine, &folder, &control_plane.certificates_dir)
        }),
        joins: false,
    };
    Contents::new(files, additions)
}

/// Services that read what `machineConfig.osPreparation` writes.
pub(super) fn restarted_services(os_preparation: bool, containerd: bool) -> Vec<String> {
    let prepared = ["systemd-modules-load", "systemd-sysctl"];
    let prepared = prepared.into_iter().filter(|_| os_preparation);
    let containerd = containerd.then_some("containerd");
    prepared.chain(containerd).map(str::to_owned).collect()
}

/// What the first boot does about data that is there, or not.
pub(super) fn data_dir_of(
    founding: &Founding,
    machine: &Machine,
    folder: &str,
    certificates_dir: &str,
) -> Option<DataDir> {
    let member = founding.member_of(&machine.name)?;
    let others = || {
        let others = founding.members.iter();
        let others = others.filter(|other| other.machine != member.machine);
        others.map(|other| other.peer_url.clone()).collect()
    };
    match (member.started, member.added, founding.state) {
        (true, ..) => Some(DataDir::Kept(folder.to_owned())),
        (false, true, _) => Some(DataDir::SetAside(folder.to_owned())),
        (false, false, InitialClusterState::Existing) => Some(DataDir::AsksOthers(Founder {
            data_dir: folder.to_owned(),
            certificates: format!("{certificates_dir}/etcd"),
            name: member.name.clone(),
            others: others(),
        })),
        (false, false, InitialClusterState::New) => None,
    }
}

/// A founding that says nothing about the others.
pub(super) fn alone(machine: &Machine) -> Founding {
    Founding {
        token: String::new(),
        members: vec![Member::founder(machine)],
        state: InitialClusterState::New,
    }
}
