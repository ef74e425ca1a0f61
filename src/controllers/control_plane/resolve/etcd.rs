//! Where the state is kept: stacked etcd, an EtcdCluster on machines of its own, or an etcd that
//! Seedbed does not manage.

use std::collections::BTreeSet;

use http::Uri;
use k8s_openapi::ByteString;

use crate::controllers::fields::{self, Checker, ContentKind, ContentRef, Contents, show};
use crate::crd::{EtcdSource, ExternalEtcd as Given};
use crate::domain::{ClientFiles, Etcd, EtcdCredentials, ExternalEtcd, UserFile, dns_subdomain};
use crate::pki::secret_names::{CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY};
use crate::pki::state::{SecretData, client_of_etcd};
use crate::versions::Release;

const EXTERNAL: &str = "spec.etcd.external";
const SECRET_NAME: &str = "spec.etcd.external.secretName";

/// What the kind of etcd is resolved with.
pub struct Surroundings<'a> {
    pub release: Option<&'a Release>,
    pub image_repository: &'a str,
    pub certificates_dir: &'a str,
    pub contents: &'a Contents,
}

/// The keys of the Secret that an etcd client's certificate is in.
pub fn references(given: Option<&EtcdSource>) -> Vec<ContentRef> {
    let external = given.and_then(|given| given.external.as_ref());
    let secret = external.and_then(|external| external.secret_name.as_deref());
    secret.map(keys).into_iter().flatten().collect()
}

fn keys(secret: &str) -> [ContentRef; 3] {
    [CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY].map(|key| ContentRef {
        kind: ContentKind::Secret,
        name: secret.to_owned(),
        key: key.to_owned(),
    })
}

/// Checks the etcd of the control plane.
pub fn etcd(
    checker: &mut Checker,
    given: Option<&EtcdSource>,
    around: &Surroundings<'_>,
) -> Option<Etcd> {
    let given = given.cloned().unwrap_or_default();
    one_kind(checker, &given);
    if let Some(reference) = &given.cluster_ref {
        let path = "spec.etcd.clusterRef.name";
        checker.take(path, dns_subdomain(&reference.name).map(drop));
        let credentials = EtcdCredentials::Issued {
            cluster: reference.name.clone(),
        };
        return Some(Etcd::External(with_our_files(around, credentials)));
    }
    if let Some(external) = &given.external {
        return self::external(checker, external, around).map(Etcd::External);
    }
    let tag = around.release.map(|release| release.etcd_tag);
    let repository = around.image_repository;
    fields::etcd_members(checker, "spec.etcd", &given, repository, tag).map(Etcd::Stacked)
}

fn one_kind(checker: &mut Checker, given: &EtcdSource) {
    let stacked = EtcdSource {
        cluster_ref: None,
        external: None,
        ..given.clone()
    };
    let kinds = [
        given.cluster_ref.is_some(),
        given.external.is_some(),
        stacked != EtcdSource::default(),
    ];
    if kinds.into_iter().filter(|given| *given).count() > 1 {
        checker.invalid(
            "spec.etcd",
            "has fields of more than one kind of etcd; keep the stacked fields, clusterRef or \
             external",
        );
    }
}

/// An etcd elsewhere whose files lie where kubeadm's guide to external etcd puts them.
fn with_our_files(around: &Surroundings<'_>, credentials: EtcdCredentials) -> ExternalEtcd {
    let file = |name: &str| format!("{}/{name}", around.certificates_dir);
    ExternalEtcd {
        endpoints: Vec::new(),
        ca_file: Some(file("etcd/ca.crt")),
        client: Some(ClientFiles {
            certificate: file("apiserver-etcd-client.crt"),
            key: file("apiserver-etcd-client.key"),
        }),
        credentials,
    }
}

fn external(
    checker: &mut Checker,
    given: &Given,
    around: &Surroundings<'_>,
) -> Option<ExternalEtcd> {
    let files = [&given.ca_file, &given.cert_file, &given.key_file];
    let names_files = files.into_iter().any(Option::is_some);
    let with_tls = names_files || given.secret_name.is_some();
    endpoints(checker, &given.endpoints, with_tls);
    if names_files && given.secret_name.is_some() {
        let message = "has secretName and paths of files; keep secretName, or caFile, certFile and \
                       keyFile";
        checker.invalid(EXTERNAL, message);
    }
    let external = match &given.secret_name {
        Some(secret) => {
            let external = with_our_files(around, EtcdCredentials::Given(Vec::new()));
            let given = from_secret(checker, secret, &external, around.contents)?;
            ExternalEtcd {
                credentials: EtcdCredentials::Given(given),
                ..external
            }
        }
        None => from_paths(checker, given),
    };
    Some(ExternalEtcd {
        endpoints: given.endpoints.clone(),
        ..external
    })
}

fn endpoints(checker: &mut Checker, endpoints: &[String], with_tls: bool) {
    let path = format!("{EXTERNAL}.endpoints");
    if !(1..=16).contains(&endpoints.len()) {
        let message = format!("has {} URLs; give 1 to 16", endpoints.len());
        checker.invalid(&path, message);
    }
    let mut seen = BTreeSet::new();
    for (index, endpoint) in endpoints.iter().enumerate() {
        let at = format!("{path}[{index}]");
        let url = endpoint.parse::<Uri>().ok();
        let scheme = url.as_ref().and_then(Uri::scheme_str).unwrap_or_default();
        let authority = url.as_ref().and_then(Uri::authority);
        // What follows the port would be taken for a part of the address.
        let whole = authority.is_some_and(|authority| {
            !authority.host().is_empty() && *endpoint == format!("{scheme}://{authority}")
        });
        if !whole || !matches!(scheme, "http" | "https") || endpoint.contains(['@', ',']) {
            let message = format!(
                "{} is not the URL of an etcd member; write it as https://10.0.0.5:2379",
                show(endpoint)
            );
            checker.invalid(&at, message);
        } else if with_tls && scheme == "http" {
            let message = format!(
                "{} is without TLS, but certificates are given; write https://, or take them away",
                show(endpoint)
            );
            checker.invalid(&at, message);
        }
        if !seen.insert(endpoint) {
            let message = format!("{} stands there twice; remove one", show(endpoint));
            checker.invalid(&at, message);
        }
    }
}

fn from_paths(checker: &mut Checker, given: &Given) -> ExternalEtcd {
    let mut path = |field: &str, given: &Option<String>| {
        if let Some(path) = given {
            fields::absolute_path(checker, &format!("{EXTERNAL}.{field}"), path);
        }
        given.clone()
    };
    let ca_file = path("caFile", &given.ca_file);
    let certificate = path("certFile", &given.cert_file);
    let key = path("keyFile", &given.key_file);
    if certificate.is_some() != key.is_some() {
        let message = "has only one of certFile and keyFile; give both, or neither";
        checker.invalid(EXTERNAL, message);
    }
    if certificate.is_some() && ca_file.is_none() {
        let message = "has certFile without caFile; give the CA of etcd's certificates, too";
        checker.invalid(EXTERNAL, message);
    }
    ExternalEtcd {
        endpoints: Vec::new(),
        ca_file,
        client: certificate
            .zip(key)
            .map(|(certificate, key)| ClientFiles { certificate, key }),
        credentials: EtcdCredentials::Given(Vec::new()),
    }
}

/// The files on the node, with what the Secret holds.
fn from_secret(
    checker: &mut Checker,
    secret: &str,
    external: &ExternalEtcd,
    contents: &Contents,
) -> Option<Vec<UserFile>> {
    let references = keys(secret);
    for reference in &references {
        if !contents.contains_key(reference) {
            let message = format!("{reference} does not exist in this namespace; create it");
            checker.missing(SECRET_NAME, message);
        }
    }
    let found: Option<Vec<_>> = references.iter().map(|key| contents.get(key)).collect();
    let found = found?;
    let bytes = |content: &[u8]| ByteString(content.to_vec());
    let data: SecretData = references
        .iter()
        .zip(&found)
        .map(|(reference, content)| (reference.key.clone(), bytes(content)))
        .collect();
    if let Err(defect) = client_of_etcd(secret, &data) {
        checker.missing(SECRET_NAME, defect.to_string());
        return None;
    }
    let client = external.client.as_ref()?;
    let places = [
        (external.ca_file.as_ref()?, 0o644),
        (&client.certificate, 0o644),
        (&client.key, 0o600),
    ];
    let file =
        |((path, mode), content): ((&String, u32), &&zeroize::Zeroizing<Vec<u8>>)| UserFile {
            path: path.clone(),
            mode,
            owner: "root:root".to_owned(),
            content: (*content).clone(),
        };
    Some(places.into_iter().zip(&found).map(file).collect())
}
