//! Seedbed manages highly available Kubernetes control planes on other machines.
//!
//! The pure rooms decide (no client, no clock, no randomness, no async):
//! [`domain`], [`versions`], [`pki`] except its `issue`, [`manifests`], `machine_config`,
//! [`membership`], [`tokens`] except its `issue`. The thin edges act: [`etcd`], [`target`], [`kube_ext`], `controllers`,
//! [`runtime`]. `tests/layout.rs` keeps the wall.

pub mod cli;
pub mod controllers;
pub mod crd;
pub mod domain;
pub mod etcd;
pub mod kube_ext;
pub mod machine_config;
pub mod manifests;
pub mod membership;
pub mod operator;
pub mod pki;
pub mod runtime;
pub mod target;
pub mod tokens;
pub mod versions;
pub mod yaml;
