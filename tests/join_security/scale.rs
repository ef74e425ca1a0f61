//! `/scale` of a pool, as autoscalers and `kubectl scale` use it.

use anyhow::{Result, ensure};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use seedbed::crd::NodePool;
use serde_json::{Value, json};

use super::field::{Field, run};
use super::operator_ground::until_or;

#[test]
fn a_pool_is_scaled_through_its_subresource() {
    run("scale", async |field| {
        let machines: Vec<Value> = (1..=3).map(|n| json!({"name": format!("s-{n}")})).collect();
        let spec = json!({"machines": machines, "replicas": 2});
        field.pool("scaled", spec).await?;
        scaled(field, &["prod-s-1", "prod-s-2"]).await?;
        for (replicas, secrets) in [
            (3, &["prod-s-1", "prod-s-2", "prod-s-3"][..]),
            (1, &["prod-s-1"]),
            (0, &[]),
            (2, &["prod-s-1", "prod-s-2"]),
        ] {
            let scale = ask(field, "scaled", replicas).await?;
            // No number is zero in this type.
            ensure!(scale.spec.and_then(|spec| spec.replicas).unwrap_or(0) == replicas);
            scaled(field, secrets).await?;
            let tokens = field.tokens().await?.len();
            ensure!(
                tokens == secrets.len(),
                "{tokens} tokens for {replicas} machines"
            );
        }
        // What the pool cannot be is refused there, too.
        for (pool, replicas, words) in [
            (
                "scaled",
                4,
                "replicas must not exceed the number of machines",
            ),
            ("scaled", -1, "greater than or equal to 0"),
        ] {
            let refused = ask(field, pool, replicas).await.err();
            let text = format!("{:#}", refused.expect("a wrong number was taken"));
            ensure!(text.contains(words), "{text}");
        }
        // An open pool has no number to set: whoever comes joins.
        field.pool("open", json!({"maxNodes": 2})).await?;
        let refused = ask(field, "open", 1).await.err();
        let text = format!("{:#}", refused.expect("an open pool was scaled"));
        ensure!(text.contains("replicas"), "{text}");
        Ok(())
    });
}

async fn ask(field: &Field<'_>, pool: &str, replicas: i32) -> Result<Scale> {
    let pools: Api<NodePool> = field.space.api();
    let patch = Patch::Merge(json!({"spec": {"replicas": replicas}}));
    let scale = pools
        .patch_scale(pool, &PatchParams::default(), &patch)
        .await?;
    Ok(serde_json::from_value(serde_json::to_value(scale)?)?)
}

/// Waits until `/scale` reports that many, and its selector finds exactly these Secrets.
async fn scaled(field: &Field<'_>, secrets: &[&str]) -> Result<()> {
    let pools: Api<NodePool> = field.space.api();
    let look = async || -> Result<(i32, Vec<String>)> {
        let scale = pools.get_scale("scaled").await?;
        let status: Value = serde_json::to_value(scale.status)?;
        let params = ListParams::default().labels(status["selector"].as_str().unwrap_or("absent"));
        let found = field.space.api::<Secret>().list(&params).await?;
        let mut names: Vec<String> = found.items.iter().map(ResourceExt::name_any).collect();
        names.sort();
        let replicas = status["replicas"].as_i64().unwrap_or(-1);
        Ok((i32::try_from(replicas)?, names))
    };
    until_or(
        &format!("{} replicas", secrets.len()),
        async || {
            let (replicas, names) = look().await?;
            let all = usize::try_from(replicas) == Ok(secrets.len()) && names == secrets;
            Ok(all.then_some(()))
        },
        async || Ok(format!("{:?}", look().await?)),
    )
    .await
}
