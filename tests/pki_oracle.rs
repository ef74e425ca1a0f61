//! Certificates and keys against the real kubeadm: ours say what its own say, and it takes ours for
//! its own.
//!
//! Compared are subject (encoding included), issuer, names in their order, usages, basic
//! constraints, the set of extensions, length and start of the validity, signature algorithm, kind
//! and size of the key, PEM block types and the set of files. Differences that remain:
//! - serial numbers and keys are random;
//! - how key identifiers are derived from keys depends on kubeadm's Go release;
//! - client certificates in kubeconfigs begin with their CA in kubeadm, five minutes ago in ours.

#![allow(
    clippy::disallowed_methods,
    reason = "kubeadm reads the real clock too"
)]

#[allow(dead_code, reason = "kubeconfigs are compared elsewhere")]
#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/kubeadm_config.rs"]
mod kubeadm_config;
#[path = "testbed/mod.rs"]
mod testbed;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use seedbed::controllers::control_plane::resolve::{Inputs, resolve};
use seedbed::domain::ControlPlane;
use seedbed::pki::{Ca, ClusterPki, KeyPair, Leaf, MachinePki, issue};
use x509_parser::prelude::*;

/// Files by path below the folder of certificates or, for `*.conf`, of kubeconfigs.
type Files = BTreeMap<String, String>;

/// A control plane from the part of its spec that a test is about.
fn control_plane(spec: &str) -> ControlPlane {
    let mut object = serde_json::json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "ControlPlane",
        "metadata": {"name": "prod", "namespace": "clusters"},
        "spec": {
            "version": "v1.37.1",
            "replicas": 1,
            "profile": "Kubeadm",
            "machines": [{"name": "cp-1", "address": "198.18.0.11"}],
            "endpoint": {"host": "api.prod.example.net"},
        },
    });
    let given: serde_json::Value = serde_saphyr::from_str(spec).expect("YAML");
    for (field, value) in given.as_object().expect("fields of the spec") {
        object["spec"][field] = value.clone();
    }
    if object["spec"]["endpoint"].is_null() {
        let spec = object["spec"].as_object_mut().expect("a spec");
        spec.remove("endpoint");
    }
    let object = serde_json::from_value(object).expect("a ControlPlane");
    resolve(&object, &Inputs::default())
        .unwrap_or_else(|problems| panic!("{problems:?}"))
        .control_plane
}

/// Runs a phase of `kubeadm init` with an empty environment: whether it succeeded, and all it said.
fn kubeadm_phase(control_plane: &ControlPlane, phase: &[&str], folder: &Path) -> (bool, String) {
    let kubeadm = testbed::build::program(testbed::Component::Kubernetes, "kubeadm")
        .expect("kubeadm is built");
    let config = folder.join("kubeadm.yaml");
    let machine = &control_plane.machines[0];
    let text = kubeadm_config::kubeadm_config(control_plane, machine);
    std::fs::write(&config, &text).expect("configuration");
    let output = Command::new(kubeadm)
        .env_clear()
        .args(["init", "phase"])
        .args(phase)
        .arg("--config")
        .arg(&config)
        .output()
        .expect("kubeadm runs");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), format!("{said}\n{text}"))
}

fn read(root: &Path, folder: &Path, files: &mut Files) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            read(root, &path, files);
        } else {
            let name = path.strip_prefix(root).expect("below the root");
            let name = name.to_str().expect("UTF-8").to_owned();
            files.insert(name, std::fs::read_to_string(&path).expect("text"));
        }
    }
}

/// What kubeadm makes: certificates, and kubeconfigs reduced to their client pairs.
fn kubeadms(control_plane: &ControlPlane) -> Files {
    let scratch = tempfile::tempdir().expect("a folder");
    let pki = scratch.path().join("pki");
    let kubeconfigs = scratch.path().join("kubeconfigs");
    let mut control_plane = control_plane.clone();
    control_plane.certificates_dir = pki.to_str().expect("UTF-8").to_owned();
    let folder = kubeconfigs.to_str().expect("UTF-8");
    for phase in [
        &["certs", "all"][..],
        &["kubeconfig", "all", "--kubeconfig-dir", folder],
    ] {
        let (made, said) = kubeadm_phase(&control_plane, phase, scratch.path());
        assert!(made, "{said}");
    }
    let (mut files, mut confs) = (Files::new(), Files::new());
    read(&pki, &pki, &mut files);
    read(&kubeconfigs, &kubeconfigs, &mut confs);
    for (name, text) in confs {
        let (certificate, key) = client_pair(&text);
        let name = name.strip_suffix(".conf").expect("a kubeconfig");
        files.insert(format!("{name}.conf.crt"), certificate);
        files.insert(format!("{name}.conf.key"), key);
    }
    files
}

fn client_pair(kubeconfig: &str) -> (String, String) {
    use base64::Engine as _;
    let value: serde_json::Value = serde_saphyr::from_str(kubeconfig).expect("YAML");
    let user = &value["users"][0]["user"];
    let decode = |field: &str| {
        let text = user[field].as_str().expect("embedded data");
        let bytes = base64::engine::general_purpose::STANDARD.decode(text);
        String::from_utf8(bytes.expect("base64")).expect("PEM")
    };
    (decode("client-certificate-data"), decode("client-key-data"))
}

/// Where kubeadm keeps a leaf.
fn base_name(leaf: Leaf) -> &'static str {
    match leaf {
        Leaf::ApiServer => "apiserver",
        Leaf::ApiServerKubeletClient => "apiserver-kubelet-client",
        Leaf::ApiServerEtcdClient => "apiserver-etcd-client",
        Leaf::FrontProxyClient => "front-proxy-client",
        Leaf::EtcdServer => "etcd/server",
        Leaf::EtcdPeer => "etcd/peer",
        Leaf::EtcdHealthcheckClient => "etcd/healthcheck-client",
        Leaf::AdminKubeconfig => "admin.conf",
        Leaf::SuperAdminKubeconfig => "super-admin.conf",
        Leaf::ControllerManagerKubeconfig => "controller-manager.conf",
        Leaf::SchedulerKubeconfig => "scheduler.conf",
        Leaf::KubeletKubeconfig => "kubelet.conf",
    }
}

fn issued(control_plane: &ControlPlane) -> (ClusterPki, MachinePki) {
    let (cluster, mut machines) =
        issue::issue_control_plane(control_plane, Timestamp::now()).expect("issued");
    let machine = machines.remove(&control_plane.machines[0].name);
    (cluster, machine.expect("the first machine"))
}

fn ours(cluster: &ClusterPki, machine: &MachinePki) -> Files {
    let mut files = Files::new();
    let mut add = |name: &str, pair: &KeyPair| {
        files.insert(format!("{name}.crt"), pair.certificate_pem.clone());
        files.insert(format!("{name}.key"), pair.key_pem.to_string());
    };
    add("ca", cluster.ca(Ca::Cluster).unwrap());
    add("etcd/ca", cluster.ca(Ca::Etcd).unwrap());
    add("front-proxy-ca", cluster.ca(Ca::FrontProxy).unwrap());
    for (leaf, pair) in machine {
        add(base_name(*leaf), pair);
    }
    let keys = &cluster.service_account;
    files.insert("sa.pub".to_owned(), keys.public_pem.clone());
    files.insert("sa.key".to_owned(), keys.private_pem.to_string());
    files
}

/// A certificate's subject and issuer in DER.
fn names(pem: &str) -> (Vec<u8>, Vec<u8>) {
    let (_, block) = parse_x509_pem(pem.as_bytes()).expect("a PEM block");
    let certificate = block.parse_x509().expect("a certificate");
    let raw = |name: &X509Name<'_>| name.as_raw().to_vec();
    (raw(certificate.subject()), raw(certificate.issuer()))
}

/// When a certificate begins to be valid, and for how many seconds.
fn validity(pem: &str) -> (Timestamp, i64) {
    let (_, block) = parse_x509_pem(pem.as_bytes()).expect("a PEM block");
    let certificate = block.parse_x509().expect("a certificate");
    let from = certificate.validity().not_before.timestamp();
    let length = certificate.validity().not_after.timestamp() - from;
    (Timestamp::from_second(from).expect("a date"), length)
}

/// Makes both sets and compares them.
fn compare(spec: &str) {
    let control_plane = control_plane(spec);
    let began = Timestamp::now();
    let kubeadms = kubeadms(&control_plane);
    let (cluster, machine) = issued(&control_plane);
    let ended = Timestamp::now();
    let ours = ours(&cluster, &machine);
    let names_of = |files: &Files| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names_of(&ours), names_of(&kubeadms), "the set of files");
    assert_eq!(ours.len(), 22 + 2 * 5);
    for (name, theirs) in &kubeadms {
        let own = &ours[name];
        let label = certificates::pem_label(own);
        assert_eq!(label, certificates::pem_label(theirs), "{name}");
        if !name.ends_with(".crt") {
            continue;
        }
        assert_eq!(names(own), names(theirs), "subject and issuer of {name}");
        let mut words = [own, theirs].map(|pem| certificates::certificate(pem));
        let [our_validity, their_validity] = [own, theirs].map(|pem| validity(pem));
        if name.ends_with(".conf.crt") {
            // In kubeconfigs kubeadm takes the CA's notBefore instead of dating back; that is the
            // same within one run, and here a few seconds earlier. Ours are dated back like all.
            assert_eq!(their_validity.0, validity(&kubeadms["ca.crt"]).0, "{name}");
            let longer = their_validity.1 - our_validity.1;
            let took = ended.duration_since(began).as_secs() + 1;
            assert!((0..=took).contains(&longer), "{name}: {longer} s longer");
            for said in &mut words {
                said["validityMinutes"].take();
            }
        } else {
            assert_eq!(our_validity.1, their_validity.1, "seconds of {name}");
            for (from, _) in [our_validity, their_validity] {
                let made = from + issue::BACKDATE;
                // Certificates know whole seconds only.
                assert!(
                    made >= began - SignedDuration::from_secs(1),
                    "{name}: {made}"
                );
                assert!(made <= ended, "{name}: {made}");
            }
        }
        assert_eq!(words[0], words[1], "{name} of {spec}");
    }
}

/// Puts files where kubeadm will look for them.
fn write(control_plane: &mut ControlPlane, files: &Files, folder: &Path) -> PathBuf {
    let pki = folder.join("pki");
    for (name, text) in files {
        let path = pki.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        std::fs::write(path, text).expect("written");
    }
    control_plane.certificates_dir = pki.to_str().expect("UTF-8").to_owned();
    pki
}

/// Has kubeadm find our files, which it must keep.
fn adopt(spec: &str) {
    let mut control_plane = control_plane(spec);
    let (cluster, machine) = issued(&control_plane);
    let scratch = tempfile::tempdir().expect("a folder");
    let files: Files = ours(&cluster, &machine)
        .into_iter()
        .filter(|(name, _)| !name.contains(".conf."))
        .collect();
    let pki = write(&mut control_plane, &files, scratch.path());
    let (accepted, said) = kubeadm_phase(&control_plane, &["certs", "all"], scratch.path());
    assert!(accepted, "{said}");
    assert!(!said.contains("Generating"), "{said}");
    assert!(!said.to_lowercase().contains("warning"), "{said}");
    let existing = said.to_lowercase().matches("using existing").count();
    assert_eq!(existing, 10, "{said}");
    assert!(said.contains("Using the existing \"sa\" key"), "{said}");
    let mut after = Files::new();
    read(&pki, &pki, &mut after);
    assert_eq!(after, files);
}

const NAMES: &str = "
certificates: {keyAlgorithm: ECDSA-P256}
apiServer:
  certSANs: [API.Example.net, '*.apps.example.net', 203.0.113.7, '2001:DB8::0:1', cp-1, 198.18.0.11, zz.example, aa.example]
etcd:
  serverCertSANs: [etcd.example.net, 203.0.113.8, 127.0.0.1, localhost]
  peerCertSANs: [peer.example.net, '2001:db8::2']
";

#[test]
fn rsa_2048() {
    compare("certificates: {keyAlgorithm: RSA-2048}");
    adopt("certificates: {keyAlgorithm: RSA-2048}");
}

#[test]
fn ecdsa_p256_is_the_default() {
    compare("{}");
    adopt("{}");
}

#[test]
fn ecdsa_p384() {
    compare("certificates: {keyAlgorithm: ECDSA-P384}");
    adopt("certificates: {keyAlgorithm: ECDSA-P384}");
}

#[test]
fn names_of_every_kind() {
    compare(NAMES);
    adopt(NAMES);
}

#[test]
fn another_domain_and_another_service_range() {
    let spec = "network: {serviceCIDRs: [172.20.0.0/16], dnsDomain: corp.example}";
    compare(spec);
    adopt(spec);
}

#[test]
fn an_endpoint_that_is_an_address() {
    compare("endpoint: {host: 198.18.0.100, port: 8443}");
}

#[test]
fn no_endpoint_and_a_machine_with_dots_in_its_name() {
    let spec = "endpoint: null\nmachines: [{name: cp-1.rack-a.example.net, address: 198.18.0.11}]";
    compare(spec);
    adopt(spec);
}

#[test]
fn other_validities() {
    compare("certificates: {leafValidity: 100h, caValidity: 438000h}");
}

/// Were kubeadm to accept everything, adoption would prove nothing.
#[test]
fn kubeadm_refuses_leaves_of_another_ca() {
    let mut control_plane = control_plane("{}");
    let (mut cluster, machine) = issued(&control_plane);
    let (other, _) = issued(&control_plane);
    cluster.ca = other.ca;
    let scratch = tempfile::tempdir().expect("a folder");
    write(
        &mut control_plane,
        &ours(&cluster, &machine),
        scratch.path(),
    );
    let (accepted, said) = kubeadm_phase(&control_plane, &["certs", "all"], scratch.path());
    assert!(!accepted && said.contains("apiserver"), "{said}");
}
