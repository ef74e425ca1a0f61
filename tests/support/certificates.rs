//! Certificates and kubeconfigs as values to compare: what they say, not their bytes.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use x509_parser::prelude::*;

/// What a PEM text says. Serial, key and key identifiers differ from one issue to the next and are
/// left out; the validity is given as a length, in minutes because kubeadm reads the clock twice.
pub fn certificate(pem: &str) -> Value {
    let (rest, block) = parse_x509_pem(pem.as_bytes()).expect("a PEM block");
    assert!(
        rest.iter().all(u8::is_ascii_whitespace),
        "one certificate, nothing behind it"
    );
    assert_eq!(block.label, "CERTIFICATE");
    let certificate = block.parse_x509().expect("an X.509 certificate");
    let validity = certificate.validity();
    let constraints = certificate.basic_constraints().expect("well-formed");
    let usage = certificate.key_usage().expect("well-formed");
    json!({
        "subject": certificate.subject().to_string(),
        "issuer": certificate.issuer().to_string(),
        "version": certificate.version().0,
        "signature": certificate.signature_algorithm.algorithm.to_id_string(),
        "key": key_kind(&certificate),
        "validityMinutes": minutes(validity),
        "basicConstraints": constraints.map(|c| json!({
            "critical": c.critical,
            "ca": c.value.ca,
            "pathLength": c.value.path_len_constraint,
        })),
        "keyUsage": usage.map(|u| json!({
            "critical": u.critical,
            "bits": u.value.to_string(),
        })),
        "extendedKeyUsage": extended_key_usage(&certificate),
        "names": names(&certificate),
        "extensions": extensions(&certificate),
    })
}

fn minutes(validity: &Validity) -> i64 {
    let seconds = validity.not_after.timestamp() - validity.not_before.timestamp();
    (seconds + 30) / 60
}

/// The label of a PEM block that holds a key: `EC PRIVATE KEY`, `RSA PRIVATE KEY`, `PUBLIC KEY`.
pub fn pem_label(pem: &str) -> String {
    let (_, block) = parse_x509_pem(pem.as_bytes()).expect("a PEM block");
    block.label
}

/// A kubeconfig with its embedded certificates read and its key replaced by its kind.
pub fn kubeconfig(text: &str) -> Value {
    let mut value: Value = serde_saphyr::from_str(text).expect("YAML");
    let decode = |value: &Value| {
        let bytes = STANDARD
            .decode(value.as_str().expect("text"))
            .expect("base64");
        String::from_utf8(bytes).expect("PEM is text")
    };
    for cluster in value["clusters"].as_array_mut().expect("clusters") {
        let data = &mut cluster["cluster"]["certificate-authority-data"];
        *data = certificate(&decode(data));
    }
    for user in value["users"].as_array_mut().expect("users") {
        let data = &mut user["user"]["client-certificate-data"];
        *data = certificate(&decode(data));
        let key = &mut user["user"]["client-key-data"];
        *key = pem_label(&decode(key)).into();
    }
    value
}

fn key_kind(certificate: &X509Certificate<'_>) -> String {
    match certificate.public_key().parsed().expect("a known key") {
        x509_parser::public_key::PublicKey::RSA(key) => format!("RSA {}", key.key_size()),
        x509_parser::public_key::PublicKey::EC(point) => format!("ECDSA {}", point.key_size()),
        other => panic!("a key of an unexpected kind: {other:?}"),
    }
}

fn extended_key_usage(certificate: &X509Certificate<'_>) -> Value {
    match certificate.extended_key_usage().expect("well-formed") {
        None => Value::Null,
        Some(usage) => json!({
            "critical": usage.critical,
            "serverAuth": usage.value.server_auth,
            "clientAuth": usage.value.client_auth,
            "others": usage.value.any || !usage.value.other.is_empty(),
        }),
    }
}

fn names(certificate: &X509Certificate<'_>) -> Value {
    match certificate.subject_alternative_name().expect("well-formed") {
        None => Value::Null,
        // In their order: kubeadm sorts the DNS names and keeps the order of the addresses.
        Some(names) => json!({
            "critical": names.critical,
            "names": names.value.general_names.iter().map(ToString::to_string).collect::<Vec<_>>(),
        }),
    }
}

/// Which extensions there are; a set, as their order says nothing.
fn extensions(certificate: &X509Certificate<'_>) -> Vec<String> {
    let mut all: Vec<String> = certificate
        .extensions()
        .iter()
        .map(|extension| extension.oid.to_id_string())
        .collect();
    all.sort();
    all
}
