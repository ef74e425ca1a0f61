//! Certificates and keys of a control plane, as kubeadm lays them out.
//!
//! Answers which certificates must exist, which are stored, what has to be issued or renewed, and
//! issues them. Everything is pure except [`issue`], the only place that generates keys. Random
//! material is stored before anything renders from it. A new certificate is one row of `inventory`.

mod material;

pub use material::{Ca, ClusterPki, KeyPair, Leaf, MachinePki, ServiceAccountKeys};
