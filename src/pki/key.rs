//! Private keys: reading the three PEM forms, writing kubeadm's, signing.

use aws_lc_rs::encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use pkcs8::{LineEnding, PrivateKeyInfoRef, SecretDocument};
use rcgen::{
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256, PublicKeyData,
    SignatureAlgorithm, SigningKey,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// Why a text is not a private key that Seedbed can use. Never holds any of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "holds no unencrypted PEM private key (RSA PRIVATE KEY, EC PRIVATE KEY or PRIVATE KEY)"
    )]
    NotPem,
    #[error("is not an RSA key of 2048 to 8192 bits, nor an ECDSA key on P-256 or P-384")]
    Unsupported,
}

/// Encoding or signing failed inside the cryptographic library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cryptographic library failed")]
pub struct CryptoError;

/// A private key. The library wipes its memory when it is dropped.
pub(super) enum PrivateKey {
    P256(EcdsaKeyPair),
    P384(EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

impl PrivateKey {
    /// Reads the first private key of a PEM text: PKCS#1, SEC1 or PKCS#8.
    pub(super) fn from_pem(pem: &[u8]) -> Result<Self, KeyError> {
        let der = PrivateKeyDer::from_pem_slice(pem).map_err(|_| KeyError::NotPem)?;
        let der = Zeroizing::new(der);
        let bytes = der.secret_der();
        let ecdsa = |algorithm| EcdsaKeyPair::from_private_key_der(algorithm, bytes);
        let key = match &*der {
            PrivateKeyDer::Pkcs1(_) => RsaKeyPair::from_der(bytes).map(Self::Rsa),
            PrivateKeyDer::Sec1(_) => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
                .map(Self::P256)
                .or_else(|_| ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Self::P384)),
            _ => ecdsa(&ECDSA_P256_SHA256_ASN1_SIGNING)
                .map(Self::P256)
                .or_else(|_| ecdsa(&ECDSA_P384_SHA384_ASN1_SIGNING).map(Self::P384))
                .or_else(|_| RsaKeyPair::from_pkcs8(bytes).map(Self::Rsa)),
        };
        key.map_err(|_| KeyError::Unsupported)
    }

    /// PEM as kubeadm writes it: `EC PRIVATE KEY` (SEC1) or `RSA PRIVATE KEY` (PKCS#1).
    pub(super) fn to_pem(&self) -> Result<Zeroizing<String>, CryptoError> {
        match self {
            Self::P256(key) | Self::P384(key) => {
                let der: EcPrivateKeyRfc5915Der<'_> =
                    key.private_key().as_der().map_err(|_| CryptoError)?;
                secret_pem("EC PRIVATE KEY", der.as_ref())
            }
            Self::Rsa(key) => {
                let der: Pkcs8V1Der<'_> = key.as_der().map_err(|_| CryptoError)?;
                let info = PrivateKeyInfoRef::try_from(der.as_ref()).map_err(|_| CryptoError)?;
                secret_pem("RSA PRIVATE KEY", info.private_key.as_bytes())
            }
        }
    }

    /// PEM of the public half, `PUBLIC KEY` (PKIX).
    pub(super) fn public_pem(&self) -> Result<String, CryptoError> {
        secret_pem("PUBLIC KEY", &self.subject_public_key_info()).map(|pem| pem.to_string())
    }
}

fn secret_pem(label: &'static str, der: &[u8]) -> Result<Zeroizing<String>, CryptoError> {
    SecretDocument::try_from(der)
        .and_then(|document| document.to_pem(label, LineEnding::LF))
        .map_err(|_| CryptoError)
}

impl PublicKeyData for PrivateKey {
    fn der_bytes(&self) -> &[u8] {
        match self {
            Self::P256(key) | Self::P384(key) => key.public_key().as_ref(),
            Self::Rsa(key) => key.public_key().as_ref(),
        }
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        match self {
            Self::P256(_) => &PKCS_ECDSA_P256_SHA256,
            Self::P384(_) => &PKCS_ECDSA_P384_SHA384,
            Self::Rsa(_) => &PKCS_RSA_SHA256,
        }
    }
}

impl SigningKey for PrivateKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let failed = |_| rcgen::Error::RingUnspecified;
        // The library takes its randomness from the operating system, whatever is passed.
        let random = SystemRandom::new();
        match self {
            Self::P256(key) | Self::P384(key) => key
                .sign(&random, message)
                .map(|signature| signature.as_ref().to_vec())
                .map_err(failed),
            Self::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature)
                    .map_err(failed)?;
                Ok(signature)
            }
        }
    }
}
