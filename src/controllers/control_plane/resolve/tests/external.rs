//! Etcd that is not on the control plane's own machines.

use super::*;
use crate::domain::{ClientFiles, EtcdCredentials};

fn external(value: Value) -> Vec<(&'static str, Value)> {
    vec![("/spec/etcd", json!({"external": value}))]
}

#[test]
fn a_reference_takes_kubeadms_paths_and_waits_for_its_endpoints() {
    let resolved = resolved(&[("/spec/etcd", json!({"clusterRef": {"name": "state"}}))]);
    let etcd = resolved.control_plane.etcd.external().unwrap();
    assert!(etcd.endpoints.is_empty());
    assert_eq!(
        etcd.ca_file.as_deref(),
        Some("/etc/kubernetes/pki/etcd/ca.crt")
    );
    let client = etcd.client.as_ref().unwrap();
    assert_eq!(client.key, "/etc/kubernetes/pki/apiserver-etcd-client.key");
    assert!(matches!(&etcd.credentials, EtcdCredentials::Issued { cluster } if cluster == "state"));
    assert!(!resolved.defaults.contains_key("etcd.imageTag"));
}

#[test]
fn paths_are_taken_as_they_are() {
    let resolved = resolved(&external(json!({
        "endpoints": ["https://[2001:db8::1]:2379", "https://etcd.example.net"],
        "caFile": "/srv/ca.crt", "certFile": "/srv/c.crt", "keyFile": "/srv/c.key",
    })));
    let etcd = resolved.control_plane.etcd.external().unwrap();
    assert_eq!(etcd.endpoints.len(), 2);
    let client = ClientFiles {
        certificate: "/srv/c.crt".to_owned(),
        key: "/srv/c.key".to_owned(),
    };
    assert_eq!(etcd.client, Some(client));
    assert!(matches!(&etcd.credentials, EtcdCredentials::Given(files) if files.is_empty()));
}

#[test]
fn wrong_endpoints_and_files_are_named() {
    let files = |more: Value| {
        let mut value = json!({"endpoints": ["https://e:2379"]});
        value
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        value
    };
    let endpoint = |url: &str| json!({"endpoints": [url]});
    let first = "spec.etcd.external.endpoints[0]";
    for (value, path) in [
        (json!({"endpoints": []}), "spec.etcd.external.endpoints"),
        (endpoint("10.0.0.5:2379"), first),
        (endpoint("ftp://10.0.0.5:2379"), first),
        (endpoint("https://10.0.0.5:2379/v3"), first),
        (endpoint("https://u:p@10.0.0.5:2379"), first),
        (endpoint("https://a:2379,https://b:2379"), first),
        (endpoint("https://:2379"), first),
        (
            json!({"endpoints": ["https://e:2379", "https://e:2379"]}),
            "spec.etcd.external.endpoints[1]",
        ),
        (
            json!({"endpoints": ["http://e:2379"], "caFile": "/a"}),
            first,
        ),
        (files(json!({"caFile": "a"})), "spec.etcd.external.caFile"),
        (
            files(json!({"caFile": "/a", "certFile": "/b"})),
            "spec.etcd.external",
        ),
        (
            files(json!({"certFile": "/b", "keyFile": "/c"})),
            "spec.etcd.external",
        ),
    ] {
        let shown = value.to_string();
        let found = problems(&external(value));
        let paths: Vec<&str> = found.iter().map(|p| p.path.as_str()).collect();
        assert_eq!(paths, [path], "{shown}: {found:?}");
        assert_eq!(found[0].reason, ProblemReason::InvalidSpec);
    }
}

#[test]
fn a_secret_is_read_and_its_faults_are_named_without_content() {
    let object = with(&external(json!({
        "endpoints": ["https://e:2379"], "secretName": "etcd-client",
    })));
    let references = references(&object.spec);
    assert_eq!(references.len(), 3);
    let missing = resolve(&object, &Inputs::default()).unwrap_err();
    assert_eq!(missing.len(), 3);
    for problem in &missing {
        assert_eq!(problem.reason, ProblemReason::MissingInput);
        assert!(problem.message.contains("etcd-client"), "{problem}");
    }
    let mut inputs = Inputs::default();
    for reference in references {
        let secret = Zeroizing::new(b"hidden content".to_vec());
        inputs.contents.insert(reference, secret);
    }
    let found = resolve(&object, &inputs).unwrap_err();
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.contains("ca.crt"), "{}", found[0]);
    assert!(!format!("{found:?}").contains("hidden"));
}
