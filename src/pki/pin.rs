//! Pins of CA certificates, by which a machine recognises the cluster that it joins.

use std::fmt::Write as _;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use sha2::{Digest, Sha256};
use x509_parser::prelude::{FromDer, X509Certificate};

/// `sha256:` and the hash of the public key (SubjectPublicKeyInfo) of each certificate of a PEM
/// bundle, in its order (kubeadm `pubkeypin.Hash`). `None` without a certificate, or with anything
/// else in it.
pub fn certificate_pins(pem: &[u8]) -> Option<Vec<String>> {
    let pins: Option<Vec<String>> = CertificateDer::pem_slice_iter(pem)
        .map(|der| {
            let der = der.ok()?;
            let (_, certificate) = X509Certificate::from_der(&der).ok()?;
            let hash = Sha256::digest(certificate.public_key().raw);
            let mut pin = "sha256:".to_owned();
            for byte in &hash {
                let _ = write!(pin, "{byte:02x}");
            }
            Some(pin)
        })
        .collect();
    pins.filter(|pins| !pins.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crd::KeyAlgorithm;
    use crate::pki::{Ca, issue};

    #[test]
    fn every_certificate_of_a_bundle_is_pinned() {
        let ca = || {
            let (validity, now) = (
                std::time::Duration::from_secs(3600),
                jiff::Timestamp::UNIX_EPOCH,
            );
            let ca = issue::issue_ca(Ca::Cluster, KeyAlgorithm::EcdsaP256, validity, now);
            ca.unwrap().certificate_pem
        };
        let (first, second) = (ca(), ca());
        let pins = certificate_pins(format!("{first}{second}").as_bytes()).unwrap();
        assert_eq!(pins[0], certificate_pins(first.as_bytes()).unwrap()[0]);
        assert_eq!(pins[1], certificate_pins(second.as_bytes()).unwrap()[0]);
        assert_ne!(pins[0], pins[1]);
        assert_eq!(pins[0].len(), "sha256:".len() + 64);
        assert_eq!(certificate_pins(b""), None);
        assert_eq!(certificate_pins(b"no certificate"), None);
    }
}
