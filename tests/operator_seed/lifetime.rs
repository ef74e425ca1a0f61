//! Deletion takes everything away that was made, and nothing else.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::ResourceExt;
use kube::api::ListParams;
use seedbed::crd::{ControlPlane, EtcdCluster};
use serde_json::json;

use super::operator::Operator;
use super::operator_ground::{Ground, Space, until_or};
use super::operator_objects::publish;

#[test]
fn deletion_leaves_only_what_the_user_brought() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "deletion").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        let names = ["first".to_owned(), "second".to_owned()];
        publish(&space, &names).await?;
        // The user's own: a CA of another cluster, taken for this one.
        let donor = space.api::<Secret>().get("first-ca").await?;
        let mut own = Secret {
            data: donor.data,
            type_: Some("kubernetes.io/tls".to_owned()),
            ..Secret::default()
        };
        own.metadata.name = Some("third-ca".to_owned());
        let own = space.create(&own).await?;
        publish(&space, &["third".to_owned()]).await?;

        space.delete::<ControlPlane>("first").await?;
        space.delete::<ControlPlane>("third").await?;
        only(&space, &["second"], &["third-ca"]).await?;
        ensure!(
            space.api::<Secret>().get("third-ca").await? == own,
            "it was touched"
        );

        // Nobody is there to notice the next one.
        operator.stop().await?;
        space.delete::<ControlPlane>("second").await?;
        only(&space, &[], &["third-ca"]).await
    });
}

/// Waits until exactly these ControlPlanes and what they own are left, and these other Secrets.
async fn only(space: &Space<'_>, control_planes: &[&str], others: &[&str]) -> Result<()> {
    let mut wanted: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let planes = || control_planes.iter().map(|name| (*name).to_owned());
    wanted.insert("EtcdClusters", planes().collect());
    wanted.insert(
        "ledgers",
        planes().map(|name| format!("{name}-etcd-ledger")).collect(),
    );
    let made = planes().flat_map(|name| super::operator_objects::secret_names(&name));
    let mut secrets: Vec<String> = made
        .chain(others.iter().map(|name| (*name).to_owned()))
        .collect();
    secrets.sort();
    wanted.insert("Secrets", secrets);
    let found = async || -> Result<BTreeMap<&str, Vec<String>>> {
        let all = ListParams::default();
        let etcds = space.api::<EtcdCluster>().list(&all).await?;
        let maps = space
            .api::<ConfigMap>()
            .list(&all.clone().labels("seedbed.dev/control-plane"))
            .await?;
        Ok(BTreeMap::from([
            (
                "EtcdClusters",
                etcds.iter().map(ResourceExt::name_any).collect(),
            ),
            ("ledgers", maps.iter().map(ResourceExt::name_any).collect()),
            ("Secrets", space.secrets().await?.into_keys().collect()),
        ]))
    };
    let look = async || Ok((found().await? == wanted).then_some(()));
    let state = async || {
        Ok(format!(
            "{} wanted, found {}",
            json!(wanted),
            json!(found().await?)
        ))
    };
    until_or("the garbage collector", look, state).await
}
