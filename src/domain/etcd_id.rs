//! etcd's 64-bit identifiers, written in hexadecimal as etcdctl writes them.

use std::fmt;
use std::str::FromStr;

/// Why a text is not an identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an etcd ID; write it as up to 16 hexadecimal digits")]
pub struct EtcdIdError(pub String);

macro_rules! etcd_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = EtcdIdError;

            fn from_str(text: &str) -> Result<Self, EtcdIdError> {
                u64::from_str_radix(text, 16).map(Self).map_err(|_| EtcdIdError(text.to_owned()))
            }
        }
    };
}

etcd_id! {
    /// Identifies a member for as long as it is one; a member added again has another.
    MemberId
}
etcd_id! {
    /// Identifies a cluster: derived from the founders and `--initial-cluster-token`.
    ClusterId
}
