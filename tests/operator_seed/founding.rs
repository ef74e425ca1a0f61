//! A cluster is founded once, whatever is lost.

use anyhow::ensure;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use seedbed::crd::{ControlPlane, EtcdCluster};
use serde_json::json;

use super::operator::Operator;
use super::operator_ground::{Ground, Space, until, until_or};
use super::operator_objects::{control_plane, publish, secret_names};

#[test]
fn a_lost_record_is_restored_from_the_other() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "records").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        publish(&space, &["prod".to_owned()]).await?;
        let (data, founding) = (space.secret_data().await?, space.founding("prod").await?);

        space.delete::<ConfigMap>("prod-etcd-ledger").await?;
        assert_eq!(space.founded("prod").await?, founding);
        let old = space.api::<EtcdCluster>().get("prod").await?.uid();
        space.delete::<EtcdCluster>("prod").await?;
        until("another EtcdCluster", async || {
            let found = space.api::<EtcdCluster>().get_opt("prod").await?;
            Ok(found.filter(|cluster| cluster.uid() != old))
        })
        .await?;
        assert_eq!(space.founded("prod").await?, founding);
        space.published("prod").await?;
        ensure!(data == space.secret_data().await?, "Secrets have changed");
        operator.stop().await
    });
}

#[test]
fn without_any_record_nothing_is_founded() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "halted").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        publish(&space, &["prod".to_owned()]).await?;
        let before = space.secret_data().await?;
        let map = space.api::<ConfigMap>().get("prod-etcd-ledger").await?;
        // Both at once, from the operator's view.
        operator.stop().await?;
        space.delete::<ConfigMap>("prod-etcd-ledger").await?;
        space.delete::<EtcdCluster>("prod").await?;
        space.delete::<Secret>("prod-ca").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        // The lost CA is said first, and not made anew.
        space
            .condition("prod", "Stalled", "True", "MissingInput")
            .await?;
        let mut ca = Secret::default();
        ca.metadata.name = Some("prod-ca".to_owned());
        ca.data = Some(
            before["prod-ca"]
                .iter()
                .map(|(key, value)| (key.clone(), k8s_openapi::ByteString(value.clone())))
                .collect(),
        );
        space.create(&ca).await?;

        let message = space
            .etcd_condition("prod", "Stalled", "True", "FoundingHalted")
            .await?;
        ensure!(
            message.contains("Restore the ledger ConfigMap"),
            "{message}"
        );
        let message = space
            .condition("prod", "Stalled", "True", "FoundingHalted")
            .await?;
        ensure!(
            message.contains("Restore the ledger ConfigMap"),
            "{message}"
        );
        ensure!(
            space.founding("prod").await.is_err(),
            "it was founded again"
        );
        ensure!(space.secret_data().await? == before, "Secrets have changed");

        let mut restored = ConfigMap {
            data: map.data,
            ..ConfigMap::default()
        };
        restored.metadata.name = map.metadata.name;
        space.create(&restored).await?;
        space.founded("prod").await?;
        space
            .condition("prod", "Stalled", "False", "NotStalled")
            .await?;
        space.published("prod").await?;
        ensure!(space.secret_data().await? == before, "Secrets have changed");
        operator.stop().await
    });
}

#[test]
fn a_successor_of_the_same_name_starts_from_scratch() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "successor").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        publish(&space, &["prod".to_owned()]).await?;
        let (old, founding) = (space.secret_data().await?, space.founding("prod").await?);
        // As `kubectl replace --force` does it, while the garbage collector takes its time.
        let hold = |hold: bool| {
            let finalizers = if hold {
                json!(["example.net/hold"])
            } else {
                json!(null)
            };
            json!({"metadata": {"finalizers": finalizers}})
        };
        let held = ["prod-ca", "prod-m-1"];
        for name in held {
            space.patch::<Secret>(name, &hold(true)).await?;
        }
        space
            .patch::<ConfigMap>("prod-etcd-ledger", &hold(true))
            .await?;
        space.delete::<ControlPlane>("prod").await?;
        let uid = space.control_plane(control_plane("prod")).await?.uid();
        let message = space
            .condition("prod", "Reconciling", "True", "AwaitingDeletion")
            .await?;
        ensure!(message.contains("prod-ca"), "{message}");
        for name in held {
            space.patch::<Secret>(name, &hold(false)).await?;
        }
        // The record of the founding goes last: the successor may not take it for its own.
        space
            .etcd_condition("prod", "Reconciling", "True", "AwaitingDeletion")
            .await?;
        ensure!(
            space.founding("prod").await.is_err(),
            "founded by another's record"
        );
        space
            .patch::<ConfigMap>("prod-etcd-ledger", &hold(false))
            .await?;

        let all_new = async || {
            let secrets = space.secrets().await?;
            let ours = |secret: &Secret| {
                let owner = secret.owner_references().first();
                owner.map(|owner| owner.uid.clone()) == uid
            };
            let names: Vec<&String> = secrets.keys().collect();
            let whole = names == secret_names("prod").iter().collect::<Vec<_>>();
            Ok((whole && secrets.values().all(ours)).then_some(()))
        };
        let state = async || {
            Ok(format!(
                "{:#}",
                space.raw_control_plane("prod").await?["status"]
            ))
        };
        until_or("Secrets of the successor", all_new, state).await?;
        space.published("prod").await?;
        let new = space.secret_data().await?;
        for name in ["prod-ca", "prod-etcd", "prod-proxy", "prod-sa"] {
            ensure!(
                old[name] != new[name],
                "{name} of the first one is used again"
            );
        }
        let refounded = space.founding("prod").await?;
        ensure!(founding.token != refounded.token, "the token is used again");
        operator.stop().await
    });
}
