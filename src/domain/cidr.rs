//! Address ranges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;

/// An address range in CIDR notation whose host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr(IpNet);

/// Why a text is not a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    #[error("{0:?} is not a range; write it as 10.96.0.0/12")]
    Malformed(String),
    #[error("{given} has host bits set; write {fixed}")]
    HostBits { given: String, fixed: String },
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let net: IpNet = text
            .parse()
            .map_err(|_| CidrError::Malformed(text.to_owned()))?;
        if net.addr() != net.network() {
            return Err(CidrError::HostBits {
                given: text.to_owned(),
                fixed: net.trunc().to_string(),
            });
        }
        Ok(Self(net))
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Cidr {
    /// The `n`th address counted from the network address (0): the API server's service address is
    /// number 1, the DNS service's number 10 (kubeadm's `GetIndexedIP`). `None` beyond the range.
    pub fn nth_address(&self, n: u32) -> Option<IpAddr> {
        let address = match self.0.network() {
            IpAddr::V4(base) => IpAddr::V4(Ipv4Addr::from(u32::from(base).checked_add(n)?)),
            IpAddr::V6(base) => {
                IpAddr::V6(Ipv6Addr::from(u128::from(base).checked_add(u128::from(n))?))
            }
        };
        self.0.contains(&address).then_some(address)
    }

    /// Whether the range is IPv6.
    pub fn is_ipv6(&self) -> bool {
        matches!(self.0, IpNet::V6(_))
    }

    /// Number of bits that vary inside the range.
    pub fn host_bits(&self) -> u8 {
        self.0.max_prefix_len() - self.0.prefix_len()
    }

    /// Whether two ranges share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.0.contains(&other.0.network()) || other.0.contains(&self.0.network())
    }

    /// Whether an address lies inside.
    pub fn contains(&self, address: &IpAddr) -> bool {
        self.0.contains(address)
    }
}
