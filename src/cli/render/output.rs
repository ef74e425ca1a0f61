//! Writing the output folder.
//!
//! Everything is rendered before the first byte is written. Each machine's folder is made beside
//! its place and then renamed into it, so that a reader never sees half of one. A record in the
//! folder says whose it is; without it, nothing that exists is touched.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::domain::{ControlPlane, NodeName};
use crate::machine_config::{Contents, MachineConfig};
use serde::{Deserialize, Serialize};

/// Name of the record.
const RECORD: &str = ".seedbed-render.json";

#[derive(Debug, thiserror::Error)]
pub(super) enum OutputError {
    #[error("{path}: cannot {what}")]
    Io {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{0} is not empty and was not written by render; give -o an empty or new folder")]
    Foreign(PathBuf),
    #[error("{path} was rendered from ControlPlane {found}, not {wanted}; give -o another folder")]
    Other {
        path: PathBuf,
        found: String,
        wanted: String,
    },
    #[error("{0}: the record {RECORD} is damaged; remove the folder's content or give -o another")]
    Record(PathBuf),
    #[error(
        "two things would be written to {0}; rename the machine, or if its name is \"pki\", give \
         --pki a folder elsewhere"
    )]
    Collision(PathBuf),
}

/// Adds what was tried, and where.
pub(super) fn context<T>(
    what: &'static str,
    path: &Path,
    result: io::Result<T>,
) -> Result<T, OutputError> {
    result.map_err(|source| OutputError::Io {
        what,
        path: path.to_owned(),
        source,
    })
}

/// One machine, ready to be written.
pub(super) struct RenderedMachine {
    pub(super) name: NodeName,
    pub(super) contents: Contents,
    pub(super) config: MachineConfig,
}

/// Whose folder it is and what render wrote into it.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    /// `namespace/name`.
    control_plane: String,
    machines: BTreeSet<String>,
}

/// A folder that may be written to.
pub(super) struct Output {
    folder: PathBuf,
    record: Record,
}

impl Output {
    /// Makes the folder, or takes one that is empty or was written for the same ControlPlane.
    /// `reserved`: a name in it that is taken.
    pub(super) fn open(
        folder: &Path,
        control_plane: &ControlPlane,
        reserved: Option<&str>,
    ) -> Result<Self, OutputError> {
        let mut names: BTreeSet<String> = reserved.map(str::to_owned).into_iter().collect();
        for machine in &control_plane.machines {
            for name in [
                machine.name.to_string(),
                user_data_name(machine.name.as_str()),
            ] {
                if !names.insert(name.clone()) {
                    return Err(OutputError::Collision(folder.join(name)));
                }
            }
        }
        private_folder(folder)?;
        let wanted = format!("{}/{}", control_plane.namespace, control_plane.name);
        let record = match fs::read(folder.join(RECORD)) {
            Ok(bytes) => serde_json::from_slice::<Record>(&bytes)
                .map_err(|_| OutputError::Record(folder.to_owned()))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut entries = context("list", folder, fs::read_dir(folder))?;
                if entries.next().is_some() {
                    return Err(OutputError::Foreign(folder.to_owned()));
                }
                Record {
                    control_plane: wanted.clone(),
                    machines: BTreeSet::new(),
                }
            }
            Err(error) => return context("read", &folder.join(RECORD), Err(error)),
        };
        if record.control_plane != wanted {
            return Err(OutputError::Other {
                path: folder.to_owned(),
                found: record.control_plane,
                wanted,
            });
        }
        let output = Self {
            folder: folder.to_owned(),
            record,
        };
        output.write_record(&output.record.machines)?;
        Ok(output)
    }

    /// Writes every machine, and removes those that an earlier run wrote and that are gone.
    pub(super) fn write(&self, machines: &[RenderedMachine]) -> Result<(), OutputError> {
        let now: BTreeSet<String> = machines.iter().map(|m| m.name.to_string()).collect();
        self.write_record(&self.record.machines.union(&now).cloned().collect())?;
        for machine in machines {
            let staged = self.folder.join(format!(".new-{}", machine.name));
            remove_folder(&staged)?;
            write_tree(&staged, &machine.contents)?;
            replace_folder(&staged, &self.folder.join(machine.name.as_str()))?;
            let user_data = self.folder.join(user_data_name(machine.name.as_str()));
            write_file(&user_data, 0o600, &machine.config.user_data)?;
        }
        for gone in self.record.machines.difference(&now) {
            remove_folder(&self.folder.join(gone))?;
            let user_data = self.folder.join(user_data_name(gone));
            if user_data.exists() {
                context("remove", &user_data, fs::remove_file(&user_data))?;
            }
        }
        self.write_record(&now)
    }

    fn write_record(&self, machines: &BTreeSet<String>) -> Result<(), OutputError> {
        let record = Record {
            control_plane: self.record.control_plane.clone(),
            machines: machines.clone(),
        };
        let path = self.folder.join(RECORD);
        let json = serde_json::to_vec(&record).map_err(io::Error::from);
        write_file(&path, 0o600, &context("write", &path, json)?)
    }
}

fn user_data_name(machine: &str) -> String {
    format!("{machine}.user-data")
}

/// The machine's files below `root`. Folders have mode 0755, as cloud-init makes them, except for
/// the machine's private ones.
fn write_tree(root: &Path, contents: &Contents) -> Result<(), OutputError> {
    let below = |path: &str| root.join(path.trim_start_matches('/'));
    make_folder(root)?;
    for file in contents.files() {
        let path = below(&file.path);
        make_folder(path.parent().unwrap_or(root))?;
        write_file(&path, file.mode, &file.content)?;
    }
    for folder in contents.private_directories() {
        let path = below(folder);
        make_folder(&path)?;
        set_mode(&path, 0o700)?;
    }
    Ok(())
}

fn make_folder(path: &Path) -> Result<(), OutputError> {
    let made = DirBuilder::new().recursive(true).mode(0o755).create(path);
    context("make folder", path, made)
}

/// Makes a folder that only its owner can enter; an existing one stays as it is.
pub(super) fn private_folder(path: &Path) -> Result<(), OutputError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    context("make folder", path, made)
}

fn set_mode(path: &Path, mode: u32) -> Result<(), OutputError> {
    let set = fs::set_permissions(path, Permissions::from_mode(mode));
    context("set the mode of", path, set)
}

/// Writes a file in one step: beside its place, then renamed into it.
pub(super) fn write_file(path: &Path, mode: u32, content: &[u8]) -> Result<(), OutputError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".new-{name}"));
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return context("remove", &new, Err(error));
        }
        _ => {}
    }
    let open = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new);
    let mut file = context("write", &new, open)?;
    context(
        "write",
        &new,
        file.write_all(content).and_then(|()| file.sync_all()),
    )?;
    set_mode(&new, mode)?;
    context("write", path, fs::rename(&new, path))
}

/// Puts the folder `new` in the place of `old`, if there is one.
pub(super) fn replace_folder(new: &Path, old: &Path) -> Result<(), OutputError> {
    let name = old.file_name().unwrap_or_default().to_string_lossy();
    let aside = old.with_file_name(format!(".old-{name}"));
    remove_folder(&aside)?;
    if old.exists() {
        context("move", old, fs::rename(old, &aside))?;
    }
    context("move", new, fs::rename(new, old))?;
    remove_folder(&aside)
}

/// Removes a folder and everything in it, if it exists.
pub(super) fn remove_folder(path: &Path) -> Result<(), OutputError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            context("remove", path, Err(error))
        }
        _ => Ok(()),
    }
}
