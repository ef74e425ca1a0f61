//! Etcd on machines of its own, and control planes whose state is elsewhere.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::ResourceExt;
use kube::api::{ListParams, Patch, PatchParams};
use rcgen::{CertificateParams, KeyPair};
use seedbed::crd::{ControlPlane, EtcdCluster};
use serde_json::{Value, json};

use super::audit::Request;
use super::operator::Operator;
use super::operator_ground::{Ground, Space, until, until_or};
use super::operator_objects::{control_plane, kstatus};
use super::user_data;

/// An EtcdCluster of `e-1` to `e-4`, at addresses that refuse connections; the last is a spare by
/// its failure domain.
fn etcd_cluster(name: &str) -> Value {
    let machine = |n: u8, domain: &str| json!({"name": format!("e-{n}"), "address": format!("198.18.1.1{n}"), "failureDomain": domain});
    json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": {"name": name},
        "spec": {
            "version": "3.7.0",
            "size": 3,
            "machines": [machine(1, "a"), machine(2, "a"), machine(3, "b"), machine(4, "c")],
        },
    })
}

async fn apply_etcd(space: &Space<'_>, object: Value) -> Result<EtcdCluster> {
    space.create(&serde_json::from_value(object)?).await
}

/// Names of every Secret of such a cluster, sorted.
const SECRETS: [&str; 7] = [
    "state-e-1",
    "state-e-1-certs",
    "state-e-3",
    "state-e-3-certs",
    "state-e-4",
    "state-e-4-certs",
    "state-etcd",
];

fn text(secret: &Secret, key: &str) -> Result<String> {
    let data = secret.data.as_ref().context("no data")?;
    let value = data.get(key).with_context(|| format!("no {key}"))?;
    Ok(String::from_utf8(value.0.clone())?)
}

/// A file of the user data in a Secret, as text.
fn file(secret: &Secret, path: &str) -> Result<String> {
    let config = user_data::parse(text(secret, "value")?.as_bytes());
    let found = config.write_files.iter().find(|file| file.path == path);
    Ok(String::from_utf8(found.context(path.to_owned())?.bytes())?)
}

fn flag(manifest: &str, name: &str) -> Option<String> {
    let prefix = format!("--{name}=");
    let mut lines = manifest
        .lines()
        .map(|line| line.trim().trim_start_matches("- "));
    lines.find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
}

#[test]
fn an_etcd_cluster_of_ones_own_is_published_whole_and_in_order() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "etcd-alone").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        operator.ready().await?;
        let made = apply_etcd(&space, etcd_cluster("state")).await?;
        space
            .etcd_condition("state", "MachineConfigsPublished", "True", "AsDesired")
            .await?;
        let object = space.api::<EtcdCluster>().get("state").await?;
        assert_eq!(object.spec, made.spec, "the spec is the user's");
        secrets(&space, &object).await?;

        // Failure domains are kept even: e-2 is in the one of e-1.
        let founding = space.founding("state").await?;
        let names: Vec<&str> = founding.members.iter().map(|m| m.name.as_str()).collect();
        assert_eq!(names, ["e-1", "e-3", "e-4"]);
        let map = space.api::<ConfigMap>().get("state-etcd-ledger").await?;
        owned(&map.metadata.owner_references, &object)?;
        for (machine, address) in [("e-1", 11), ("e-3", 13), ("e-4", 14)] {
            let secret = space
                .api::<Secret>()
                .get(&format!("state-{machine}"))
                .await?;
            let manifest = file(&secret, "/etc/kubernetes/manifests/etcd.yaml")?;
            assert_eq!(flag(&manifest, "name").as_deref(), Some(machine));
            let token = flag(&manifest, "initial-cluster-token");
            assert_eq!(token.as_deref(), Some(founding.token.as_str()));
            let url = format!("https://198.18.1.{address}:2380");
            let listed = flag(&manifest, "initial-cluster").context("no members")?;
            ensure!(listed.contains(&format!("{machine}={url}")), "{listed}");
        }
        order(&space, operator.user())?;

        let object = space.raw("EtcdCluster", "state").await?;
        assert_eq!(kstatus(&object), "InProgress", "{object:#}");
        let message = space
            .etcd_condition("state", "EtcdHealthy", "False", "AwaitingMachines")
            .await?;
        ensure!(message.contains("e-1"), "{message}");
        assert_eq!(
            object["status"]["selector"],
            "seedbed.dev/etcd-cluster=state,seedbed.dev/content=machine-config"
        );
        operator.stop().await
    });
}

/// All of them are there, no other, each is what the contract says, and no machine has a key of the
/// CA.
async fn secrets(space: &Space<'_>, object: &EtcdCluster) -> Result<()> {
    let secrets = space.secrets().await?;
    assert_eq!(secrets.keys().collect::<Vec<_>>(), SECRETS);
    let key = text(&secrets["state-etcd"], "tls.key")?;
    let line = key.lines().nth(1).context("no key")?;
    for (name, secret) in &secrets {
        owned(&secret.metadata.owner_references, object).context(name.clone())?;
        assert_eq!(secret.labels()["seedbed.dev/etcd-cluster"], "state");
        ensure!(!secret.labels().contains_key("seedbed.dev/control-plane"));
        if name.ends_with("-certs") {
            let keys: Vec<&String> = secret.data.iter().flatten().map(|(key, _)| key).collect();
            let wanted = [
                "etcd-healthcheck-client.crt",
                "etcd-healthcheck-client.key",
                "etcd-peer.crt",
                "etcd-peer.key",
                "etcd-server.crt",
                "etcd-server.key",
            ];
            assert_eq!(keys, wanted);
        } else if name != "state-etcd" {
            let config = user_data::parse(text(secret, "value")?.as_bytes());
            for file in &config.write_files {
                let bytes = file.bytes();
                let content = String::from_utf8_lossy(&bytes);
                ensure!(!content.contains(line), "{} has the CA's key", file.path);
            }
        }
    }
    Ok(())
}

fn owned(owners: &Option<Vec<OwnerReference>>, object: &EtcdCluster) -> Result<()> {
    let owner = owners.iter().flatten().next().context("no owner")?;
    let is_it = owner.kind == "EtcdCluster"
        && Some(&owner.uid) == object.metadata.uid.as_ref()
        && owner.controller == Some(true);
    ensure!(is_it, "owners: {owners:?}");
    Ok(())
}

/// Certificates before the founding, the founding before machine configs.
fn order(space: &Space<'_>, user: &str) -> Result<()> {
    let requests = space.ground.audit.requests()?;
    let ours = |r: &&Request| r.user == user && r.namespace == space.name && r.changes();
    let ours: Vec<&Request> = requests.iter().filter(ours).collect();
    let secret = |r: &&&Request| r.resource == "secrets" && r.code < 300;
    let is_config = |r: &&&Request| r.name.starts_with("state-e-") && !r.name.ends_with("-certs");
    let writes = ours.iter().filter(secret);
    let (configs, others): (Vec<&&Request>, Vec<&&Request>) = writes.partition(|r| is_config(r));
    assert_eq!(configs.len(), 3, "one write a machine config: {configs:#?}");
    assert_eq!(others.len(), 4, "one write a CA and a machine: {others:#?}");
    let map = ours.iter().find(|r| r.resource == "configmaps");
    let map = map.context("no ledger ConfigMap")?;
    let last = others.iter().map(|r| r.answered).max().context("none")?;
    let first = configs.iter().map(|r| r.received).min().context("none")?;
    ensure!(
        last <= map.received && map.answered <= first,
        "certificates until {last}, founding at {}, configs from {first}",
        map.received
    );
    Ok(())
}

#[test]
fn deletion_of_an_etcd_cluster_leaves_only_the_users_ca() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "etcd-deletion").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        apply_etcd(&space, etcd_cluster("donor")).await?;
        let published = async |name: &str| {
            space
                .etcd_condition(name, "MachineConfigsPublished", "True", "AsDesired")
                .await
        };
        published("donor").await?;
        let donor = space.api::<Secret>().get("donor-etcd").await?;
        let mut own = Secret {
            data: donor.data,
            ..Secret::default()
        };
        own.metadata.name = Some("state-etcd".to_owned());
        let own = space.create(&own).await?;
        apply_etcd(&space, etcd_cluster("state")).await?;
        published("state").await?;
        space.delete::<EtcdCluster>("state").await?;
        space.delete::<EtcdCluster>("donor").await?;
        let left = async || -> Result<Vec<String>> {
            let secrets = space.secrets().await?.into_keys();
            let label = ListParams::default().labels("seedbed.dev/etcd-cluster");
            let maps = space.api::<ConfigMap>().list(&label).await?;
            let maps = maps.into_iter().map(|map| map.name_any());
            Ok(secrets.chain(maps).collect())
        };
        let look = async || Ok((left().await? == ["state-etcd"]).then_some(()));
        let state = async || Ok(format!("left: {:?}", left().await?));
        until_or("the garbage collector", look, state).await?;
        ensure!(
            space.api::<Secret>().get("state-etcd").await? == own,
            "it was touched"
        );
        operator.stop().await
    });
}

/// What real members would have answered: all have started, and one more was added and promoted.
async fn pretend_founded(space: &Space<'_>) -> Result<()> {
    let api = space.api::<EtcdCluster>();
    let cluster = api.get("state").await?;
    let status = cluster.status.context("no status")?;
    let mut ledger = serde_json::to_value(status.ledger.context("no ledger")?)?;
    for (index, slot) in ledger["slots"]
        .as_array_mut()
        .into_iter()
        .flatten()
        .enumerate()
    {
        slot["started"] = json!(true);
        slot["memberID"] = json!(format!("{}", index + 1));
    }
    let added = |machine: &str, number: u8, promoted: bool| {
        json!({"machine": machine, "generation": number, "name": format!("{machine}_{number}"),
               "peerURL": format!("https://198.18.1.10{number}:2380"), "memberID": "a",
               "started": true, "promoted": promoted})
    };
    let slots = ledger["slots"].as_array_mut().context("no slots")?;
    slots.remove(1);
    slots.push(added("e-2", 1, true));
    slots.push(added("e-9", 2, false));
    let status = json!({"status": {"clusterID": "c0ffee", "ledger": ledger}});
    api.patch_status("state", &PatchParams::default(), &Patch::Merge(status))
        .await?;
    Ok(())
}

#[test]
fn a_control_plane_by_reference_waits_and_follows_the_voters() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "by-reference").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        let mut object = control_plane("prod");
        object["spec"]["etcd"] = json!({"clusterRef": {"name": "state"}});
        space.control_plane(object).await?;
        let awaited = async |word: &str| {
            let look = async || {
                let found = space
                    .condition("prod", "Reconciling", "True", "AwaitingEtcdCluster")
                    .await?;
                Ok(found.contains(word).then_some(found))
            };
            until(word, look).await
        };
        let message = awaited("does not exist").await?;
        ensure!(message.contains(&space.name), "{message}");
        ensure!(space.secrets().await?.is_empty(), "nothing is made");
        apply_etcd(&space, etcd_cluster("state")).await?;
        awaited("to be founded").await?;
        space.founded("state").await?;
        operator.stop().await?;

        // The machines are not real: their answers are put there while nobody asks them.
        pretend_founded(&space).await?;
        let operator = Operator::start(&space, "two", &[]).await?;
        space.published("prod").await?;
        let ca = text(&space.api::<Secret>().get("state-etcd").await?, "tls.crt")?;
        for machine in ["m-1", "m-2", "m-3"] {
            let secret = space
                .api::<Secret>()
                .get(&format!("prod-{machine}"))
                .await?;
            let manifest = file(&secret, "/etc/kubernetes/manifests/kube-apiserver.yaml")?;
            // Not the member that is gone, not the learner.
            let servers =
                "https://198.18.1.11:2379,https://198.18.1.14:2379,https://198.18.1.101:2379";
            assert_eq!(flag(&manifest, "etcd-servers").as_deref(), Some(servers));
            assert_eq!(file(&secret, "/etc/kubernetes/pki/etcd/ca.crt")?, ca);
            file(&secret, "/etc/kubernetes/pki/apiserver-etcd-client.key")?;
            let etcd = file(&secret, "/etc/kubernetes/manifests/etcd.yaml");
            ensure!(etcd.is_err(), "it would run etcd");
        }
        let secrets = space.secrets().await?;
        ensure!(!secrets.contains_key("prod-etcd"), "a CA of its own");
        let status = space.raw("ControlPlane", "prod").await?;
        assert_eq!(status["status"]["etcdCluster"], "state");

        // It may be deleted: nothing stands in the way, and the control plane says what that means.
        space.delete::<EtcdCluster>("state").await?;
        let message = awaited("not there any more").await?;
        ensure!(message.contains("state-etcd"), "{message}");
        space
            .condition("prod", "EtcdHealthy", "False", "AwaitingEtcdCluster")
            .await?;
        space.published("prod").await?;
        operator.stop().await
    });
}

#[test]
fn wrong_references_are_named() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "references").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        space.control_plane(control_plane("stacked")).await?;
        space.published("stacked").await?;
        let mut object = control_plane("prod");
        object["spec"]["etcd"] = json!({"clusterRef": {"name": "stacked"}});
        space.control_plane(object).await?;
        let message = space
            .condition("prod", "Stalled", "True", "InvalidSpec")
            .await?;
        for word in [
            "spec.etcd.clusterRef.name",
            "belongs to ControlPlane \"stacked\"",
        ] {
            ensure!(message.contains(word), "no {word} in: {message}");
        }
        space.delete::<ControlPlane>("prod").await?;

        // A wrong spec of an EtcdCluster names every problem, and nothing is founded.
        let mut wrong = etcd_cluster("wrong");
        wrong["spec"]["machines"][0]["bindPort"] = json!(7443);
        wrong["spec"]["version"] = json!("3.5.21");
        wrong["spec"]["certificates"] = json!({"caKeysOnNodes": "All"});
        apply_etcd(&space, wrong).await?;
        let message = space
            .etcd_condition("wrong", "Stalled", "True", "NotYetSupported")
            .await?;
        for word in [
            "spec.version: ",
            "spec.machines[e-1].bindPort: ",
            "spec.certificates.caKeysOnNodes: ",
        ] {
            ensure!(message.contains(word), "no {word} in: {message}");
        }
        let secrets = space.secrets().await?;
        ensure!(!secrets.keys().any(|name| name.starts_with("wrong-")));
        let maps = space
            .api::<ConfigMap>()
            .get_opt("wrong-etcd-ledger")
            .await?;
        ensure!(maps.is_none(), "it was founded");
        operator.stop().await
    });
}

#[test]
fn an_etcd_that_seedbed_does_not_manage_is_used_as_given() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "unmanaged").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        let mut object = control_plane("prod");
        object["spec"]["etcd"] = json!({"external": {
            "endpoints": ["https://198.18.2.1:2379", "https://198.18.2.2:2379"],
            "secretName": "etcd-client",
        }});
        space.control_plane(object).await?;
        let message = space
            .condition("prod", "Stalled", "True", "MissingInput")
            .await?;
        for word in [
            "spec.etcd.external.secretName",
            "ca.crt",
            "tls.key",
            "etcd-client",
        ] {
            ensure!(message.contains(word), "no {word} in: {message}");
        }
        let pair = |name: &str| {
            let key = KeyPair::generate().expect("a key");
            let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
            let certificate = params.self_signed(&key).expect("a certificate");
            (certificate.pem(), key.serialize_pem())
        };
        let (ca, client, other) = (pair("ca"), pair("client"), pair("other"));
        let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
        let mut secret = Secret {
            data: Some(BTreeMap::from([
                ("ca.crt".to_owned(), bytes(&ca.0)),
                ("tls.crt".to_owned(), bytes(&client.0)),
                ("tls.key".to_owned(), bytes(&other.1)),
            ])),
            ..Secret::default()
        };
        secret.metadata.name = Some("etcd-client".to_owned());
        space.create(&secret).await?;
        let look = async || {
            let found = space
                .condition("prod", "Stalled", "True", "MissingInput")
                .await?;
            Ok(found
                .contains("does not belong to the key")
                .then_some(found))
        };
        let message = until("the halves to be compared", look).await?;
        ensure!(!message.contains("PRIVATE KEY"), "{message}");
        let repaired = json!({"data": {"tls.key": bytes(&client.1)}});
        let _: Secret = space.patch("etcd-client", &repaired).await?;
        space.published("prod").await?;
        let config = space.api::<Secret>().get("prod-m-2").await?;
        let manifest = file(&config, "/etc/kubernetes/manifests/kube-apiserver.yaml")?;
        let servers = flag(&manifest, "etcd-servers");
        assert_eq!(
            servers.as_deref(),
            Some("https://198.18.2.1:2379,https://198.18.2.2:2379")
        );
        let pki = "/etc/kubernetes/pki";
        assert_eq!(file(&config, &format!("{pki}/etcd/ca.crt"))?, ca.0);
        assert_eq!(
            file(&config, &format!("{pki}/apiserver-etcd-client.key"))?,
            client.1
        );
        let clusters = space
            .api::<EtcdCluster>()
            .list(&ListParams::default())
            .await?;
        ensure!(clusters.items.is_empty(), "an EtcdCluster was made");
        operator.stop().await
    });
}
