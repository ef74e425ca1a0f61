//! Wrong specs: each is told in words, and nothing is half made.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use seedbed::crd::NodePool;
use serde_json::json;

use super::field::{CLUSTER, Field, run};
use super::operator_ground::until;

#[test]
fn wrong_specs_are_told_and_nothing_is_half_made() {
    run("wrong", async |field| {
        // What the schema can say, it says at once.
        for (spec, words) in [
            (
                json!({"machines": [{"name": "a-1"}], "token": {"ttl": "30s"}}),
                "ttl must be a duration of 1m to 24h",
            ),
            (
                json!({"machines": [{"name": "a-1"}], "token": {"ttl": "25h"}}),
                "ttl must be a duration of 1m to 24h",
            ),
            (
                json!({"maxNodes": 1, "machines": [{"name": "a-1"}]}),
                "machines (a listed pool) or maxNodes (an open pool)",
            ),
            (
                json!({"machines": [{"name": "a-1"}], "replicas": 2}),
                "replicas must not exceed the number of machines",
            ),
        ] {
            let refused = field.pool("refused", spec).await.err();
            let text = format!("{:#}", refused.expect("a wrong spec was taken"));
            ensure!(text.contains(words), "{text}");
        }
        // The rest is told by the operator.
        for (name, spec, reason, words) in [
            (
                "newer",
                json!({"machines": [{"name": "b-1"}], "version": "v1.37.9"}),
                "InvalidSpec",
                "spec.version: v1.37.9 is newer than the API servers of the control plane",
            ),
            (
                "namesake",
                json!({"machines": [{"name": "cp-1"}]}),
                "InvalidSpec",
                "spec.machines[cp-1].name: \"cp-1\" is a machine of ControlPlane \"prod\"",
            ),
            (
                "older",
                json!({"machines": [{"name": "c-1"}], "version": "v1.34.4", "patches": [{
                    "target": "kubeletconfiguration",
                    "type": "JSON",
                    "patch": "[{op: remove, path: /absent}]",
                }]}),
                "InvalidSpec",
                "spec.patches[0]: cannot be applied to the kubelet's configuration",
            ),
            (
                "lacking",
                json!({"machines": [{"name": "d-1"}], "machineConfig": {"files": [{
                    "path": "/etc/x",
                    "contentFrom": {"secretKeyRef": {"name": "absent", "key": "x"}},
                }]}}),
                "MissingInput",
                "key \"x\" of Secret \"absent\" does not exist",
            ),
            (
                "nowhere",
                json!({"controlPlaneRef": {"name": "unknown"}, "machines": [{"name": "e-1"}]}),
                "MissingInput",
                "there is no ControlPlane \"unknown\" in namespace \"wrong\"",
            ),
        ] {
            field.pool(name, spec).await?;
            let text = field.condition(name, "Stalled", "True", reason).await?;
            ensure!(text.contains(words), "{name}: {text}");
            nothing_is_made(field, name).await?;
        }
        a_control_plane_node_is_no_worker(field).await?;
        two_pools_cannot_have_one_machine(field).await
    });
}

/// Nor is one that joined by kubeadm, without being listed anywhere.
async fn a_control_plane_node_is_no_worker(field: &Field<'_>) -> Result<()> {
    let nodes: Api<Node> = Api::all(field.space.client.clone());
    let node = serde_json::from_value(json!({"metadata": {
        "name": "cp-by-hand", "labels": {"node-role.kubernetes.io/control-plane": ""},
    }}))?;
    nodes.create(&PostParams::default(), &node).await?;
    let spec = json!({"machines": [{"name": "cp-by-hand"}]});
    field.pool("byhand", spec).await?;
    let text = field
        .condition("byhand", "Stalled", "True", "InvalidSpec")
        .await?;
    ensure!(
        text.contains("Node \"cp-by-hand\" is a control-plane node"),
        "{text}"
    );
    nothing_is_made(field, "byhand").await
}

async fn two_pools_cannot_have_one_machine(field: &Field<'_>) -> Result<()> {
    field
        .pool("one", json!({"machines": [{"name": "f-1"}]}))
        .await?;
    let token = field.token_of("f-1").await?;
    field
        .pool(
            "two",
            json!({"machines": [{"name": "f-1"}, {"name": "f-2"}]}),
        )
        .await?;
    let text = field
        .condition("two", "Stalled", "True", "InvalidSpec")
        .await?;
    let words = "spec.machines[f-1].name: Secret prod-f-1 belongs to NodePool one";
    ensure!(text.contains(words), "{text}");
    nothing_is_made(field, "two").await?;
    ensure!(field.token_of("f-1").await? == token, "the first keeps it");
    // As soon as it is free, the second goes on.
    let pools: Api<NodePool> = field.space.api();
    pools.delete("one", &DeleteParams::default()).await?;
    until("the second pool to have it", async || {
        field.published_token("f-2").await
    })
    .await?;
    ensure!(field.token_of("f-1").await? != token);
    Ok(())
}

/// No Secret in the seed and no token in the target.
async fn nothing_is_made(field: &Field<'_>, pool: &str) -> Result<()> {
    let label = format!("seedbed.dev/node-pool={pool}");
    let params = ListParams::default().labels(&label);
    let made = field.space.api::<Secret>().list(&params).await?;
    let made: Vec<String> = made.items.iter().map(ResourceExt::name_any).collect();
    ensure!(made.is_empty(), "{pool} of {CLUSTER}: {made:?}");
    let description = format!("Seedbed NodePool {}/{pool}", field.space.name);
    for (id, secret) in field.tokens().await? {
        let data = secret.data.unwrap_or_default();
        let other = data
            .get("description")
            .is_none_or(|d| d.0 != description.as_bytes());
        ensure!(other, "token {id} of {pool}");
    }
    Ok(())
}
