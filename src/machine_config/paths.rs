//! Which paths a user may write.

use std::collections::BTreeSet;
use std::fmt;

use super::{MachineConfigError, boot};
use crate::domain::UserFile;
use crate::manifests::NodeFile;

/// What is wrong with the path of a user's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// Relative, with `.`, `..`, an empty segment or a control character.
    NotCanonical,
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
            Self::NotCanonical => f.write_str(
                "is not an absolute path of plain segments; write it as /etc/example/file.conf",
            ),
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
    reserved_directories: &[&str],
) -> Result<(), MachineConfigError> {
    let own: BTreeSet<&str> = rendered.iter().map(|file| file.path.as_str()).collect();
    let mut all = own.clone();
    for file in user {
        let fault = fault(&file.path, &own, &all, reserved_directories);
        if let Some(fault) = fault {
            return Err(wrong(&file.path, fault));
        }
        owner(file)?;
        all.insert(&file.path);
    }
    // In byte order other names may stand between a folder and what is below it.
    for path in &all {
        let folder = format!("{path}/");
        if let Some(below) = all.range(folder.as_str()..).next()
            && below.starts_with(&folder)
        {
            return Err(wrong(path, PathFault::Folder((*below).to_owned())));
        }
    }
    Ok(())
}

fn fault(
    path: &str,
    own: &BTreeSet<&str>,
    all: &BTreeSet<&str>,
    reserved_directories: &[&str],
) -> Option<PathFault> {
    let below = |folder: &&&str| {
        let rest = path.strip_prefix(**folder);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let marker = [boot::SUCCESS_MARKER];
    let mut reserved = reserved_directories.iter().chain(&marker);
    if !canonical(path) {
        Some(PathFault::NotCanonical)
    } else if own.contains(path) {
        Some(PathFault::Rendered)
    } else if all.contains(path) {
        Some(PathFault::Repeated)
    } else {
        let folder = reserved.find(below)?;
        Some(PathFault::Reserved((*folder).to_owned()))
    }
}

/// One way to write each path, so that comparing texts compares files.
fn canonical(path: &str) -> bool {
    let segment = |segment: &str| !matches!(segment, "" | "." | "..");
    let visible = !path.chars().any(char::is_control);
    visible
        && path
            .strip_prefix('/')
            .is_some_and(|rest| rest.split('/').all(segment))
}

/// cloud-init looks both up by name.
fn owner(file: &UserFile) -> Result<(), MachineConfigError> {
    let name = |name: &str| {
        let mut bytes = name.bytes();
        let first = bytes
            .next()
            .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
        let rest = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.' | b'$');
        first && bytes.all(rest)
    };
    match file.owner.split_once(':') {
        Some((user, group)) if name(user) && name(group) => Ok(()),
        _ => Err(MachineConfigError::Owner {
            path: file.path.clone(),
            owner: file.owner.clone(),
        }),
    }
}

fn wrong(path: &str, fault: PathFault) -> MachineConfigError {
    let path = path.to_owned();
    MachineConfigError::Path { path, fault }
}
