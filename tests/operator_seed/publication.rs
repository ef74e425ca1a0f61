//! Everything that one ControlPlane makes, object by object, and in which order.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use seedbed::crd::{ControlPlane, EtcdCluster};
use serde_json::{Value, json};

use super::audit::Request;
use super::operator::Operator;
use super::operator_ground::{Ground, Space};
use super::operator_objects::{control_plane, secret_names, silent_control_plane, stored};
use super::user_data;

/// Most requests that the publication of one ControlPlane may take.
const REQUESTS: usize = 40;

#[test]
fn a_control_plane_is_published_whole_and_in_order() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "publication").await?;
        let history = space.history();
        let operator = Operator::start(&space, "one", &[]).await?;
        operator.ready().await?;
        let made = space.control_plane(silent_control_plane("prod")).await?;
        space.published("prod").await?;
        let object = stored(&space, "prod").await?;
        assert_eq!(object.spec, made.spec, "the spec is the user's");

        secrets(&space, &object).await?;
        let token = founding(&space, &object).await?;
        machine_configs(&space, &token).await?;
        order(&space, operator.user())?;
        status(&object)?;
        let note = space
            .event("ControlPlane", "prod", "MachineConfigsPublished")
            .await?;
        ensure!(note.contains("MachineConfigsPublished is True"), "{note}");
        ensure!(
            history.check_never_current()? >= 1,
            "no version had a status"
        );
        operator.stop().await
    });
}

/// All of them are there, no other, and each is what the contract says.
async fn secrets(space: &Space<'_>, object: &ControlPlane) -> Result<()> {
    let secrets = space.secrets().await?;
    let names: Vec<&String> = secrets.keys().collect();
    assert_eq!(names, secret_names("prod").iter().collect::<Vec<_>>());
    for (name, secret) in &secrets {
        assert_eq!(
            secret.type_.as_deref(),
            Some("cluster.x-k8s.io/secret"),
            "{name}"
        );
        owned(&secret.metadata.owner_references, object).context(name.clone())?;
        let suffix = name.strip_prefix("prod-").context("prefix")?;
        let machine = suffix.strip_suffix("-certs").unwrap_or(suffix);
        let (content, machine) = match suffix {
            "ca" | "etcd" | "proxy" | "sa" => ("ca", None),
            "kubeconfig" => ("kubeconfig", None),
            _ if suffix.ends_with("-certs") => ("certificates", Some(machine)),
            _ => ("machine-config", Some(machine)),
        };
        let mut labels = BTreeMap::from([
            ("seedbed.dev/control-plane", "prod"),
            ("seedbed.dev/content", content),
            ("cluster.x-k8s.io/cluster-name", "prod"),
        ]);
        labels.extend(machine.map(|machine| ("seedbed.dev/machine", machine)));
        let got: BTreeMap<&str, &str> = secret
            .labels()
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(got, labels, "{name}");
        let wanted: &[&str] = match content {
            "ca" => &["tls.crt", "tls.key"],
            "kubeconfig" => &["value"],
            "machine-config" => &["format", "value"],
            _ => &LEAVES,
        };
        let keys: Vec<&str> = secret
            .data
            .iter()
            .flatten()
            .map(|(k, _)| k.as_str())
            .collect();
        assert_eq!(keys, wanted, "{name}");
    }
    Ok(())
}

/// Keys of a machine's certificates in profile Standard.
const LEAVES: [&str; 18] = [
    "apiserver-etcd-client.crt",
    "apiserver-etcd-client.key",
    "apiserver-kubelet-client.crt",
    "apiserver-kubelet-client.key",
    "apiserver.crt",
    "apiserver.key",
    "controller-manager.crt",
    "controller-manager.key",
    "etcd-peer.crt",
    "etcd-peer.key",
    "etcd-server.crt",
    "etcd-server.key",
    "front-proxy-client.crt",
    "front-proxy-client.key",
    "kubelet.crt",
    "kubelet.key",
    "scheduler.crt",
    "scheduler.key",
];

/// Exactly one owner, which is this object and keeps what it owns in a foreground deletion.
fn owned(owners: &Option<Vec<OwnerReference>>, object: &ControlPlane) -> Result<()> {
    let wanted = OwnerReference {
        api_version: "seedbed.dev/v1alpha1".to_owned(),
        kind: "ControlPlane".to_owned(),
        name: object.name_any(),
        uid: object.uid().context("the object has a UID")?,
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ensure!(*owners == Some(vec![wanted]), "owners: {owners:?}");
    Ok(())
}

/// The founding is recorded twice, alike; returns its token.
async fn founding(space: &Space<'_>, object: &ControlPlane) -> Result<String> {
    let cluster = space.api::<EtcdCluster>().get("prod").await?;
    owned(&cluster.metadata.owner_references, object)?;
    assert_eq!(cluster.labels()["seedbed.dev/control-plane"], "prod");
    assert_eq!(
        (cluster.spec.size, cluster.spec.version.as_str()),
        (3, "3.7.0")
    );
    assert_eq!(cluster.spec.machines, object.spec.machines);
    let map = space.api::<ConfigMap>().get("prod-etcd-ledger").await?;
    owned(&map.metadata.owner_references, object)?;
    assert_eq!(map.labels()["seedbed.dev/control-plane"], "prod");

    let founding = space.founding("prod").await?;
    let uid = cluster.uid().context("the EtcdCluster has a UID")?;
    assert_eq!(
        founding.token,
        format!("prod-{uid}"),
        "unique to this object"
    );
    let members: Vec<_> = founding
        .members
        .iter()
        .map(|member| (member.name.as_str(), member.peer_url.as_str()))
        .collect();
    let wanted = [
        ("m-1", "https://198.19.0.11:2380"),
        ("m-2", "https://198.19.0.12:2380"),
        ("m-3", "https://198.19.0.13:2380"),
    ];
    assert_eq!(members, wanted);
    let status = cluster.status.context("the EtcdCluster has a status")?;
    assert_eq!(status.cluster_id, None, "nobody has answered");
    let slots = status.ledger.context("ledger")?.slots;
    let slots: Vec<_> = slots
        .iter()
        .map(|slot| (slot.machine.as_str(), slot.generation, slot.started))
        .collect();
    assert_eq!(
        slots,
        [("m-1", 0, false), ("m-2", 0, false), ("m-3", 0, false)]
    );
    Ok(founding.token)
}

/// Each can be booted from: the user data names this founding, and its files have the hashes that
/// the annotation tells.
async fn machine_configs(space: &Space<'_>, token: &str) -> Result<()> {
    for machine in ["m-1", "m-2", "m-3"] {
        let secret = space
            .api::<Secret>()
            .get(&format!("prod-{machine}"))
            .await?;
        let data = secret.data.as_ref().context("data")?;
        assert_eq!(data["format"].0, b"cloud-config");
        let config = user_data::parse(&data["value"].0);
        let file = |path: &str| {
            let found = config.write_files.iter().find(|entry| entry.path == path);
            found.map(user_data::Entry::bytes).context(path.to_owned())
        };
        let etcd = String::from_utf8(file("/etc/kubernetes/manifests/etcd.yaml")?)?;
        for flag in [
            format!("--initial-cluster-token={token}"),
            "--initial-cluster-state=new".to_owned(),
            format!("--name={machine}"),
        ] {
            ensure!(etcd.contains(&flag), "no {flag} in {etcd}");
        }
        let annotations = secret.annotations();
        ensure!(
            annotations["seedbed.dev/revision"].len() == 16,
            "{annotations:?}"
        );
        let files: BTreeMap<String, String> =
            serde_json::from_str(&annotations["seedbed.dev/files"])?;
        let written: Vec<&str> = config.write_files.iter().map(|f| f.path.as_str()).collect();
        for path in [
            "/etc/kubernetes/manifests/etcd.yaml",
            "/etc/kubernetes/pki/ca.crt",
        ] {
            ensure!(
                written.contains(&path) && files.contains_key(path),
                "{path}: {written:?}"
            );
        }
    }
    Ok(())
}

/// The founding is on record, in both places, before anything that names it; certificates are
/// stored before a machine config is made of them; and all that takes few requests.
fn order(space: &Space<'_>, user: &str) -> Result<()> {
    let requests = space.ground.audit.requests()?;
    let ours: Vec<&Request> = requests
        .iter()
        .filter(|r| r.user == user && r.namespace == space.name)
        .collect();
    let configs = ["prod-m-1", "prod-m-2", "prod-m-3"];
    let is_config =
        |r: &Request| r.resource == "secrets" && r.changes() && configs.contains(&r.name.as_str());
    let published: Vec<&&Request> = ours.iter().filter(|r| is_config(r)).collect();
    assert_eq!(
        published.len(),
        3,
        "one write a machine config: {published:#?}"
    );
    let first = published
        .iter()
        .map(|r| r.received)
        .min()
        .context("published")?;
    let last = published
        .iter()
        .map(|r| r.answered)
        .max()
        .context("published")?;
    let done = |what: &str, test: &dyn Fn(&Request) -> bool| -> Result<Timestamp> {
        let mut found = ours
            .iter()
            .filter(|r| test(r) && r.code < 300 && r.verb != "get");
        let one = found
            .next()
            .with_context(|| format!("no {what}: {ours:#?}"))?;
        Ok(one.answered)
    };
    let map = done("ledger ConfigMap", &|r| r.resource == "configmaps")?;
    let ledger = done("ledger", &|r| r.resource == "etcdclusters/status")?;
    ensure!(
        map < first && ledger < first,
        "{map}, {ledger}, but published at {first}"
    );
    for secret in secret_names("prod") {
        if secret.ends_with("-certs")
            || ["prod-ca", "prod-etcd", "prod-proxy", "prod-sa"].contains(&secret.as_str())
        {
            let stored = done(&secret, &|r| r.resource == "secrets" && r.name == secret)?;
            ensure!(stored < first, "{secret} at {stored}, published at {first}");
        }
    }
    let since = ours
        .iter()
        .filter(|r| r.changes())
        .map(|r| r.received)
        .min();
    let since = since.context("writes")?;
    let until_published = ours
        .iter()
        .filter(|r| r.received >= since && r.received <= last);
    let count = until_published.clone().count();
    ensure!(
        count <= REQUESTS,
        "{count} requests: {:#?}",
        until_published.collect::<Vec<_>>()
    );
    Ok(())
}

/// What a person reads.
fn status(object: &ControlPlane) -> Result<()> {
    let status = serde_json::to_value(object.status.as_ref().context("status")?)?;
    let is = |pointer: &str, wanted: Value| {
        let got = status.pointer(pointer).cloned().unwrap_or_default();
        ensure!(
            got == wanted,
            "{pointer} is {got}, not {wanted}: {status:#}"
        );
        Ok(())
    };
    is("/observedGeneration", json!(1))?;
    is("/replicas", json!(3))?;
    is("/readyReplicas", json!(0))?;
    is("/version", Value::Null)?;
    is("/endpoint", json!("https://api.prod.example.net:6443"))?;
    is("/etcdCluster", json!("prod"))?;
    is(
        "/selector",
        json!("seedbed.dev/control-plane=prod,seedbed.dev/content=machine-config"),
    )?;
    is("/resolved/profile", json!("Standard"))?;
    is("/resolved/certificates.keyAlgorithm", json!("ECDSA-P256"))?;
    let images = status["images"].to_string();
    for image in [
        "kube-apiserver:v1.37.1",
        "etcd:3.7.0-0",
        "kube-proxy:v1.37.1",
        "coredns/coredns:",
    ] {
        ensure!(images.contains(image), "no {image} in {images}");
    }
    for (row, machine) in ["m-1", "m-2", "m-3"].into_iter().enumerate() {
        is(&format!("/machines/{row}/name"), json!(machine))?;
        is(
            &format!("/machines/{row}/secretName"),
            json!(format!("prod-{machine}")),
        )?;
        is(&format!("/machines/{row}/apiServerReady"), json!(false))?;
        let address = format!("198.19.0.{}:6443", 11 + row);
        let message = status["machines"][row]["message"]
            .as_str()
            .unwrap_or_default();
        ensure!(message.contains(&address), "{message}");
        let revision = status["machines"][row]["revision"].as_str();
        ensure!(
            revision.is_some_and(|revision| revision.len() == 16),
            "{status:#}"
        );
    }
    let expiry = &status["certificates"]["earliestExpiry"];
    let expiry: Timestamp = expiry.as_str().context("earliestExpiry")?.parse()?;
    let days = expiry.duration_since(Timestamp::now()).as_hours() / 24;
    ensure!((363..=365).contains(&days), "{days} days");
    Ok(())
}

#[test]
fn what_comes_with_a_later_release_says_so() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "later").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        let machine = json!({"name": "w-1", "address": "198.18.0.21"});
        let etcd: EtcdCluster = serde_json::from_value(json!({
            "apiVersion": "seedbed.dev/v1alpha1",
            "kind": "EtcdCluster",
            "metadata": {"name": "alone"},
            "spec": {"size": 1, "version": "3.7.0", "machines": [machine],
                     "patches": [{"target": "etcd", "patch": "{}"}]},
        }))?;
        space.create(&etcd).await?;
        let mut hardened = control_plane("hard");
        hardened["spec"]["profile"] = json!("Hardened");
        space.control_plane(hardened).await?;

        let note = space
            .etcd_condition("alone", "Stalled", "True", "NotYetSupported")
            .await?;
        ensure!(note.contains("spec.patches"), "{note}");
        let note = space
            .condition("hard", "Stalled", "True", "NotYetSupported")
            .await?;
        ensure!(note.contains("spec.profile"), "{note}");
        space
            .event("EtcdCluster", "alone", "NotYetSupported")
            .await?;
        ensure!(space.secrets().await?.is_empty(), "nothing is made");
        operator.stop().await
    });
}
