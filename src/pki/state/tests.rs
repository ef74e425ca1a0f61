use std::sync::OnceLock;
use std::time::Duration;

use proptest::prelude::*;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa};

use super::*;
use crate::crd::KeyAlgorithm;
use crate::pki::fixture::control_plane;
use crate::pki::issue;
use crate::pki::problem::Defect;

const YEAR: Duration = Duration::from_secs(8760 * 3600);

fn now() -> Timestamp {
    "2026-05-04T03:02:01Z".parse().unwrap()
}

fn new_ca(id: Ca, algorithm: KeyAlgorithm) -> KeyPair {
    issue::issue_ca(id, algorithm, YEAR, now()).unwrap()
}

fn data<const N: usize>(entries: [(&str, &str); N]) -> SecretData {
    let bytes = |(key, value): (&str, &str)| (key.to_owned(), ByteString(value.into()));
    entries.into_iter().map(bytes).collect()
}

fn defect(data: &SecretData) -> Defect {
    let problem = ca("prod-ca", data).unwrap_err();
    assert_eq!(problem.secret, "prod-ca");
    let text = problem.to_string();
    assert!(
        text.contains("prod-ca") && text.contains(&problem.key),
        "{text}"
    );
    problem.defect
}

/// A CA as other tools make it: PKCS#8 key, subject of choice.
fn foreign_ca(
    algorithm: &'static rcgen::SignatureAlgorithm,
    change: impl FnOnce(&mut CertificateParams),
) -> (String, String) {
    let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    change(&mut params);
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[test]
fn what_was_issued_is_read_back() {
    let cp = control_plane(3);
    let (cluster, machines) = issue::issue_control_plane(&cp, now()).unwrap();
    let secrets = Secrets {
        cas: Ca::ALL
            .map(|id| (id, ca_data(cluster.ca(id).unwrap())))
            .into(),
        service_account: Some(service_account_data(&cluster.service_account)),
        machines: machines
            .iter()
            .map(|(name, pki)| (name.clone(), machine_data(pki)))
            .collect(),
        kubeconfig: None,
        etcd_ca_secret: None,
    };
    let state = PkiState::read("prod", &secrets);
    let read = state.cluster().unwrap();
    for id in Ca::ALL {
        assert_eq!(
            read.ca(id).unwrap().key_pem,
            cluster.ca(id).unwrap().key_pem
        );
        assert_eq!(
            read.ca(id).unwrap().certificate_pem,
            cluster.ca(id).unwrap().certificate_pem
        );
    }
    assert_eq!(
        read.service_account.private_pem,
        cluster.service_account.private_pem
    );
    let name = &cp.machines[1].name;
    let wanted = [Leaf::ApiServer, Leaf::EtcdPeer];
    let machine = state.machine(name, &wanted).unwrap();
    assert!(machine.keys().eq(&wanted));
    assert_eq!(
        machine[&Leaf::ApiServer].key_pem,
        machines[name][&Leaf::ApiServer].key_pem
    );
    assert!(state.machine(name, &[Leaf::SuperAdminKubeconfig]).is_none());
    let expiries = state.expiries(&cp.machines);
    assert_eq!(expiries.len(), 3 + 27);
    assert_eq!(
        expiries["prod-cp-1-certs/etcd-server.crt"],
        now() + jiff::SignedDuration::try_from(YEAR).unwrap()
    );
    assert!(expiries.contains_key("prod-etcd/tls.crt"));
}

#[test]
fn every_form_of_key_is_adopted_as_it_came() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
        &rcgen::PKCS_RSA_SHA256,
    ] {
        let (certificate, key) = foreign_ca(algorithm, |_| {});
        assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));
        let pair = ca(
            "prod-ca",
            &data([("tls.crt", &certificate), ("tls.key", &key)]),
        )
        .unwrap();
        assert_eq!(*pair.key_pem, key);
        issue::issue_leaf(
            &crate::pki::inventory::cluster_admin(),
            &pair,
            KeyAlgorithm::EcdsaP256,
            YEAR,
            now(),
        )
        .unwrap();
    }
    // `openssl ecparam -genkey` writes the curve first.
    let own = new_ca(Ca::Cluster, KeyAlgorithm::EcdsaP256);
    let key = format!(
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{}",
        *own.key_pem
    );
    ca(
        "prod-ca",
        &data([("tls.crt", &own.certificate_pem), ("tls.key", &key)]),
    )
    .unwrap();
}

#[test]
fn a_bundle_starts_with_the_cas_own_certificate() {
    let own = new_ca(Ca::Cluster, KeyAlgorithm::EcdsaP256);
    let root = new_ca(Ca::Cluster, KeyAlgorithm::EcdsaP256).certificate_pem;
    let own_first = format!("# ours\n{}{root}", own.certificate_pem);
    let pair = ca(
        "prod-ca",
        &data([("tls.crt", &own_first), ("tls.key", &own.key_pem)]),
    )
    .unwrap();
    assert_eq!(pair.certificate_pem, own_first);
    let own_last = format!("{root}{}", own.certificate_pem);
    assert_eq!(
        defect(&data([("tls.crt", &own_last), ("tls.key", &own.key_pem)])),
        Defect::OwnCertificateNotFirst
    );
}

#[test]
fn defective_cas_are_named_and_never_shown() {
    let own = new_ca(Ca::Cluster, KeyAlgorithm::EcdsaP256);
    let other = new_ca(Ca::Cluster, KeyAlgorithm::EcdsaP256);
    let (crt, key) = (own.certificate_pem.as_str(), own.key_pem.as_str());
    let half = |crt, key| defect(&data([("tls.crt", crt), ("tls.key", key)]));
    assert_eq!(defect(&data([])), Defect::MissingKey);
    assert_eq!(defect(&data([("tls.key", key)])), Defect::MissingKey);
    assert_eq!(defect(&data([("tls.crt", crt)])), Defect::ExternalCa);
    assert!(Defect::ExternalCa.is_not_supported_yet());
    assert_eq!(half("", key), Defect::NotACertificate);
    assert_eq!(half(key, key), Defect::NotACertificate);
    assert_eq!(half(crt, crt), Defect::PrivateKey(KeyError::NotPem));
    assert_eq!(
        half(crt, &other.key_pem),
        Defect::OtherPair("tls.key".to_owned())
    );
    let (ed_crt, ed_key) = foreign_ca(&rcgen::PKCS_ED25519, |_| {});
    assert_eq!(
        half(&ed_crt, &ed_key),
        Defect::PrivateKey(KeyError::Unsupported)
    );
    let (leaf_crt, leaf_key) = foreign_ca(&rcgen::PKCS_ECDSA_P256_SHA256, |p| p.is_ca = IsCa::NoCa);
    assert_eq!(half(&leaf_crt, &leaf_key), Defect::NotACa);
    let (crl_crt, crl_key) = foreign_ca(&rcgen::PKCS_ECDSA_P256_SHA256, |p| {
        p.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
    });
    assert_eq!(half(&crl_crt, &crl_key), Defect::NotACa);
}

#[test]
fn a_subject_that_a_leaf_cannot_repeat_is_not_supported_yet() {
    let name = |parts: &[&str]| {
        let component = |part: &&str| {
            // One relative name: SET { SEQUENCE { domainComponent, IA5String } }.
            let mut value = vec![0x16, part.len() as u8];
            value.extend_from_slice(part.as_bytes());
            let mut attribute = vec![
                0x06, 0x0a, 0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19,
            ];
            attribute.extend(value);
            let mut sequence = vec![0x30, attribute.len() as u8];
            sequence.extend(attribute);
            let mut set = vec![0x31, sequence.len() as u8];
            set.extend(sequence);
            set
        };
        let inner: Vec<u8> = parts.iter().flat_map(component).collect();
        let mut der = vec![0x30, inner.len() as u8];
        der.extend(inner);
        der
    };
    let plain = |der: &[u8]| {
        use x509_parser::prelude::FromDer;
        let (_, name) = x509_parser::x509::X509Name::from_der(der).unwrap();
        crate::pki::certificate::is_plain(&name)
    };
    assert!(plain(&name(&["example"])));
    assert!(!plain(&name(&["example", "net"])));
    let (crt, key) = foreign_ca(&rcgen::PKCS_ECDSA_P256_SHA256, |p| {
        p.distinguished_name
            .push(DnType::OrganizationName, "Example");
        p.distinguished_name.push(DnType::CountryName, "CH");
    });
    ca("prod-ca", &data([("tls.crt", &crt), ("tls.key", &key)])).unwrap();
}

#[test]
fn service_account_keys_must_be_a_pair() {
    let keys = issue::issue_service_account(KeyAlgorithm::Rsa2048).unwrap();
    let other = issue::issue_service_account(KeyAlgorithm::EcdsaP256).unwrap();
    let read = |public: &str, private: &str| {
        service_account(
            "prod-sa",
            &data([("tls.crt", public), ("tls.key", private)]),
        )
        .map(|keys| keys.public_pem)
        .map_err(|problem| problem.defect)
    };
    assert_eq!(
        read(&keys.public_pem, &keys.private_pem).unwrap(),
        keys.public_pem
    );
    assert_eq!(
        read(&other.public_pem, &keys.private_pem),
        Err(Defect::OtherPair("tls.key".to_owned()))
    );
    assert_eq!(
        read("nonsense", &keys.private_pem),
        Err(Defect::NotAPublicKey)
    );
    assert_eq!(
        read(&keys.public_pem, &keys.public_pem),
        Err(Defect::PrivateKey(KeyError::NotPem))
    );
}

#[test]
fn nothing_shows_a_key() {
    let cp = control_plane(1);
    let (cluster, machines) = issue::issue_control_plane(&cp, now()).unwrap();
    let secrets = Secrets {
        cas: Ca::ALL
            .map(|id| (id, ca_data(cluster.ca(id).unwrap())))
            .into(),
        service_account: Some(service_account_data(&cluster.service_account)),
        machines: machines
            .iter()
            .map(|(name, pki)| (name.clone(), machine_data(pki)))
            .collect(),
        kubeconfig: None,
        etcd_ca_secret: None,
    };
    let shown = format!(
        "{secrets:?} {:?} {cluster:?} {machines:?}",
        PkiState::read("prod", &secrets)
    );
    assert!(!shown.contains("PRIVATE KEY"));
    let key = cluster.ca.key_pem.lines().nth(1).unwrap();
    assert!(!shown.contains(key));
}

/// A sound pair to damage, in DER.
fn sample() -> &'static (Vec<u8>, String) {
    static SAMPLE: OnceLock<(Vec<u8>, String)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        use rustls::pki_types::CertificateDer;
        let cp = control_plane(1);
        let (_, machines) = issue::issue_control_plane(&cp, now()).unwrap();
        let pair = &machines[&cp.machines[0].name][&Leaf::ApiServer];
        let der = CertificateDer::from_pem_slice(pair.certificate_pem.as_bytes()).unwrap();
        (der.to_vec(), pair.key_pem.to_string())
    })
}

fn read_everything(secret: &SecretData) {
    let cp = control_plane(1);
    let name = cp.machines[0].name.clone();
    let state = PkiState::read(
        "prod",
        &Secrets {
            cas: Ca::ALL.map(|id| (id, secret.clone())).into(),
            service_account: Some(secret.clone()),
            machines: [(name, secret.clone())].into(),
            kubeconfig: Some(secret.clone()),
            etcd_ca_secret: None,
        },
    );
    state.expiries(&cp.machines);
    for founded in [false, true] {
        crate::pki::plan::plan(&cp, &state, founded, now()).unwrap();
    }
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    pkcs8::der::pem::encode_string(label, pkcs8::LineEnding::LF, der)
        .unwrap()
        .into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_never_panic(
        crt in proptest::collection::vec(any::<u8>(), 0..300),
        key in proptest::collection::vec(any::<u8>(), 0..300),
        label in prop_oneof![
            Just("CERTIFICATE"), Just("PUBLIC KEY"), Just("PRIVATE KEY"),
            Just("EC PRIVATE KEY"), Just("RSA PRIVATE KEY"),
        ],
        wrap: bool,
    ) {
        let [crt, key] = if wrap {
            [pem("CERTIFICATE", &crt), pem(label, &key)]
        } else {
            [crt, key]
        };
        let entries = [
            ("tls.crt", &crt), ("tls.key", &key), ("apiserver.crt", &crt),
            ("apiserver.key", &key), ("value", &crt),
        ];
        let bytes = |(name, value): (&str, &Vec<u8>)| (name.to_owned(), ByteString(value.clone()));
        read_everything(&entries.into_iter().map(bytes).collect());
    }

    #[test]
    fn damaged_certificates_never_panic(
        damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<Option<prop::sample::Index>>(),
    ) {
        let (der, key) = sample();
        let mut der = der.clone();
        for (at, value) in damage {
            let at = at.index(der.len());
            der[at] = value;
        }
        if let Some(cut) = cut {
            der.truncate(cut.index(der.len()));
        }
        let crt = ByteString(pem("CERTIFICATE", &der));
        let key = ByteString(key.clone().into_bytes());
        let entries = [
            ("tls.crt", &crt), ("tls.key", &key), ("apiserver.crt", &crt), ("apiserver.key", &key),
        ];
        let owned = |(name, value): (&str, &ByteString)| (name.to_owned(), value.clone());
        read_everything(&entries.into_iter().map(owned).collect());
    }
}
