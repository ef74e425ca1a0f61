//! What somebody edits or deletes is put back; what cannot be put back is never replaced.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use seedbed::crd::EtcdCluster;
use serde_json::json;

use super::operator::Operator;
use super::operator_ground::{Ground, Space, until};
use super::operator_objects::publish;

type Data = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

#[test]
fn edits_and_deletions_are_put_back() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "repair").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        publish(&space, &["prod".to_owned()]).await?;
        let before = space.secret_data().await?;
        let spec = space.api::<EtcdCluster>().get("prod").await?.spec;

        let edit = json!({"spec": {"imageRepository": "example.net/etcd"}});
        space.patch::<EtcdCluster>("prod", &edit).await?;
        until("the EtcdCluster to be put back", async || {
            let now = space.api::<EtcdCluster>().get("prod").await?;
            Ok((now.spec == spec).then_some(()))
        })
        .await?;
        let note = space
            .event("EtcdCluster", "prod", "FollowsControlPlane")
            .await?;
        ensure!(note.contains("ControlPlane prod"), "{note}");

        // A machine config: the same bytes again, whether deleted or overwritten.
        space.delete::<Secret>("prod-m-2").await?;
        again(&space, &before).await?;
        let other = json!({"stringData": {"value": "#cloud-config\n{}\n"}});
        space.patch::<Secret>("prod-m-3", &other).await?;
        again(&space, &before).await?;
        let unlabelled = json!({"metadata": {"labels": {"seedbed.dev/content": null}}});
        space.patch::<Secret>("prod-m-3", &unlabelled).await?;
        until("the label to be put back", async || {
            let now = space.api::<Secret>().get("prod-m-3").await?;
            Ok(now
                .labels()
                .contains_key("seedbed.dev/content")
                .then_some(()))
        })
        .await?;

        // The kubeconfig: no machine boots from it, so it is simply made anew.
        space.delete::<Secret>("prod-kubeconfig").await?;
        let made = async || Ok(space.api::<Secret>().get_opt("prod-kubeconfig").await?);
        until("a kubeconfig", made).await?;

        // Certificates of one machine: new ones, in its machine config too, and nobody else's.
        space.delete::<Secret>("prod-m-1-certs").await?;
        until("the machine config of m-1 to follow", async || {
            let now = space.secret_data().await?;
            let new = |name: &str| now.get(name).is_some_and(|data| *data != before[name]);
            Ok((new("prod-m-1-certs") && new("prod-m-1")).then_some(()))
        })
        .await?;
        let now = space.secret_data().await?;
        for (name, data) in &before {
            if !["prod-m-1-certs", "prod-m-1", "prod-kubeconfig"].contains(&name.as_str()) {
                ensure!(now[name] == *data, "{name} has changed");
            }
        }
        operator.stop().await
    });
}

#[test]
fn a_lost_ca_is_never_made_anew() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "lost-ca").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        publish(&space, &["one".to_owned(), "all".to_owned()]).await?;
        let secrets = space.secrets().await?;
        let before = space.secret_data().await?;

        space.delete::<Secret>("one-ca").await?;
        let message = space
            .condition("one", "Stalled", "True", "MissingInput")
            .await?;
        ensure!(
            message.contains("one-ca") && message.contains("tls.key"),
            "{message}"
        );
        // Everything at once, as `kubectl delete secret -l` does it.
        let of_all = ListParams::default().labels("seedbed.dev/control-plane=all");
        space
            .api::<Secret>()
            .delete_collection(&DeleteParams::default(), &of_all)
            .await?;
        until("every lost CA to be named", async || {
            let message = space
                .condition("all", "Stalled", "True", "MissingInput")
                .await?;
            let named = |name: &str| message.contains(&format!("Secret {name}, "));
            let all = ["all-ca", "all-etcd", "all-proxy", "all-sa"]
                .into_iter()
                .all(named);
            Ok(all.then_some(()))
        })
        .await?;
        for name in ["one", "all"] {
            space
                .condition(name, "CertificatesValid", "False", "MissingInput")
                .await?;
        }
        // Not by another process either, which has no memory.
        operator.stop().await?;
        let operator = Operator::start(&space, "two", &[]).await?;
        operator.ready().await?;
        until("reconciles", async || {
            Ok((operator.reconciles("ControlPlane").await? >= 2.0).then_some(()))
        })
        .await?;
        let left = space.secrets().await?;
        let made: Vec<&String> = left
            .keys()
            .filter(|name| name.starts_with("all-"))
            .collect();
        ensure!(made.is_empty(), "{made:?}");
        ensure!(!left.contains_key("one-ca"), "one-ca was made anew");

        // From a backup.
        for (name, secret) in secrets {
            if left.contains_key(&name) {
                continue;
            }
            let mut restored = Secret {
                type_: secret.type_,
                data: secret.data,
                ..Secret::default()
            };
            restored.metadata.name = Some(name);
            restored.metadata.labels = secret.metadata.labels;
            space.create(&restored).await?;
        }
        for name in ["one", "all"] {
            space
                .condition(name, "Stalled", "False", "NotStalled")
                .await?;
            space.published(name).await?;
        }
        ensure!(
            space.secret_data().await? == before,
            "other bytes than before"
        );
        operator.stop().await
    });
}

#[test]
fn defective_certificates_are_replaced_only_before_anything_is_published() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "defective").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        // A record that cannot be read keeps the cluster from being founded.
        let map: k8s_openapi::api::core::v1::ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": "prod-etcd-ledger"}, "data": {}}))?;
        space.create(&map).await?;
        space
            .control_plane(super::operator_objects::control_plane("prod"))
            .await?;
        let message = space
            .etcd_condition("prod", "Stalled", "True", "FoundingHalted")
            .await?;
        ensure!(message.contains("prod-etcd-ledger"), "{message}");
        let certs = async || Ok(space.api::<Secret>().get_opt("prod-m-1-certs").await?);
        until("certificates", certs).await?;

        let garbage = json!({"stringData": {"apiserver.crt": "no certificate"}});
        space.patch::<Secret>("prod-m-1-certs", &garbage).await?;
        until("a whole certificate", async || {
            let secret = space.api::<Secret>().get("prod-m-1-certs").await?;
            let data = secret.data.context("data")?;
            Ok(data["apiserver.crt"]
                .0
                .starts_with(b"-----BEGIN")
                .then_some(()))
        })
        .await?;
        space.delete::<Secret>("prod-m-1-certs").await?;
        until("certificates", certs).await?;
        let made: Vec<String> = space.secrets().await?.into_keys().collect();
        ensure!(
            !made.contains(&"prod-m-1".to_owned()),
            "published: {made:?}"
        );

        space
            .delete::<k8s_openapi::api::core::v1::ConfigMap>("prod-etcd-ledger")
            .await?;
        space.published("prod").await?;
        let before = space.secret_data().await?;
        space.patch::<Secret>("prod-m-1-certs", &garbage).await?;
        let message = space
            .condition("prod", "Stalled", "True", "MissingInput")
            .await?;
        ensure!(
            message.contains("prod-m-1-certs") && message.contains("apiserver.crt"),
            "{message}"
        );
        let now = space.secret_data().await?;
        ensure!(
            now["prod-m-1-certs"]["apiserver.crt"] == b"no certificate",
            "it was replaced"
        );
        ensure!(
            now["prod-m-1"] == before["prod-m-1"],
            "the machine config has changed"
        );
        operator.stop().await
    });
}

/// Waits until the Secrets are as they were, byte for byte.
async fn again(space: &Space<'_>, before: &Data) -> Result<()> {
    until("the Secrets to be as they were", async || {
        Ok((space.secret_data().await? == *before).then_some(()))
    })
    .await
}
