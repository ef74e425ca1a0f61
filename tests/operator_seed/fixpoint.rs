//! What is as it shall be is left alone.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use super::operator::Operator;
use super::operator_ground::{Ground, Space, until};
use super::operator_objects::{control_plane, publish, silent_control_plane};

/// Reconciles of each kind that have to pass without a write.
const MORE: f64 = 20.0;

#[test]
fn after_publication_more_reconciles_write_nothing() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "fixpoint").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        space.control_plane(silent_control_plane("silent")).await?;
        publish(&space, &["prod".to_owned()]).await?;
        space.published("silent").await?;
        quiet(&space, &operator).await?;

        let before = ground.audit.writes(operator.user(), &space.name)?.len();
        let keys = operator.metric("seedbed_keys_generated_total").await?;
        ensure!(
            keys >= 2.0 * (4.0 + 3.0 * 10.0),
            "only {keys} keys were counted"
        );
        more_reconciles(&space, &operator).await?;
        let writes = ground.audit.writes(operator.user(), &space.name)?;
        ensure!(writes.len() == before, "{:#?}", &writes[before..]);
        assert_eq!(operator.metric("seedbed_keys_generated_total").await?, keys);

        // Nor does a restart change anything.
        let data = space.secret_data().await?;
        operator.stop().await?;
        let operator = Operator::start(&space, "two", &[]).await?;
        operator.ready().await?;
        more_reconciles(&space, &operator).await?;
        let writes = ground.audit.writes(operator.user(), &space.name)?;
        ensure!(writes.is_empty(), "{writes:#?}");
        // Its own client certificates, in memory: for etcd and for the API server of each.
        assert_eq!(operator.metric("seedbed_keys_generated_total").await?, 4.0);
        ensure!(data == space.secret_data().await?, "Secrets have changed");
        operator.stop().await
    });
}

/// Waits until two reconciles of each kind pass without a write.
async fn quiet(space: &Space<'_>, operator: &Operator) -> Result<()> {
    let audit = &space.ground.audit;
    let look = async || {
        let writes = audit.writes(operator.user(), &space.name)?.len();
        let (planes, etcds) = reconciles(operator).await?;
        loop {
            let (planes_now, etcds_now) = reconciles(operator).await?;
            if planes_now >= planes + 2.0 && etcds_now >= etcds + 2.0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let now = audit.writes(operator.user(), &space.name)?.len();
        Ok((now == writes).then_some(()))
    };
    until("the first reconciles to settle", look).await
}

/// Has every ControlPlane looked at again and again: a Secret of theirs changes in a way that
/// does not matter.
async fn more_reconciles(space: &Space<'_>, operator: &Operator) -> Result<()> {
    let (planes, etcds) = reconciles(operator).await?;
    let mut touched = 0;
    until("more reconciles", async || {
        touched += 1;
        for name in ["prod-sa", "silent-sa"] {
            touch(space, name, touched).await?;
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
        let (planes_now, etcds_now) = reconciles(operator).await?;
        let enough = planes_now >= planes + MORE && etcds_now >= etcds + MORE / 4.0;
        Ok(enough.then_some(()))
    })
    .await
}

/// Changes a Secret in a way that does not matter.
async fn touch(space: &Space<'_>, secret: &str, count: u32) -> Result<()> {
    let touch = json!({"metadata": {"annotations": {"example.net/touched": count.to_string()}}});
    space.patch::<Secret>(secret, &touch).await?;
    Ok(())
}

async fn reconciles(operator: &Operator) -> Result<(f64, f64)> {
    let planes = operator.reconciles("ControlPlane").await?;
    Ok((planes, operator.reconciles("EtcdCluster").await?))
}

#[test]
fn a_paused_control_plane_is_left_alone() {
    Ground::run("operator", async |ground| {
        let space = Space::new(ground, "paused").await?;
        let operator = Operator::start(&space, "one", &[]).await?;
        let mut paused = control_plane("prod");
        paused["spec"]["paused"] = json!(true);
        space.control_plane(paused).await?;
        space.condition("prod", "Paused", "True", "Paused").await?;
        space.condition("prod", "Ready", "False", "Paused").await?;
        space.event("ControlPlane", "prod", "Paused").await?;
        let writes = ground.audit.writes(operator.user(), &space.name)?;
        let made = writes
            .iter()
            .find(|w| w.resource != "controlplanes/status" && w.resource != "events");
        ensure!(made.is_none(), "{made:#?}");

        let pause = |paused: bool| json!({"spec": {"paused": paused}});
        space
            .patch::<seedbed::crd::ControlPlane>("prod", &pause(false))
            .await?;
        space.published("prod").await?;
        space
            .condition("prod", "Paused", "False", "NotPaused")
            .await?;

        // Pause again: what is lost stays lost until somebody takes the pause away.
        quiet(&space, &operator).await?;
        space
            .patch::<seedbed::crd::ControlPlane>("prod", &pause(true))
            .await?;
        space.condition("prod", "Paused", "True", "Paused").await?;
        // The EtcdCluster is told first, and says so by itself.
        space
            .etcd_condition("prod", "Paused", "True", "Paused")
            .await?;
        let before = ground.audit.writes(operator.user(), &space.name)?.len();
        let planes = operator.reconciles("ControlPlane").await?;
        space.delete::<Secret>("prod-m-2").await?;
        let mut touched = 0;
        until("reconciles of the paused object", async || {
            touched += 1;
            touch(&space, "prod-sa", touched).await?;
            Ok((operator.reconciles("ControlPlane").await? >= planes + 3.0).then_some(()))
        })
        .await?;
        let writes = ground.audit.writes(operator.user(), &space.name)?;
        ensure!(
            writes[before..].iter().all(|w| w.resource == "events"),
            "{:#?}",
            &writes[before..]
        );
        ensure!(
            !space.secrets().await?.contains_key("prod-m-2"),
            "it was made again"
        );
        space
            .patch::<seedbed::crd::ControlPlane>("prod", &pause(false))
            .await?;
        let again = async || Ok(space.api::<Secret>().get_opt("prod-m-2").await?);
        until("the machine config to be made again", again).await?;
        operator.stop().await
    });
}
