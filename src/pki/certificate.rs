//! What a stored certificate says, in owned values.

use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::PublicKeyData;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate, X509Name};
use x509_parser::x509::SubjectPublicKeyInfo;

use super::key::PrivateKey;
use super::{CertSpec, Usage};

/// A parsed certificate. Alternative names other than DNS names and IP addresses do not occur in
/// certificates of ours and are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub common_name: String,
    pub organizations: Vec<String>,
    pub dns_names: Vec<String>,
    pub ip_addresses: Vec<IpAddr>,
    /// `serverAuth` and `clientAuth`; others are left out.
    pub usages: Vec<Usage>,
    pub not_before: Timestamp,
    pub not_after: Timestamp,
    /// `CA:TRUE`, and allowed to sign certificates.
    pub signs_certificates: bool,
    /// The key, as in the certificate.
    public_key: Vec<u8>,
    der: CertificateDer<'static>,
}

impl Certificate {
    /// Reads every certificate of a PEM bundle; `None` if one of them is not a certificate.
    pub(super) fn bundle(pem: &[u8]) -> Option<Vec<Self>> {
        CertificateDer::pem_slice_iter(pem)
            .map(|der| Self::from_der(der.ok()?))
            .collect()
    }

    fn from_der(der: CertificateDer<'static>) -> Option<Self> {
        let (rest, parsed) = X509Certificate::from_der(&der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let (mut dns_names, mut ip_addresses) = (Vec::new(), Vec::new());
        if let Some(names) = parsed.subject_alternative_name().ok()? {
            for name in &names.value.general_names {
                match name {
                    GeneralName::DNSName(name) => dns_names.push((*name).to_owned()),
                    GeneralName::IPAddress(bytes) => ip_addresses.push(ip_address(bytes)?),
                    _ => {}
                }
            }
        }
        let mut usages = Vec::new();
        if let Some(usage) = parsed.extended_key_usage().ok()? {
            let pairs = [
                (usage.value.server_auth, Usage::ServerAuth),
                (usage.value.client_auth, Usage::ClientAuth),
            ];
            usages.extend(pairs.into_iter().filter(|(on, _)| *on).map(|(_, u)| u));
        }
        let may_sign = parsed
            .key_usage()
            .ok()?
            .is_none_or(|usage| usage.value.key_cert_sign());
        let at = |time: x509_parser::time::ASN1Time| Timestamp::from_second(time.timestamp()).ok();
        Some(Self {
            common_name: texts(parsed.subject().iter_common_name())
                .into_iter()
                .next()
                .unwrap_or_default(),
            organizations: texts(parsed.subject().iter_organization()),
            dns_names,
            ip_addresses,
            usages,
            not_before: at(parsed.validity().not_before)?,
            not_after: at(parsed.validity().not_after)?,
            signs_certificates: parsed.is_ca() && may_sign,
            public_key: parsed.public_key().subject_public_key.data.to_vec(),
            der,
        })
    }

    /// Whether `key` is the private key of this certificate.
    pub(super) fn belongs_to(&self, key: &PrivateKey) -> bool {
        self.public_key == key.der_bytes()
    }

    /// Whether `ca` signed this certificate.
    pub(super) fn is_signed_by(&self, ca: &Self) -> bool {
        self.with_parsed(|parsed| {
            ca.with_parsed(|ca| {
                parsed.issuer().as_raw() == ca.subject().as_raw()
                    && parsed.verify_signature(Some(ca.public_key())).is_ok()
            })
        })
    }

    /// Whether a leaf's issuer can repeat the subject: rcgen keeps one value of each attribute.
    pub(super) fn subject_can_be_an_issuer(&self) -> bool {
        self.with_parsed(|parsed| is_plain(parsed.subject()))
    }

    /// Whether the certificate says what `spec` asks for, apart from signer and validity.
    pub(super) fn says(&self, spec: &CertSpec) -> bool {
        self.common_name == spec.subject.common_name
            && self.organizations.as_slice() == spec.subject.organization.as_slice()
            && self.dns_names == spec.dns_names
            && self.ip_addresses == spec.ip_addresses
            && self.usages == spec.usages
    }

    fn with_parsed(&self, check: impl FnOnce(&X509Certificate<'_>) -> bool) -> bool {
        X509Certificate::from_der(&self.der).is_ok_and(|(_, parsed)| check(&parsed))
    }
}

/// Whether a `PUBLIC KEY` in DER is the public half of `key`.
pub(super) fn is_public_half(spki_der: &[u8], key: &PrivateKey) -> bool {
    SubjectPublicKeyInfo::from_der(spki_der)
        .is_ok_and(|(_, info)| info.subject_public_key.data.as_ref() == key.der_bytes())
}

/// Whether every part of a name is one attribute, and no attribute comes twice.
pub(super) fn is_plain(name: &X509Name<'_>) -> bool {
    let mut seen = Vec::new();
    name.iter().all(|rdn| {
        let mut attributes = rdn.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return false;
        };
        let new = !seen.contains(attribute.attr_type());
        seen.push(attribute.attr_type().clone());
        new
    })
}

fn texts<'a>(
    attributes: impl Iterator<Item = &'a x509_parser::x509::AttributeTypeAndValue<'a>>,
) -> Vec<String> {
    attributes
        .filter_map(|attribute| attribute.as_str().ok().map(str::to_owned))
        .collect()
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}
