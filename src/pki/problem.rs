//! What is wrong with stored certificates and keys, in words for the person who can fix it.

use jiff::Timestamp;

use super::key::KeyError;

/// A defect of a stored Secret. Names the Secret, its key and the fix; never holds content.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Secret {secret}, key {key}: {defect}")]
pub struct PkiProblem {
    pub secret: String,
    /// Key of the Secret's data.
    pub key: String,
    pub defect: Defect,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    #[error(
        "the Secret is missing, but machines run with what it held, so it is never made anew; \
         restore it from a backup"
    )]
    Lost,
    #[error("is missing; add it, or delete the Secret if no machine has booted yet")]
    MissingKey,
    #[error(
        "is missing, and a CA without its key (an external CA) is not supported yet; add the key"
    )]
    ExternalCa,
    #[error("holds no PEM certificate, or one that cannot be parsed; store a PEM certificate")]
    NotACertificate,
    #[error("{0}; store such a key in PEM")]
    PrivateKey(#[from] KeyError),
    #[error("holds no PEM public key; write it with `openssl pkey -in tls.key -pubout`")]
    NotAPublicKey,
    #[error("holds no kubeconfig with an embedded client certificate and key")]
    NotAKubeconfig,
    #[error("does not belong to the key in {0}; store the two halves of one pair")]
    OtherPair(String),
    #[error("the first certificate of the bundle is not the one of tls.key; put that one first")]
    OwnCertificateNotFirst,
    #[error(
        "the certificate is not a CA's; it needs basic constraints CA:TRUE and, if it has key \
         usages, keyCertSign"
    )]
    NotACa,
    #[error(
        "the CA's subject repeats an attribute or has a part of several, which is not supported \
         yet; use a CA whose subject has each attribute once"
    )]
    Subject,
    #[error("the certificate expired at {0}; store one that is valid")]
    Expired(Timestamp),
    #[error("the certificate is not valid before {0}; store one that is, or set the clock")]
    NotYetValid(Timestamp),
    #[error(
        "the certificate was not signed by the CA in Secret {0}; restore that CA, or delete this \
         key to have the certificate issued anew"
    )]
    OtherCa(String),
}

impl Defect {
    /// Whether the stored object is sound and only a later version of Seedbed can use it.
    pub fn is_not_supported_yet(&self) -> bool {
        matches!(self, Self::ExternalCa | Self::Subject)
    }

    /// Whether only time has passed.
    pub fn is_expiry(&self) -> bool {
        matches!(self, Self::Expired(_) | Self::NotYetValid(_))
    }
}
