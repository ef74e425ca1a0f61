//! Certificates and keys in a folder, laid out like the Secrets of the seed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::crd;
use crate::domain::{ControlPlane, Founding, InitialClusterState, Member, NodeName};
use crate::manifests::{Kubeconfig, ManifestError, kubeconfig};
use crate::pki::inventory::{InventoryError, cluster_admin, machine_leaves};
use crate::pki::issue::{IssueError, carry_out};
use crate::pki::plan::plan;
use crate::pki::problem::PkiProblem;
use crate::pki::secret_names::{self, VALUE};
use crate::pki::state::{
    PkiState, SecretData, Secrets, ca_data, machine_data, service_account_data,
};
use crate::pki::{Ca, ClusterPki, KeyPair, MachinePki};
use jiff::Timestamp;
use k8s_openapi::ByteString;

use super::output::{
    OutputError, context, private_folder, remove_folder, replace_folder, write_file,
};

#[derive(Debug, thiserror::Error)]
pub(super) enum PkiError {
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error(
        "certificates in {folder} cannot be used (each Secret is a folder there):\n{}",
        lines(.problems)
    )]
    Problems {
        folder: PathBuf,
        problems: Vec<PkiProblem>,
    },
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error(transparent)]
    Issue(#[from] IssueError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error("{0} is damaged; restore it from a backup")]
    Founding(PathBuf),
    #[error(
        "{0}: certificates are missing although they were just written; is another process changing the folder?"
    )]
    Unsettled(PathBuf),
}

fn lines(problems: &[PkiProblem]) -> String {
    let lines: Vec<_> = problems.iter().map(|p| format!("  {p}")).collect();
    lines.join("\n")
}

/// Everything that machine configs are rendered from, as stored.
pub(super) struct Pki {
    pub(super) founding: Founding,
    pub(super) cluster: ClusterPki,
    pub(super) machines: BTreeMap<NodeName, MachinePki>,
}

/// The folder, locked against a second render.
pub(super) struct PkiFolder {
    path: PathBuf,
    _lock: File,
}

impl PkiFolder {
    pub(super) fn open(path: &Path) -> Result<Self, PkiError> {
        private_folder(path)?;
        let folder = context("open", path, File::open(path))?;
        context("lock", path, folder.lock())?;
        Ok(Self {
            path: path.to_owned(),
            _lock: folder,
        })
    }

    /// Creates what is missing, then reads everything back: nothing is rendered that is not stored.
    pub(super) fn complete(
        &self,
        control_plane: &ControlPlane,
        now: Timestamp,
    ) -> Result<Pki, PkiError> {
        let founding = self.founding(&control_plane.name)?;
        self.issue(control_plane, founding.is_some(), now)?;
        let unsettled = || PkiError::Unsettled(self.path.clone());
        let state = self.state(control_plane)?;
        let cluster = state.cluster().ok_or_else(unsettled)?;
        let mut machines = BTreeMap::new();
        for machine in &control_plane.machines {
            let wanted = machine_leaves(control_plane, machine)?;
            let leaves = state.machine(&machine.name, wanted.keys());
            machines.insert(machine.name.clone(), leaves.ok_or_else(unsettled)?);
        }
        let founding = match founding {
            Some(founding) => founding,
            None => self.found(control_plane)?,
        };
        Ok(Pki {
            founding,
            cluster,
            machines,
        })
    }

    fn issue(
        &self,
        control_plane: &ControlPlane,
        founded: bool,
        now: Timestamp,
    ) -> Result<(), PkiError> {
        let name = &control_plane.name;
        let state = self.state(control_plane)?;
        let plan = plan(control_plane, &state, founded, now)?;
        if !plan.problems.is_empty() {
            return Err(PkiError::Problems {
                folder: self.path.clone(),
                problems: plan.problems,
            });
        }
        let issued = carry_out(control_plane, &state, &plan, now)?;
        for (ca, pair) in &issued.cas {
            self.store(&secret_names::ca(name, *ca), &ca_data(pair))?;
        }
        if let Some(keys) = &issued.service_account {
            let secret = secret_names::service_account(name);
            self.store(&secret, &service_account_data(keys))?;
        }
        for (machine, leaves) in &issued.machines {
            let secret = secret_names::machine_certificates(name, machine);
            self.store(&secret, &machine_data(leaves))?;
        }
        let stored = state.cluster_admin.and_then(Result::ok);
        let admin = issued.cluster_admin.or(stored.map(|stored| stored.pair));
        let ca = self
            .state(control_plane)?
            .cluster()
            .map(|cluster| cluster.ca);
        match (admin, ca) {
            (Some(admin), Some(ca)) => self.store_kubeconfig(control_plane, &ca, &admin),
            _ => Err(PkiError::Unsettled(self.path.clone())),
        }
    }

    fn state(&self, control_plane: &ControlPlane) -> Result<PkiState, PkiError> {
        let secrets = self.secrets(control_plane)?;
        Ok(PkiState::read(&control_plane.name, &secrets))
    }

    /// The kubeconfig is rendered anew each time, because the endpoint is part of it.
    fn store_kubeconfig(
        &self,
        control_plane: &ControlPlane,
        ca: &KeyPair,
        client: &KeyPair,
    ) -> Result<(), PkiError> {
        let Some(server) = control_plane.public_endpoint() else {
            return Ok(());
        };
        let text = kubeconfig(&Kubeconfig {
            cluster: &control_plane.cluster_name,
            server: &format!("https://{server}"),
            ca_pem: &ca.certificate_pem,
            user: &cluster_admin().subject.common_name,
            client,
        })?;
        let data = SecretData::from([(VALUE.to_owned(), ByteString(text.as_bytes().to_vec()))]);
        self.store(&secret_names::kubeconfig(&control_plane.name), &data)
    }

    fn secrets(&self, control_plane: &ControlPlane) -> Result<Secrets, PkiError> {
        let name = &control_plane.name;
        let mut secrets = Secrets::default();
        for ca in Ca::ALL {
            if let Some(data) = self.load(&secret_names::ca(name, ca))? {
                secrets.cas.insert(ca, data);
            }
        }
        for machine in &control_plane.machines {
            let secret = secret_names::machine_certificates(name, &machine.name);
            if let Some(data) = self.load(&secret)? {
                secrets.machines.insert(machine.name.clone(), data);
            }
        }
        secrets.service_account = self.load(&secret_names::service_account(name))?;
        secrets.kubeconfig = self.load(&secret_names::kubeconfig(name))?;
        Ok(secrets)
    }

    /// Data of a Secret: one file a key.
    fn load(&self, secret: &str) -> Result<Option<SecretData>, PkiError> {
        let folder = self.path.join(secret);
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => context("list", &folder, entries)?,
        };
        let mut data = SecretData::new();
        for entry in entries {
            let path = context("list", &folder, entry)?.path();
            let key = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if !key.starts_with('.') && path.is_file() {
                let bytes = context("read", &path, fs::read(&path))?;
                data.insert(key, ByteString(bytes));
            }
        }
        Ok(Some(data))
    }

    /// The whole Secret appears at once, and only if it differs. Other files of the folder go.
    fn store(&self, secret: &str, data: &SecretData) -> Result<(), PkiError> {
        if self.load(secret)?.as_ref() == Some(data) {
            return Ok(());
        }
        let staged = self.path.join(format!(".new-{secret}"));
        remove_folder(&staged)?;
        private_folder(&staged)?;
        for (key, value) in data {
            write_file(&staged.join(key), 0o600, &value.0)?;
        }
        Ok(replace_folder(&staged, &self.path.join(secret))?)
    }

    fn founding_path(&self, control_plane: &str) -> PathBuf {
        self.path.join(format!("{control_plane}-founding.json"))
    }

    /// The recorded founding. Machines may have booted from what was rendered with it.
    fn founding(&self, control_plane: &str) -> Result<Option<Founding>, PkiError> {
        let path = self.founding_path(control_plane);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => context("read", &path, bytes)?,
        };
        let stored: crd::Founding =
            serde_json::from_slice(&bytes).map_err(|_| PkiError::Founding(path))?;
        let member = |member: crd::FoundingMember| Member {
            machine: member.name.clone(),
            name: member.name,
            peer_url: member.peer_url,
            started: false,
            added: false,
        };
        Ok(Some(Founding {
            token: stored.token,
            members: stored.members.into_iter().map(member).collect(),
            state: InitialClusterState::New,
        }))
    }

    /// Records a founding of all machines that serve, before anything is rendered with it.
    fn found(&self, control_plane: &ControlPlane) -> Result<Founding, PkiError> {
        let machines = control_plane.machines.iter();
        let founders = machines.filter(|_| control_plane.etcd.stacked().is_some());
        let members: Vec<_> = founders.map(Member::founder).collect();
        let founding = Founding {
            token: format!("{}-{:032x}", control_plane.name, rand::random::<u128>()),
            members,
            state: InitialClusterState::New,
        };
        let member = |member: &Member| crd::FoundingMember {
            name: member.name.clone(),
            peer_url: member.peer_url.clone(),
        };
        let stored = crd::Founding {
            token: founding.token.clone(),
            members: founding.members.iter().map(member).collect(),
        };
        let path = self.founding_path(&control_plane.name);
        let json = serde_json::to_vec_pretty(&stored).map_err(io::Error::from);
        write_file(&path, 0o600, &context("write", &path, json)?)?;
        Ok(founding)
    }
}
