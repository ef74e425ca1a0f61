//! What kubeadm's post-init phases make in the target cluster, so that a stock `kubeadm join` and
//! every tool that expects a kubeadm cluster works.
//!
//! Answers "which objects belong into the target" ([`desired_objects`], [`node_marks`]; pure, as
//! kubeadm of the same version makes them) and brings them there ([`apply`], [`mark_nodes`]) and
//! keeps them, without a single write while nothing differs. [`client`] reaches one machine's API
//! server.
//!
//! For node pools it also brings bootstrap tokens there (`tokens`), answers the requests of machines
//! that join (`requests`) and takes Nodes out (`drain`; what leaves when is in `draining`). Which
//! tokens, which answers and which Nodes is never decided here.
//!
//! Never removes an object that kubeadm would make, not even those of an addon that was disabled
//! later (nor does kubeadm), and never makes the `kubeadm-certs` Secret: machines get their keys by
//! machine config. What people may edit in the target is named object by object
//! ([`Desired::live_wins`]); everything else follows the spec.
//!
//! A new object goes into the builder of its phase (`rbac`, `config_maps`, `kube_proxy`,
//! `core_dns`), a new mark of nodes into `node_marks`.

mod apply;
mod bootstrap;
pub mod client;
mod config_maps;
mod core_dns;
mod desired;
mod difference;
mod drain;
mod draining;
mod kube_proxy;
mod kubeadm_config;
mod node_marks;
mod node_view;
mod nodes;
mod rbac;
mod requests;
#[cfg(test)]
mod tests;
mod tokens;

pub use apply::{Applied, Problem, apply};
pub use bootstrap::node_pool_objects;
pub use client::{ClientError, Readiness, connect, readyz};
pub use desired::{BuildError, Desired, Stage, desired_objects};
pub use difference::difference;
pub use drain::{Drained, drain, undo_drain};
pub use draining::{DRAIN_STARTED, drain_started};
pub use node_marks::{NodeChange, NodeMarks, node_marks};
pub use node_view::NodeView;
pub use nodes::{mark_nodes, nodes, remove_node};
pub use requests::{APPROVED, answer_request, undecided_requests};
pub use tokens::{put_token, revoke_token, tokens};

/// Owner of our fields in the target.
pub const FIELD_MANAGER: &str = "seedbed/target";
