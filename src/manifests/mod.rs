//! The files of a control-plane machine, as kubeadm of the same version writes them.
//!
//! Pure: the same control plane, certificates and founding give the same bytes. A new flag goes
//! into its component's file, a new file on the node into `files`, each with its golden and the
//! comparison with kubeadm.

mod node_file;

pub use node_file::NodeFile;
