//! A file on a node.

use std::fmt;

use zeroize::Zeroizing;

/// A file to be written on a node, with its mode made explicit.
#[derive(Clone, PartialEq, Eq)]
pub struct NodeFile {
    /// Absolute path.
    pub path: String,
    /// Permission bits, for example `0o600`.
    pub mode: u32,
    /// `user:group`.
    pub owner: String,
    /// May hold keys, hence zeroed on drop and left out of `Debug`.
    pub content: Zeroizing<Vec<u8>>,
}

impl fmt::Debug for NodeFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "NodeFile({} {:o}, {} bytes)",
            self.path,
            self.mode,
            self.content.len()
        )
    }
}
