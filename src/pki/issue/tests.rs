use std::net::IpAddr;

use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::*;

use super::*;
use crate::pki::fixture::control_plane;
use crate::pki::{Subject, inventory};

const YEAR: Duration = Duration::from_secs(8760 * 3600);

fn now() -> Timestamp {
    "2026-05-04T03:02:01.987654321Z".parse().unwrap()
}

fn der(pair: &KeyPair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.certificate_pem.as_bytes()).unwrap()
}

fn parse(der: &[u8]) -> X509Certificate<'_> {
    let (rest, certificate) = X509Certificate::from_der(der).unwrap();
    assert!(rest.is_empty());
    certificate
}

fn key_label(pair: &KeyPair) -> &str {
    pair.key_pem.lines().next().unwrap()
}

fn key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .extensions()
        .iter()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
            _ => None,
        })
}

fn authority_key_id(certificate: &X509Certificate<'_>) -> Option<Vec<u8>> {
    certificate
        .extensions()
        .iter()
        .find_map(|e| match e.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => {
                id.key_identifier.as_ref().map(|id| id.0.to_vec())
            }
            _ => None,
        })
}

fn common_checks(certificate: &X509Certificate<'_>, validity: Duration) {
    let serial = certificate.tbs_certificate.serial.clone();
    assert!(serial >= 1u8.into() && serial <= ((1u64 << 63) - 2).into());
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
    assert_eq!(
        certificate.validity().not_before.timestamp(),
        at("2026-05-04T02:57:01Z")
    );
    assert_eq!(
        certificate.validity().not_after.timestamp(),
        at("2026-05-04T03:02:01Z") + validity.as_secs() as i64
    );
    assert!(certificate.basic_constraints().unwrap().unwrap().critical);
    assert!(certificate.key_usage().unwrap().unwrap().critical);
}

/// A leaf says exactly what its spec says, and chains to its CA.
fn check_leaf(pair: &KeyPair, spec: &CertSpec, ca: &KeyPair, validity: Duration) {
    let (der, ca_der) = (der(pair), der(ca));
    let (leaf, ca) = (parse(&der), parse(&ca_der));
    common_checks(&leaf, validity);
    let one = |value: Option<&AttributeTypeAndValue<'_>>| {
        value.map(|value| value.as_str().unwrap().to_owned())
    };
    let subject = Subject {
        common_name: one(leaf.subject().iter_common_name().next()).unwrap(),
        organization: one(leaf.subject().iter_organization().next()),
    };
    assert_eq!(subject, spec.subject);
    let (mut dns, mut ips) = (Vec::new(), Vec::new());
    if let Some(names) = leaf.subject_alternative_name().unwrap() {
        assert!(!names.critical);
        for name in &names.value.general_names {
            match name {
                GeneralName::DNSName(name) => dns.push((*name).to_owned()),
                GeneralName::IPAddress(bytes) => ips.push(match bytes.len() {
                    4 => IpAddr::from(<[u8; 4]>::try_from(*bytes).unwrap()),
                    _ => IpAddr::from(<[u8; 16]>::try_from(*bytes).unwrap()),
                }),
                other => panic!("unexpected name {other:?}"),
            }
        }
    }
    assert_eq!(dns, spec.dns_names);
    assert_eq!(ips, spec.ip_addresses);
    let usage = leaf.extended_key_usage().unwrap().unwrap();
    assert!(!usage.critical);
    assert_eq!(
        usage.value.server_auth,
        spec.usages.contains(&Usage::ServerAuth)
    );
    assert_eq!(
        usage.value.client_auth,
        spec.usages.contains(&Usage::ClientAuth)
    );
    let flags = leaf.key_usage().unwrap().unwrap().value.flags;
    assert_eq!(flags, 0b101, "digitalSignature and keyEncipherment");
    assert!(!leaf.is_ca());
    assert_eq!(key_id(&leaf), None);
    assert_eq!(authority_key_id(&leaf), key_id(&ca));
    assert_eq!(leaf.issuer().as_raw(), ca.subject().as_raw());
    leaf.verify_signature(Some(ca.public_key())).unwrap();
}

#[test]
fn a_ca_has_kubeadms_fields_under_every_algorithm() {
    for (algorithm, label, bits, signature) in [
        (KeyAlgorithm::EcdsaP256, "EC", 256, "1.2.840.10045.4.3.2"),
        (KeyAlgorithm::EcdsaP384, "EC", 384, "1.2.840.10045.4.3.3"),
        (KeyAlgorithm::Rsa2048, "RSA", 2048, "1.2.840.113549.1.1.11"),
        (KeyAlgorithm::Rsa3072, "RSA", 3072, "1.2.840.113549.1.1.11"),
        (KeyAlgorithm::Rsa4096, "RSA", 4096, "1.2.840.113549.1.1.11"),
    ] {
        let pair = issue_ca(Ca::Etcd, algorithm, 10 * YEAR, now()).unwrap();
        assert_eq!(
            key_label(&pair),
            format!("-----BEGIN {label} PRIVATE KEY-----")
        );
        let der = der(&pair);
        let ca = parse(&der);
        common_checks(&ca, 10 * YEAR);
        assert_eq!(ca.public_key().parsed().unwrap().key_size(), bits);
        assert!(ca.is_ca());
        assert_eq!(ca.subject().to_string(), "CN=etcd-ca");
        let names = ca.subject_alternative_name().unwrap().unwrap();
        assert_eq!(names.value.general_names, [GeneralName::DNSName("etcd-ca")]);
        let flags = ca.key_usage().unwrap().unwrap().value.flags;
        assert_eq!(flags, 0b10_0101, "and keyCertSign, no cRLSign");
        assert!(ca.extended_key_usage().unwrap().is_none());
        assert!(key_id(&ca).is_some());
        assert_eq!(authority_key_id(&ca), None);
        assert_eq!(ca.signature_algorithm.algorithm.to_id_string(), signature);
        ca.verify_signature(None).unwrap();
    }
}

#[test]
fn every_leaf_of_every_machine_parses_back_to_its_spec() {
    let mut cp = control_plane(3);
    cp.profile = crate::domain::Profile::Kubeadm;
    let (cluster, machines) = issue_control_plane(&cp, now()).unwrap();
    for machine in &cp.machines {
        let specs = inventory::machine_leaves(&cp, machine).unwrap();
        let pki = &machines[&machine.name];
        assert!(pki.keys().eq(specs.keys()));
        for (leaf, spec) in &specs {
            check_leaf(
                &pki[leaf],
                spec,
                cluster.ca(spec.signer).unwrap(),
                cp.leaf_validity,
            );
        }
    }
}

#[test]
fn a_leaf_may_have_another_algorithm_than_its_ca() {
    let spec = inventory::cluster_admin();
    for (ca, leaf) in [
        (KeyAlgorithm::Rsa2048, KeyAlgorithm::EcdsaP256),
        (KeyAlgorithm::EcdsaP384, KeyAlgorithm::Rsa2048),
        (KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384),
    ] {
        let ca = issue_ca(Ca::Cluster, ca, YEAR, now()).unwrap();
        let pair = issue_leaf(&spec, &ca, leaf, YEAR, now()).unwrap();
        check_leaf(&pair, &spec, &ca, YEAR);
    }
}

#[test]
fn a_leaf_is_not_valid_before_its_ca() {
    let ca = issue_ca(Ca::Etcd, KeyAlgorithm::EcdsaP256, YEAR, now()).unwrap();
    let earlier = now() - SignedDuration::from_hours(1);
    let spec = inventory::operator_client(inventory::OperatorIdentity::EtcdClient);
    let pair = issue_leaf(&spec, &ca, KeyAlgorithm::EcdsaP256, YEAR, earlier).unwrap();
    let (leaf_der, ca_der) = (der(&pair), der(&ca));
    assert_eq!(
        parse(&leaf_der).validity().not_before,
        parse(&ca_der).validity().not_before
    );
}

#[test]
fn service_account_keys_are_a_pair() {
    for algorithm in [KeyAlgorithm::EcdsaP256, KeyAlgorithm::Rsa2048] {
        let keys = issue_service_account(algorithm).unwrap();
        assert!(keys.public_pem.starts_with("-----BEGIN PUBLIC KEY-----\n"));
        let private = PrivateKey::from_pem(keys.private_pem.as_bytes()).unwrap();
        assert_eq!(private.public_pem().unwrap(), keys.public_pem);
    }
}

#[test]
fn a_key_survives_writing_and_reading() {
    for algorithm in [
        KeyAlgorithm::EcdsaP256,
        KeyAlgorithm::EcdsaP384,
        KeyAlgorithm::Rsa2048,
    ] {
        let pem = generate(algorithm).unwrap().to_pem().unwrap();
        let again = PrivateKey::from_pem(pem.as_bytes()).unwrap();
        assert_eq!(*again.to_pem().unwrap(), *pem);
    }
}

#[test]
fn generated_keys_are_counted() {
    let before = generated_keys();
    issue_service_account(KeyAlgorithm::EcdsaP256).unwrap();
    assert!(generated_keys() > before);
}

#[test]
fn a_name_outside_ascii_and_an_endless_validity_are_errors() {
    let ca = issue_ca(Ca::Cluster, KeyAlgorithm::EcdsaP256, YEAR, now()).unwrap();
    let mut spec = inventory::cluster_admin();
    spec.dns_names = vec!["bücher.example".to_owned()];
    let error = issue_leaf(&spec, &ca, KeyAlgorithm::EcdsaP256, YEAR, now()).unwrap_err();
    assert!(error.to_string().contains("bücher.example"), "{error}");
    let error = issue_ca(Ca::Cluster, KeyAlgorithm::EcdsaP256, Duration::MAX, now()).unwrap_err();
    assert!(matches!(error, IssueError::Validity(_)));
}

#[test]
fn an_unusable_signer_is_an_error_without_its_key() {
    let good = issue_ca(Ca::Cluster, KeyAlgorithm::EcdsaP256, YEAR, now()).unwrap();
    let spec = inventory::cluster_admin();
    let try_with = |certificate_pem: &str, key_pem: &str| {
        let signer = KeyPair {
            certificate_pem: certificate_pem.to_owned(),
            key_pem: key_pem.to_owned().into(),
        };
        issue_leaf(&spec, &signer, KeyAlgorithm::EcdsaP256, YEAR, now()).unwrap_err()
    };
    assert!(matches!(
        try_with("nonsense", &good.key_pem),
        IssueError::SignerCertificate(_)
    ));
    let error = try_with(&good.certificate_pem, "-----BEGIN PRIVATE KEY-----\nsecret");
    assert!(matches!(error, IssueError::SignerKey(KeyError::NotPem)));
    assert!(!error.to_string().contains("secret"));
}
