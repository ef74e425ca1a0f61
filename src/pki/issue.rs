//! The only file that generates keys, and the only one in this room that is not pure.
//!
//! Every function blocks: an RSA-4096 key takes seconds. Call them inside
//! `tokio::task::spawn_blocking`. The fields are kubeadm's (`util/pkiutil/pki_helpers.go`,
//! `NewSelfSignedCACert` and `NewSignedCert`).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, RsaKeyPair,
};
use jiff::{SignedDuration, Timestamp};
use rand::RngExt;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use time::OffsetDateTime;

use super::certificate::is_plain;
use super::inventory::InventoryError;
use super::key::{CryptoError, KeyError, PrivateKey};
use super::plan::plan;
use super::state::{PkiState, Secrets};
use super::{Ca, CertSpec, ClusterPki, KeyPair, MachinePki, ServiceAccountKeys, Usage};
use crate::crd::KeyAlgorithm;
use crate::domain::{ControlPlane, NodeName};

/// How far certificates are dated back, so that clocks which are a little late accept them
/// (kubeadm's `CertificateBackdate`).
pub const BACKDATE: SignedDuration = SignedDuration::from_mins(5);

/// Why nothing could be issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    #[error("a validity of {0:?} ends after the last date that a certificate can hold; shorten it")]
    Validity(Duration),
    #[error("{0:?} cannot stand in a certificate; use ASCII letters, digits, '-' and '.'")]
    Name(String),
    #[error("the signing CA's certificate cannot be used: {0}")]
    SignerCertificate(&'static str),
    #[error("the signing CA's key {0}")]
    SignerKey(#[from] KeyError),
    #[error(transparent)]
    Inventory(#[from] InventoryError),
    #[error(transparent)]
    Crypto(#[from] CryptoError),
    #[error("a plan with problems cannot be carried out")]
    Problems,
    #[error("the CA that has to sign a certificate is neither stored nor part of the plan")]
    NoSigner,
    #[error("the certificate could not be made")]
    Certificate(#[from] rcgen::Error),
}

mod carry_out;

pub use carry_out::{Issued, carry_out};

static GENERATED_KEYS: AtomicU64 = AtomicU64::new(0);

/// Number of private keys that this process has generated.
pub fn generated_keys() -> u64 {
    GENERATED_KEYS.load(Ordering::Relaxed)
}

/// A new, self-signed CA.
pub fn issue_ca(
    ca: Ca,
    algorithm: KeyAlgorithm,
    validity: Duration,
    now: Timestamp,
) -> Result<KeyPair, IssueError> {
    let key = generate(algorithm)?;
    let name = ca.common_name();
    let mut params = common_params(backdated(now), now, validity)?;
    params.distinguished_name = distinguished_name(name, None)?;
    params.subject_alt_names = vec![dns_name(name)?];
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    pair(params.self_signed(&key)?.pem(), &key)
}

/// A new pair of keys for service-account tokens.
pub fn issue_service_account(algorithm: KeyAlgorithm) -> Result<ServiceAccountKeys, IssueError> {
    let key = generate(algorithm)?;
    Ok(ServiceAccountKeys {
        public_pem: key.public_pem()?,
        private_pem: key.to_pem()?,
    })
}

/// A new leaf certificate with a new key, signed by `signer`, which must be the pair of
/// [`CertSpec::signer`].
pub fn issue_leaf(
    spec: &CertSpec,
    signer: &KeyPair,
    algorithm: KeyAlgorithm,
    validity: Duration,
    now: Timestamp,
) -> Result<KeyPair, IssueError> {
    let signer = Signer::load(signer)?;
    leaf_signed_by(&signer, spec, algorithm, validity, now)
}

/// All certificates and keys of a control plane, new: what `seedbed render` starts from when it is
/// given no folder of its own, and what the benchmark of key generation measures.
pub fn issue_control_plane(
    control_plane: &ControlPlane,
    now: Timestamp,
) -> Result<(ClusterPki, BTreeMap<NodeName, MachinePki>), IssueError> {
    let state = PkiState::read(&control_plane.name, &Secrets::default());
    let plan = plan(control_plane, &state, false, now)?;
    let mut issued = carry_out(control_plane, &state, &plan, now)?;
    let mut ca = |ca| issued.cas.remove(&ca).ok_or(IssueError::NoSigner);
    let cluster = ClusterPki {
        ca: ca(Ca::Cluster)?,
        front_proxy_ca: ca(Ca::FrontProxy)?,
        etcd_ca: ca(Ca::Etcd).ok(),
        service_account: issued.service_account.ok_or(IssueError::NoSigner)?,
    };
    Ok((cluster, issued.machines))
}

/// A CA that is ready to sign.
struct Signer {
    issuer: Issuer<'static, PrivateKey>,
    /// DER of the subject, which every leaf must repeat byte for byte.
    subject: Vec<u8>,
    subject_key_id: bool,
    not_before: Timestamp,
}

impl Signer {
    fn load(pair: &KeyPair) -> Result<Self, IssueError> {
        let wrong = IssueError::SignerCertificate;
        let der = CertificateDer::from_pem_slice(pair.certificate_pem.as_bytes())
            .map_err(|_| wrong("it is not a PEM certificate"))?;
        let (_, certificate) = x509_parser::parse_x509_certificate(&der)
            .map_err(|_| wrong("it is not an X.509 certificate"))?;
        // rcgen panics on an empty part and cannot repeat one of several attributes.
        if !is_plain(certificate.subject()) {
            return Err(wrong(
                "its subject repeats an attribute or has a part of several",
            ));
        }
        let not_before = Timestamp::from_second(certificate.validity().not_before.timestamp())
            .map_err(|_| wrong("its notBefore is out of range"))?;
        let subject_key_id = certificate
            .get_extension_unique(&x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER)
            .is_ok_and(|extension| extension.is_some());
        let key = PrivateKey::from_pem(pair.key_pem.as_bytes())?;
        Ok(Self {
            subject: certificate.subject().as_raw().to_vec(),
            subject_key_id,
            not_before,
            issuer: Issuer::from_ca_cert_der(&der, key)?,
        })
    }
}

fn leaf_signed_by(
    signer: &Signer,
    spec: &CertSpec,
    algorithm: KeyAlgorithm,
    validity: Duration,
    now: Timestamp,
) -> Result<KeyPair, IssueError> {
    let key = generate(algorithm)?;
    let not_before = backdated(now).max(signer.not_before);
    let mut params = common_params(not_before, now, validity)?;
    let subject = &spec.subject;
    params.distinguished_name =
        distinguished_name(&subject.common_name, subject.organization.as_deref())?;
    for name in &spec.dns_names {
        params.subject_alt_names.push(dns_name(name)?);
    }
    let ips = spec.ip_addresses.iter().copied();
    params.subject_alt_names.extend(ips.map(SanType::IpAddress));
    params.is_ca = IsCa::NoCa;
    params.custom_extensions = vec![not_a_ca()];
    params.extended_key_usages = spec.usages.iter().map(|usage| purpose(*usage)).collect();
    // As Go does: a CA without subject key identifier leaves nothing to point at.
    params.use_authority_key_identifier_extension = signer.subject_key_id;
    let certificate = params.signed_by(&key, &signer.issuer)?;
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate.der())
        .map_err(|_| rcgen::Error::CouldNotParseCertificate)?;
    if parsed.issuer().as_raw() != signer.subject {
        return Err(IssueError::SignerCertificate(
            "its subject has an encoding that cannot be reproduced",
        ));
    }
    pair(certificate.pem(), &key)
}

/// Basic constraints `CA:FALSE`, critical. rcgen's own `ExplicitNoCa` would add a subject key
/// identifier, which kubeadm's leaves do not have.
fn not_a_ca() -> CustomExtension {
    const EMPTY_SEQUENCE: [u8; 2] = [0x30, 0x00];
    let mut extension = CustomExtension::from_oid_content(&[2, 5, 29, 19], EMPTY_SEQUENCE.to_vec());
    extension.set_criticality(true);
    extension
}

fn purpose(usage: Usage) -> ExtendedKeyUsagePurpose {
    match usage {
        Usage::ServerAuth => ExtendedKeyUsagePurpose::ServerAuth,
        Usage::ClientAuth => ExtendedKeyUsagePurpose::ClientAuth,
    }
}

/// What CAs and leaves have in common. rcgen's defaults (valid from 1975 to 4096, serial number
/// derived from the key) must not survive anywhere.
fn common_params(
    not_before: Timestamp,
    now: Timestamp,
    validity: Duration,
) -> Result<CertificateParams, IssueError> {
    let not_after = SignedDuration::try_from(validity)
        .ok()
        .and_then(|validity| now.checked_add(validity).ok())
        .and_then(date)
        .ok_or(IssueError::Validity(validity))?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(serial_number());
    params.not_before = date(not_before).ok_or(IssueError::Validity(validity))?;
    params.not_after = not_after;
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    Ok(params)
}

fn backdated(now: Timestamp) -> Timestamp {
    now.checked_sub(BACKDATE).unwrap_or(Timestamp::MIN)
}

/// A date of whole seconds, the precision of X.509.
fn date(at: Timestamp) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(at.as_second()).ok()
}

/// Random, from 1 to 2^63 - 2 (kubeadm's range).
fn serial_number() -> SerialNumber {
    let number: u64 = rand::rng().random_range(1..=(1 << 63) - 2);
    SerialNumber::from(number)
}

fn distinguished_name(
    common_name: &str,
    organization: Option<&str>,
) -> Result<DistinguishedName, IssueError> {
    let mut name = DistinguishedName::new();
    // Go's order: the organization comes first.
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, text(organization));
    }
    name.push(DnType::CommonName, text(common_name));
    Ok(name)
}

/// Go's choice of string type: printable where that is possible.
fn text(value: &str) -> DnValue {
    match value.try_into() {
        Ok(printable) => DnValue::PrintableString(printable),
        Err(_) => DnValue::Utf8String(value.to_owned()),
    }
}

fn dns_name(name: &str) -> Result<SanType, IssueError> {
    name.try_into()
        .map(SanType::DnsName)
        .map_err(|_| IssueError::Name(name.to_owned()))
}

fn pair(certificate_pem: String, key: &PrivateKey) -> Result<KeyPair, IssueError> {
    Ok(KeyPair {
        certificate_pem,
        key_pem: key.to_pem()?,
    })
}

fn generate(algorithm: KeyAlgorithm) -> Result<PrivateKey, CryptoError> {
    let rsa = |size| RsaKeyPair::generate(size).map(PrivateKey::Rsa);
    let key = match algorithm {
        KeyAlgorithm::EcdsaP256 => {
            EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map(PrivateKey::P256)
        }
        KeyAlgorithm::EcdsaP384 => {
            EcdsaKeyPair::generate(&ECDSA_P384_SHA384_ASN1_SIGNING).map(PrivateKey::P384)
        }
        KeyAlgorithm::Rsa2048 => rsa(KeySize::Rsa2048),
        KeyAlgorithm::Rsa3072 => rsa(KeySize::Rsa3072),
        KeyAlgorithm::Rsa4096 => rsa(KeySize::Rsa4096),
    };
    GENERATED_KEYS.fetch_add(1, Ordering::Relaxed);
    key.map_err(|_| CryptoError)
}

#[cfg(test)]
mod tests;
