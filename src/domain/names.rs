//! Names as Kubernetes restricts them.

use std::fmt;
use std::str::FromStr;

/// Why a text is not a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error(
        "{0:?} is not a DNS-1123 subdomain; use lower-case letters, digits, '-' and '.', \
         beginning and ending with a letter or digit"
    )]
    NotDns(String),
    #[error("{name:?} has {length} characters; at most {limit} are allowed")]
    TooLong {
        name: String,
        length: usize,
        limit: usize,
    },
}

/// Name of a Node and of its machine: a DNS-1123 subdomain of at most 63 characters, because it
/// also stands in label values.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(String);

impl NodeName {
    /// Longest node name, in characters.
    pub const MAX_LENGTH: usize = 63;

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > Self::MAX_LENGTH {
            return Err(NameError::TooLong {
                name: text.to_owned(),
                length: text.len(),
                limit: Self::MAX_LENGTH,
            });
        }
        dns_subdomain(text).map(|name| Self(name.to_owned()))
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks a DNS-1123 subdomain (`IsDNS1123Subdomain` of apimachinery, at most 253 characters).
pub fn dns_subdomain(text: &str) -> Result<&str, NameError> {
    if text.len() > 253 {
        return Err(NameError::TooLong {
            name: text.to_owned(),
            length: text.len(),
            limit: 253,
        });
    }
    let label_ok = |label: &str| {
        let bytes = label.as_bytes();
        let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        matches!((bytes.first(), bytes.last()), (Some(first), Some(last)) if alnum(first) && alnum(last))
            && bytes.iter().all(|b| alnum(b) || *b == b'-')
    };
    if text.split('.').all(label_ok) {
        Ok(text)
    } else {
        Err(NameError::NotDns(text.to_owned()))
    }
}

/// Checks a DNS name of a certificate: a subdomain, or one behind `*.`.
pub fn dns_subdomain_or_wildcard(text: &str) -> Result<&str, NameError> {
    dns_subdomain(text.strip_prefix("*.").unwrap_or(text)).map(|_| text)
}
