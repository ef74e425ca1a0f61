//! The files of a machine, control plane, etcd or worker, as kubeadm of the same version writes them.
//!
//! Pure: the same control plane, certificates and founding give the same bytes. Never fills in a
//! default (`resolve` did) and never leaves a file out because an input is missing: that is a
//! [`ManifestError`]. A new flag goes into its component's file, a new file on the node into
//! `files`, each with its golden and the comparison with kubeadm.

mod apiserver;
mod args;
mod controller_manager;
mod error;
mod etcd;
mod etcd_machine;
mod files;
mod forbidden;
mod kubeconfig;
mod kubelet;
mod node_file;
mod os_preparation;
mod patches;
mod pod;
mod scheduler;
mod volumes;
mod worker;

pub use error::ManifestError;
pub use etcd_machine::etcd_machine_files;
pub use files::machine_files;
pub use forbidden::{ArgOwner, ForbiddenArg, forbidden_arg, forbidden_args, forbidden_env};
pub use kubeconfig::{Kubeconfig, bootstrap_kubeconfig, cluster_info, kubeconfig};
pub use kubelet::kubelet_configuration;
pub(crate) use kubelet::{dns_address, overlay};
pub use node_file::NodeFile;
pub use pod::merge_envs;
pub use worker::worker_files;

#[cfg(test)]
mod tests;
