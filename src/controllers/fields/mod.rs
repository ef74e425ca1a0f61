//! What is wrong with a spec, and checks of the shapes that several kinds share.
//!
//! Pure. A [`Checker`] goes through a spec and gathers every problem, not the first only, and
//! every default that was applied. Each message names the field, the value and the fix. A check of
//! a new shared shape gets a function here; a check of one kind stays in that kind's `resolve`.

mod certificates;
mod component;
mod etcd;
mod forbidden;
mod inventory;
mod machine;
mod machine_config;
mod patches;
mod text;

use std::collections::BTreeMap;
use std::fmt;

pub use certificates::{CERTIFICATES_PATH, CertificateFields, certificates};
pub use component::{args, component, env_vars, free_form, kubelet};
pub use etcd::etcd_members;
pub use forbidden::{allowed_args, allowed_envs};
pub use inventory::{inventory, split, spread};
pub use machine::{address, labels, machine_name, taints};
pub use machine_config::{
    ContentKind, ContentRef, Contents, MachineConfigFields, content_references, machine_config,
};
pub use patches::kubelet_patches;
pub use text::{
    absolute_path, directory, duration, image_repository, image_tag, label_value, lowercase_sans,
    object_name, sans, show,
};

/// Kind of a [`Problem`]; becomes the reason of the `Stalled` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProblemReason {
    /// A value is wrong; only an edit of the spec helps.
    InvalidSpec,
    /// The field belongs to a capability that this release does not have.
    NotYetSupported,
    /// A referenced Secret, ConfigMap or key does not exist.
    MissingInput,
    /// The record of etcd's founding is missing or contradictory.
    FoundingHalted,
}

impl ProblemReason {
    /// The reason as conditions spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSpec => "InvalidSpec",
            Self::NotYetSupported => "NotYetSupported",
            Self::MissingInput => "MissingInput",
            Self::FoundingHalted => "FoundingHalted",
        }
    }
}

/// Something in a spec that keeps it from being acted on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct Problem {
    /// Path of the field, for example `spec.machines[cp-1].address`.
    pub path: String,
    pub reason: ProblemReason,
    /// What is wrong and what to do. Never holds secret content.
    pub message: String,
}

/// Goes through one spec and remembers what it found.
#[derive(Debug, Default)]
pub struct Checker {
    problems: Vec<Problem>,
    defaults: BTreeMap<String, String>,
}

impl Checker {
    /// Notes a wrong value.
    pub fn invalid(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(path, ProblemReason::InvalidSpec, message);
    }

    /// Notes a field whose capability this release does not have; `instead` says what to do.
    pub fn not_yet(&mut self, path: impl Into<String>, instead: &str) {
        let message = format!("is not supported by this release of Seedbed yet; {instead}");
        self.push(path, ProblemReason::NotYetSupported, message);
    }

    /// Notes an input that does not exist.
    pub fn missing(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.push(path, ProblemReason::MissingInput, message);
    }

    fn push(&mut self, path: impl Into<String>, reason: ProblemReason, message: impl Into<String>) {
        self.problems.push(Problem {
            path: path.into(),
            reason,
            message: message.into(),
        });
    }

    /// The given value, or the default, which is then listed under the path without `spec.`.
    pub fn or_default<T: fmt::Display>(&mut self, path: &str, given: Option<T>, default: T) -> T {
        given.unwrap_or_else(|| {
            self.note_default(path, &default);
            default
        })
    }

    /// Lists a default that was applied.
    pub fn note_default(&mut self, path: &str, value: &impl fmt::Display) {
        let key = path.strip_prefix("spec.").unwrap_or(path);
        self.defaults.insert(key.to_owned(), value.to_string());
    }

    /// The value of a parse; its error becomes a problem.
    pub fn take<T, E: fmt::Display>(
        &mut self,
        path: impl Into<String>,
        parsed: Result<T, E>,
    ) -> Option<T> {
        parsed
            .map_err(|error| self.invalid(path, error.to_string()))
            .ok()
    }

    /// A value that has to lie within bounds, both included.
    pub fn within(&mut self, path: &str, value: i64, least: i64, most: i64) -> bool {
        let ok = (least..=most).contains(&value);
        if !ok {
            let message = format!("{value} is out of range; give a value of {least} to {most}");
            self.invalid(path, message);
        }
        ok
    }

    /// A TCP port.
    pub fn port(&mut self, path: &str, value: i32) -> Option<u16> {
        self.within(path, value.into(), 1, u16::MAX.into());
        u16::try_from(value).ok().filter(|port| *port > 0)
    }

    /// Everything that is wrong, and the defaults that were applied.
    pub fn finish(self) -> (Vec<Problem>, BTreeMap<String, String>) {
        (self.problems, self.defaults)
    }

    /// What the spec resolved to, with the defaults that were applied.
    ///
    /// # Errors
    /// Every problem of the spec, never an empty list.
    pub fn conclude<T>(
        self,
        resolved: Option<T>,
    ) -> Result<(T, BTreeMap<String, String>), Vec<Problem>> {
        let (mut problems, defaults) = self.finish();
        match resolved {
            Some(resolved) if problems.is_empty() => Ok((resolved, defaults)),
            _ => {
                if problems.is_empty() {
                    problems.push(Problem {
                        path: "spec".to_owned(),
                        reason: ProblemReason::InvalidSpec,
                        message: "could not be resolved; please report this object".to_owned(),
                    });
                }
                Err(problems)
            }
        }
    }
}

#[cfg(test)]
mod tests;
