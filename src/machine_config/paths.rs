//! Which paths a user may write.

use std::collections::BTreeSet;
use std::fmt;

use super::{MachineConfigError, boot};
use crate::domain::UserFile;
use crate::manifests::NodeFile;

/// What is wrong with the path of a user's file, beside its spelling, which the spec's checks see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// Seedbed writes this file itself.
    Rendered,
    /// Two entries have it.
    Repeated,
    /// Below a folder that belongs to a component.
    Reserved(String),
    /// Another file's path lies below it.
    Folder(String),
}

impl fmt::Display for PathFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rendered => f.write_str(
                "is a file that Seedbed writes itself; use the field of its component, or patches",
            ),
            Self::Repeated => f.write_str("stands there twice; remove one of the two entries"),
            Self::Reserved(folder) => {
                write!(
                    f,
                    "is below {folder}, which is reserved; choose another folder"
                )
            }
            Self::Folder(below) => {
                write!(
                    f,
                    "would have to be a folder, because of {below}; rename one of the two"
                )
            }
        }
    }
}

pub(super) fn check(
    rendered: &[NodeFile],
    user: &[UserFile],
    reserved_directories: &[String],
) -> Result<(), MachineConfigError> {
    let own: BTreeSet<&str> = rendered.iter().map(|file| file.path.as_str()).collect();
    let mut all = own.clone();
    for file in user {
        let path = file.path.as_str();
        if own.contains(path) {
            return Err(wrong(path, PathFault::Rendered));
        }
        if !all.insert(path) {
            return Err(wrong(path, PathFault::Repeated));
        }
        let reserved = reserved_directories.iter().map(String::as_str);
        let mut reserved = reserved.chain([
            boot::SUCCESS_MARKER,
            boot::FIRST_BOOT_FOLDER,
            boot::FIRST_BOOT_UNIT_FILE,
        ]);
        if let Some(folder) = reserved.find(|folder| is_below(path, folder)) {
            return Err(wrong(path, PathFault::Reserved(folder.to_owned())));
        }
    }
    // In byte order, other names may stand between a folder and what is below it.
    for path in &all {
        let folder = format!("{}/", path.trim_end_matches('/'));
        let mut below = all.range(folder.as_str()..).filter(|below| *below != path);
        if let Some(below) = below.next().filter(|below| below.starts_with(&folder)) {
            return Err(wrong(path, PathFault::Folder((*below).to_owned())));
        }
    }
    Ok(())
}

/// Whether `path` is `folder` or below it.
fn is_below(path: &str, folder: &str) -> bool {
    let rest = path.strip_prefix(folder);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn wrong(path: &str, fault: PathFault) -> MachineConfigError {
    let path = path.to_owned();
    MachineConfigError::Path { path, fault }
}
