//! CAs and service-account keys that the user brought.

use std::collections::BTreeMap;

use anyhow::ensure;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

use super::operator::Operator;
use super::operator_ground::{Ground, Space, until};
use super::operator_objects::{control_plane, secret_names};
use super::user_data;

#[test]
fn cas_that_the_user_brought_are_used_and_never_touched() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "user-cas").await?;
        let tls = Some("kubernetes.io/tls");
        let brought = [
            secret("prod-ca", tls, &bundle()),
            secret("prod-etcd", None, &ca("my-etcd-ca")),
            secret("prod-proxy", None, &ca("my-proxy-ca")),
            secret("prod-sa", None, &service_account()),
        ];
        let mut before = Vec::new();
        for secret in &brought {
            before.push(space.create(secret).await?);
        }
        let operator = Operator::start(&space, "one", &[]).await?;
        space.control_plane(control_plane("prod")).await?;
        space.published("prod").await?;
        let secrets = space.secrets().await?;
        let names: Vec<&String> = secrets.keys().collect();
        assert_eq!(names, secret_names("prod").iter().collect::<Vec<_>>());
        for secret in before {
            let name = secret.name_any();
            ensure!(secrets[&name] == secret, "{name} was touched");
        }
        // They are what the machines get.
        let config = secrets["prod-m-1"]
            .data
            .as_ref()
            .map(|data| user_data::parse(&data["value"].0));
        let config = config.ok_or_else(|| super::operator_ground::lacking("value"))?;
        for (path, secret) in [
            ("/etc/kubernetes/pki/ca.crt", "prod-ca"),
            ("/etc/kubernetes/pki/etcd/ca.crt", "prod-etcd"),
            ("/etc/kubernetes/pki/front-proxy-ca.crt", "prod-proxy"),
            ("/etc/kubernetes/pki/sa.pub", "prod-sa"),
        ] {
            let file = config.write_files.iter().find(|file| file.path == path);
            let stored = secrets[secret]
                .data
                .as_ref()
                .map(|data| data["tls.crt"].0.clone());
            ensure!(
                file.map(user_data::Entry::bytes) == stored,
                "{path} is not that of {secret}"
            );
        }
        operator.stop().await
    });
}

#[test]
fn a_broken_ca_is_named_and_nothing_is_published_until_it_is_whole() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "broken-ca").await?;
        let good = ca("my-ca");
        let other = ca("my-ca");
        let halves = [good[0].clone(), other[1].clone()];
        space.create(&secret("prod-ca", None, &halves)).await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        space.control_plane(control_plane("prod")).await?;
        let message = space
            .condition("prod", "Stalled", "True", "MissingInput")
            .await?;
        for word in ["prod-ca", "tls.crt", "tls.key"] {
            ensure!(message.contains(word), "no {word} in: {message}");
        }
        space
            .condition("prod", "MachineConfigsPublished", "False", "MissingInput")
            .await?;
        let note = space.event("ControlPlane", "prod", "MissingInput").await?;
        ensure!(note.contains("prod-ca"), "{note}");
        let made: Vec<String> = space.secrets().await?.into_keys().collect();
        ensure!(!made.iter().any(|name| name.contains("-m-")), "{made:?}");

        let key = json!({"data": {"tls.key": ByteString(good[1].1.clone().into_bytes())}});
        let repaired: Secret = space.patch("prod-ca", &key).await?;
        space.published("prod").await?;
        space
            .condition("prod", "Stalled", "False", "NotStalled")
            .await?;
        let now = space.api::<Secret>().get("prod-ca").await?;
        ensure!(now == repaired, "it was touched");
        operator.stop().await
    });
}

#[test]
fn a_file_that_is_not_there_yet_is_waited_for() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "contents").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        let mut object = control_plane("prod");
        object["spec"]["machineConfig"] = json!({"files": [{
            "path": "/etc/motd",
            "contentFrom": {"secretKeyRef": {"name": "texts", "key": "motd"}},
        }]});
        space.control_plane(object).await?;
        let message = space
            .condition("prod", "Stalled", "True", "MissingInput")
            .await?;
        ensure!(
            message.contains("texts") && message.contains("motd"),
            "{message}"
        );
        let text = ("motd", "be welcome\n".to_owned());
        space.create(&secret("texts", None, &[text])).await?;
        space.published("prod").await?;
        let file = async || {
            let secret = space.api::<Secret>().get("prod-m-1").await?;
            let config = secret.data.map(|data| user_data::parse(&data["value"].0));
            let files = config.map(|config| config.write_files).unwrap_or_default();
            Ok(files.into_iter().find(|file| file.path == "/etc/motd"))
        };
        let file = until("the file", file).await?;
        assert_eq!(file.bytes(), b"be welcome\n");
        operator.stop().await
    });
}

type Pair = [(&'static str, String); 2];

fn secret(name: &str, kind: Option<&str>, data: &[(&'static str, String)]) -> Secret {
    let data = data
        .iter()
        .map(|(key, text)| ((*key).to_owned(), ByteString(text.clone().into_bytes())));
    let mut secret = Secret {
        data: Some(data.collect::<BTreeMap<_, _>>()),
        type_: kind.map(str::to_owned),
        ..Secret::default()
    };
    secret.metadata.name = Some(name.to_owned());
    secret
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    params
}

/// A self-signed CA with a PKCS#8 key.
fn ca(name: &str) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let certificate = params(name).self_signed(&key).expect("a certificate");
    let key = key.serialize_pem();
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"), "PKCS#8");
    [("tls.crt", certificate.pem()), ("tls.key", key)]
}

/// An intermediate CA, followed by the root that signed it.
fn bundle() -> Pair {
    let root_key = KeyPair::generate().expect("a key");
    let root = params("my-root")
        .self_signed(&root_key)
        .expect("a certificate");
    let issuer = Issuer::new(params("my-root"), root_key);
    let key = KeyPair::generate().expect("a key");
    let own = params("my-ca")
        .signed_by(&key, &issuer)
        .expect("a certificate");
    [
        ("tls.crt", format!("{}{}", own.pem(), root.pem())),
        ("tls.key", key.serialize_pem()),
    ]
}

fn service_account() -> Pair {
    let key = KeyPair::generate().expect("a key");
    [
        ("tls.crt", key.public_key_pem()),
        ("tls.key", key.serialize_pem()),
    ]
}
