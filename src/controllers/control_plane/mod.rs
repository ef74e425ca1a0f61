//! `ControlPlane`: from the spec to machine-config Secrets and a live control plane.

pub mod resolve;
