//! Certificates and keys of a control plane, as kubeadm lays them out.
//!
//! Answers which certificates must exist ([`inventory`]), what is stored ([`state`]), what has to
//! be issued ([`plan`]), and issues it ([`issue`], the only file that generates keys). Everything
//! else is pure. Random material is stored before anything renders from it. No error, log or
//! `Debug` output ever holds a key.
//!
//! A new leaf is one variant of [`Leaf`] and one row of [`inventory`]; a new reason to issue a
//! certificate anew goes to `policy`; a new Secret's name goes to [`secret_names`].

mod certificate;
#[cfg(test)]
pub(crate) mod fixture;
pub mod inventory;
pub mod issue;
mod key;
mod material;
mod pin;
pub mod plan;
pub mod policy;
pub mod problem;
pub mod secret_names;
pub mod state;

pub use certificate::Certificate;
pub use inventory::{CertSpec, Subject, Usage};
pub use material::{Ca, ClusterPki, KeyPair, Leaf, MachinePki, ServiceAccountKeys};
pub use pin::certificate_pins;
