//! The machine config: one piece of user data that turns a blank machine into what it should be.
//!
//! Answers what a machine boots from, given its files and commands, whether that fits the size
//! budget, and which revision it is. Pure and complete: every file or an error, never a part, and
//! the same input gives the same bytes. It does not know what is in a file.
//!
//! `compose`, `etcd_machine` and `worker` join the rooms that a machine config comes from; the formats
//! of user data are in `cloud_config` and `ignition`; what a machine does at boot is in `boot`; which
//! paths a user may not
//! write is in `paths`.

mod boot;
mod cloud_config;
mod compose;
mod etcd_machine;
mod ignition;
mod paths;
mod revision;
mod stored;
mod worker;

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::crd::MachineConfigFormat;
use crate::domain::UserFile;
use crate::manifests::{ManifestError, NodeFile};

pub use boot::SUCCESS_MARKER;
pub use compose::{machine_config, machine_contents};
pub use etcd_machine::{etcd_machine_config, etcd_machine_contents};
pub use paths::PathFault;
pub use stored::PLAIN_LIMIT_BYTES;
pub use worker::{worker_config, worker_contents};

/// `format` of the machine-config Secret for `#cloud-config` (Cluster API's name for it).
pub const CLOUD_CONFIG_FORMAT: &str = "cloud-config";
/// `format` of the machine-config Secret for Ignition (Cluster API's name for it).
pub const IGNITION_FORMAT: &str = "ignition";

/// How many files [`MachineConfigError::TooLarge`] names.
const LARGEST_FILES: usize = 5;

/// What a machine boots from. No `Debug`: the user data holds keys.
pub struct MachineConfig {
    /// The value of the machine-config Secret, always ASCII text.
    pub user_data: Zeroizing<Vec<u8>>,
    /// `format` of the machine-config Secret.
    pub format: &'static str,
    /// Hash of what the machine should be, see [`machine_config`].
    pub revision: String,
    /// SHA-256 of each file's content, hexadecimal, by path.
    pub files: BTreeMap<String, String>,
}

/// What joins the rendered files of a machine.
#[derive(Clone, Debug, Default)]
pub struct Additions<'a> {
    pub format: MachineConfigFormat,
    /// The user's files; their paths are canonical.
    pub files: &'a [UserFile],
    pub pre_commands: &'a [String],
    pub post_commands: &'a [String],
    /// Made with mode 0700 before the kubelet starts.
    pub private_directories: Vec<String>,
    /// Users write nothing below these.
    pub reserved_directories: Vec<String>,
    /// Services that have to read new files before the kubelet starts.
    pub restarted_services: Vec<String>,
    /// What the first boot does about etcd's data; `None` for a founder while nobody has started: of
    /// `--initial-cluster-state=new` etcd itself asks the others.
    pub data_dir: Option<DataDir>,
    /// The kubelet has to get its certificate before the boot counts as done.
    pub joins: bool,
}

/// Folder of etcd's data, and what the first boot does about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DataDir {
    /// The member has started before: the boot ends where the folder is empty (I9).
    Kept(String),
    /// The member is new: data of an earlier one is moved aside, never deleted (I10).
    SetAside(String),
    /// The member is a founder that nobody has seen start: it asks the others before it starts on an
    /// empty folder (I9).
    AsksOthers(Founder),
}

/// What a founder needs to ask the others about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Founder {
    pub data_dir: String,
    /// Folder of etcd's certificates on the node.
    pub certificates: String,
    /// `--name`.
    pub name: String,
    /// Peer URLs of the others.
    pub others: Vec<String>,
}

/// Everything a machine config is made of.
#[derive(Debug)]
pub struct Contents {
    format: MachineConfigFormat,
    files: Vec<NodeFile>,
    pre_commands: Vec<String>,
    post_commands: Vec<String>,
    private_directories: Vec<String>,
    restarted_services: Vec<String>,
    data_dir: Option<DataDir>,
    joins: bool,
}

/// A file's share of a machine config that is too large.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contributor {
    pub path: String,
    /// Bytes of the content, compressed on its own.
    pub compressed_bytes: usize,
}

/// Why there is no machine config.
#[derive(Debug, thiserror::Error)]
pub enum MachineConfigError {
    #[error(transparent)]
    Manifests(#[from] ManifestError),
    #[error("spec.machineConfig.files: path {path:?} {fault}")]
    Path { path: String, fault: PathFault },
    #[error(
        "the machine config has {size} bytes compressed, {budget} are allowed; largest files: {}; \
         remove some of spec.machineConfig.files, use ECDSA-P256 keys and profile Standard, or \
         raise spec.machineConfig.sizeBudgetBytes to what the machines' platform takes",
        list(largest)
    )]
    TooLarge {
        size: usize,
        budget: usize,
        /// The five largest, largest first.
        largest: Vec<Contributor>,
    },
}

fn list(largest: &[Contributor]) -> String {
    let one = |file: &Contributor| format!("{} ({} bytes)", file.path, file.compressed_bytes);
    largest.iter().map(one).collect::<Vec<_>>().join(", ")
}

impl Contents {
    /// Joins rendered files and additions, refusing what a user may not write.
    pub fn new(
        rendered: Vec<NodeFile>,
        additions: Additions<'_>,
    ) -> Result<Self, MachineConfigError> {
        paths::check(&rendered, additions.files, &additions.reserved_directories)?;
        let mut files = rendered;
        files.extend(additions.files.iter().map(|file| NodeFile {
            path: file.path.clone(),
            mode: file.mode,
            owner: file.owner.clone(),
            content: file.content.clone(),
        }));
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(Self {
            format: additions.format,
            files,
            pre_commands: additions.pre_commands.to_vec(),
            post_commands: additions.post_commands.to_vec(),
            private_directories: additions.private_directories,
            restarted_services: additions.restarted_services,
            data_dir: additions.data_dir,
            joins: additions.joins,
        })
    }

    /// Files by path.
    pub fn files(&self) -> &[NodeFile] {
        &self.files
    }

    /// Folders that have mode 0700.
    pub fn private_directories(&self) -> &[String] {
        &self.private_directories
    }

    /// Hash of what the machine should be: paths, modes, owners and contents of all files, and the
    /// user's commands. Neither the format nor the compression nor Seedbed's own boot commands
    /// enter it, so that another release of Seedbed does not make running machines look outdated.
    pub fn revision(&self) -> String {
        revision::of(self)
    }

    /// The user data, if it fits into `size_budget_bytes` as it is stored.
    pub fn assemble(
        &self,
        revision: String,
        size_budget_bytes: usize,
    ) -> Result<MachineConfig, MachineConfigError> {
        let (format, stored) = match self.format {
            MachineConfigFormat::CloudConfig => {
                let document = cloud_config::document(&self.files, &boot::boot(self));
                let stored = stored::cloud_config(document, size_budget_bytes);
                (CLOUD_CONFIG_FORMAT, stored)
            }
            MachineConfigFormat::Ignition => {
                let document = ignition::document(&self.files, &boot::script(self));
                let stored = stored::ignition(document, size_budget_bytes);
                (IGNITION_FORMAT, stored)
            }
        };
        let user_data = stored.map_err(|size| MachineConfigError::TooLarge {
            size,
            budget: size_budget_bytes,
            largest: self.largest(),
        })?;
        let hash = |file: &NodeFile| (file.path.clone(), sha256_hex(&file.content));
        Ok(MachineConfig {
            user_data,
            format,
            revision,
            files: self.files.iter().map(hash).collect(),
        })
    }

    fn largest(&self) -> Vec<Contributor> {
        let mut all: Vec<_> = self
            .files
            .iter()
            .map(|file| Contributor {
                path: file.path.clone(),
                compressed_bytes: stored::gzip(&file.content).len(),
            })
            .collect();
        all.sort_by(|a, b| (b.compressed_bytes, &a.path).cmp(&(a.compressed_bytes, &b.path)));
        all.truncate(LARGEST_FILES);
        all
    }
}

/// SHA-256, hexadecimal.
fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
