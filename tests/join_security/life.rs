//! The life of machines and their tokens: waiting, joining, being taken out.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use seedbed::crd::NodePool;
use serde_json::{Value, json};

use super::field::{CLUSTER, Field, id, run};
use super::operator_ground::until;
use super::requests::{Answer, Ask, answer, join};
use super::scan::Needles;

#[test]
fn a_machine_joins_whenever_it_comes_and_leaves_nothing_behind() {
    run("waiting", async |field| {
        let mut needles = Needles::default();
        let machines = json!([{"name": "l-1"}, {"name": "l-2", "failureDomain": "rack-b"}]);
        let labels = json!({"tier": "web"});
        let taints = json!([{"key": "dedicated", "value": "web", "effect": "NoSchedule"}]);
        let spec = json!({
            "machines": machines, "labels": labels, "taints": taints, "token": {"ttl": "1m"},
        });
        field.pool("late", spec).await?;
        let text = field
            .condition("late", "Reconciling", "True", "AwaitingMachines")
            .await?;
        ensure!(text == "not joined yet: l-1, l-2", "{text}");
        let (first, second) = (field.token_of("l-1").await?, field.token_of("l-2").await?);
        needles.gather(field).await?;
        deleted_by_hand(field, &first).await?;

        // A request comes in, and the operator is dead for two TTLs.
        field.operator().freeze()?;
        let client = field.client_with(&first).await?;
        let waiting = Ask::kubelet("l-1").send(&client).await?;
        field.operator().kill()?;
        tokio::time::sleep(Duration::from_secs(125)).await;
        ensure!(field.tokens().await?.is_empty(), "the tokens have expired");
        field.restart(Duration::ZERO).await?;
        ensure!(answer(field, &waiting).await? == Answer::Issued);
        field.register("l-1").await?;
        marked(field, "l-1").await?;

        // The other comes after more than three TTLs, with what it was given at first.
        ensure!(field.token_of("l-2").await? == second);
        let came = Instant::now();
        join(field, "l-2", &second).await?;
        println!(
            "l-2 was granted {:.1} s after it came",
            came.elapsed().as_secs_f64()
        );
        field
            .condition("late", "Ready", "True", "AsDesired")
            .await?;
        nothing_is_left(field).await?;
        rows(&field.status("late").await?)?;
        quiet(field).await?;
        needles.gather(field).await?;
        needles.check(field).await
    });
}

/// It is back within half a minute, and is the same.
async fn deleted_by_hand(field: &Field<'_>, token: &str) -> Result<()> {
    let secrets: Api<Secret> = field.api("kube-system");
    let name = format!("bootstrap-token-{}", id(token));
    secrets.delete(&name, &DeleteParams::default()).await?;
    let began = Instant::now();
    until("the token to be back", async || {
        Ok(secrets.get_opt(&name).await?.map(drop))
    })
    .await?;
    let took = began.elapsed();
    println!("a deleted token was back after {:.1} s", took.as_secs_f64());
    ensure!(took < Duration::from_secs(30), "{took:?}");
    ensure!(field.token_of("l-1").await? == token);
    Ok(())
}

/// Labels and taints are put on through the API.
async fn marked(field: &Field<'_>, name: &str) -> Result<()> {
    let nodes: Api<Node> = Api::all(field.space.client.clone());
    until("the marks of the Node", async || {
        let node = nodes.get(name).await?;
        let labels = node.metadata.labels.unwrap_or_default();
        let taints = node.spec.unwrap_or_default().taints.unwrap_or_default();
        let marked = labels.get("tier").is_some_and(|tier| tier == "web")
            && labels
                .get("seedbed.dev/node-pool")
                .is_some_and(|pool| pool == "late")
            && labels.contains_key("seedbed.dev/revision")
            && taints.iter().any(|taint| taint.key == "dedicated");
        Ok(marked.then_some(()))
    })
    .await
}

async fn nothing_is_left(field: &Field<'_>) -> Result<()> {
    until("tokens to go", async || {
        Ok(field.tokens().await?.is_empty().then_some(()))
    })
    .await?;
    ensure!(field.published_token("l-1").await?.is_none());
    let name = format!("{CLUSTER}-late-tokens");
    until("tokens to be forgotten", async || {
        let stored = field.space.api::<Secret>().get(&name).await?;
        let text = stored.data.context("data")?["tokens.json"].0.clone();
        Ok((text == b"{}").then_some(()))
    })
    .await
}

fn rows(status: &Value) -> Result<()> {
    ensure!(
        status["replicas"] == 2 && status["joinedReplicas"] == 2,
        "{status:#}"
    );
    ensure!(
        status["readyReplicas"] == 2 && status["upToDateReplicas"] == 2,
        "{status:#}"
    );
    let rows = status["machines"].as_array().context("rows")?;
    for row in rows {
        ensure!(row["joined"] == true && row["nodeReady"] == true, "{row}");
        ensure!(
            row["kubeletVersion"] == "v1.37.1" && row["tokenExpiry"].is_null(),
            "{row}"
        );
        ensure!(
            row["revision"].is_string() && row["message"].is_null(),
            "{row}"
        );
    }
    Ok(())
}

/// More looks at a pool that is complete change nothing, in the seed and in the target.
async fn quiet(field: &Field<'_>) -> Result<()> {
    let operator = field.operator();
    let writes = || -> Result<Vec<String>> {
        let users = [operator.user(), "seedbed-operator"];
        let mut requests = field.space.ground.audit.requests()?;
        requests.retain(|request| {
            let reads = ["get", "list", "watch"].contains(&request.verb.as_str());
            let about = !["leases", "selfsubjectaccessreviews", "events"]
                .contains(&request.resource.as_str());
            users.contains(&request.user.as_str()) && !reads && about
        });
        let shown = requests
            .iter()
            .map(|r| format!("{} {} {}", r.verb, r.resource, r.name));
        Ok(shown.collect())
    };
    let before = writes()?;
    let looks = operator.reconciles("NodePool").await?;
    until("two more looks", async || {
        Ok((operator.reconciles("NodePool").await? >= looks + 2.0).then_some(()))
    })
    .await?;
    let after = writes()?;
    ensure!(after.len() == before.len(), "{:?}", &after[before.len()..]);
    Ok(())
}

#[test]
fn machines_are_drained_before_they_go() {
    run("drain", async |field| {
        let spec = |names: &[&str]| {
            let machines: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
            json!({"machines": machines, "drain": {"timeout": "15s"}})
        };
        field.pool("small", spec(&["d-1", "d-2"])).await?;
        for name in ["d-1", "d-2"] {
            let token = field.token_of(name).await?;
            join(field, name, &token).await?;
        }
        field
            .condition("small", "Ready", "True", "AsDesired")
            .await?;
        let pods: Api<Pod> = field.api("default");
        budget(field).await?;
        pod(field, "kept", "d-2", json!({"app": "budgeted"})).await?;

        let shorter = json!({"spec": {"machines": [{"name": "d-1"}]}});
        field.space.patch::<NodePool>("small", &shorter).await?;
        let text = field
            .condition("small", "Reconciling", "True", "Draining")
            .await?;
        ensure!(
            text.contains("d-2: default/kept may not be evicted"),
            "{text}"
        );
        let nodes: Api<Node> = Api::all(field.space.client.clone());
        let cordoned = nodes
            .get("d-2")
            .await?
            .spec
            .and_then(|spec| spec.unschedulable);
        ensure!(cordoned == Some(true));
        let name = format!("{CLUSTER}-d-2");
        ensure!(
            field.space.api::<Secret>().get_opt(&name).await?.is_none(),
            "still bootable"
        );
        ensure!(
            pods.get("kept")
                .await?
                .metadata
                .deletion_timestamp
                .is_none()
        );

        // The budget counts until the deadline, and no longer.
        let began = Instant::now();
        until("the deadline", async || {
            let pod = pods.get("kept").await?;
            Ok(pod.metadata.deletion_timestamp.map(drop))
        })
        .await?;
        println!(
            "deleted {:.1} s later, at the deadline",
            began.elapsed().as_secs_f64()
        );
        ensure!(
            nodes.get_opt("d-2").await?.is_some(),
            "the pod has not ended"
        );
        // As a kubelet that has stopped it.
        let now = DeleteParams::default().grace_period(0);
        pods.delete("kept", &now).await?;
        until("the Node to go", async || {
            Ok(nodes.get_opt("d-2").await?.is_none().then_some(()))
        })
        .await?;
        field
            .condition("small", "Ready", "True", "AsDesired")
            .await?;

        // Scaled down and up again by `/scale`: what is on its way out comes back.
        pod(field, "again", "d-1", json!({"app": "budgeted"})).await?;
        field
            .space
            .patch::<NodePool>("small", &json!({"spec": {"replicas": 0}}))
            .await?;
        field
            .condition("small", "Reconciling", "True", "Draining")
            .await?;
        field
            .space
            .patch::<NodePool>("small", &json!({"spec": {"replicas": 1}}))
            .await?;
        until("the Node to be taken back", async || {
            let spec = nodes.get("d-1").await?.spec.unwrap_or_default();
            Ok((spec.unschedulable != Some(true)).then_some(()))
        })
        .await?;
        deleted_pool(field, &nodes, &pods).await
    });
}

/// The pool waits for its Nodes; nothing of it is left then.
async fn deleted_pool(field: &Field<'_>, nodes: &Api<Node>, pods: &Api<Pod>) -> Result<()> {
    let pools: Api<NodePool> = field.space.api();
    pools.delete("small", &DeleteParams::default()).await?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    ensure!(
        pools.get_opt("small").await?.is_some(),
        "gone before its Node"
    );
    ensure!(nodes.get_opt("d-1").await?.is_some());
    let budgets: Api<PodDisruptionBudget> = field.api("default");
    budgets.delete("budgeted", &DeleteParams::default()).await?;
    until("the eviction", async || {
        Ok(pods
            .get("again")
            .await?
            .metadata
            .deletion_timestamp
            .map(drop))
    })
    .await?;
    pods.delete("again", &DeleteParams::default().grace_period(0))
        .await?;
    until("the pool to go", async || {
        Ok(pools.get_opt("small").await?.is_none().then_some(()))
    })
    .await?;
    ensure!(nodes.get_opt("d-1").await?.is_none());
    ensure!(field.tokens().await?.is_empty());
    until("its Secrets to go", async || {
        let params = ListParams::default().labels("seedbed.dev/node-pool=small");
        let left = field.space.api::<Secret>().list(&params).await?;
        Ok(left.items.is_empty().then_some(()))
    })
    .await
}

async fn budget(field: &Field<'_>) -> Result<()> {
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "budgeted"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "budgeted"}}},
    }))?;
    let api: Api<PodDisruptionBudget> = field.api("default");
    api.create(&PostParams::default(), &budget).await?;
    Ok(())
}

/// A pod that runs on a Node, as far as the API server knows.
async fn pod(field: &Field<'_>, name: &str, node: &str, labels: Value) -> Result<()> {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "x", "image": "x"}]},
    }))?;
    let api: Api<Pod> = field.api("default");
    api.create(&PostParams::default(), &pod).await?;
    let mut made = api.get(name).await?;
    made.status = serde_json::from_value(json!({
        "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
    }))?;
    api.replace_status(name, &PostParams::default(), &made)
        .await?;
    Ok(())
}

#[test]
fn a_pool_does_not_outlive_its_control_plane() {
    run("orphans", async |field| {
        field
            .pool("left", json!({"machines": [{"name": "x-1"}]}))
            .await?;
        field.token_of("x-1").await?;
        let planes: Api<seedbed::crd::ControlPlane> = field.space.api();
        planes.delete(CLUSTER, &DeleteParams::default()).await?;
        let text = field
            .condition("left", "Stalled", "True", "MissingInput")
            .await?;
        ensure!(text.contains("there is no ControlPlane \"prod\""), "{text}");
        let pools: Api<NodePool> = field.space.api();
        pools.delete("left", &DeleteParams::default()).await?;
        until("the pool to go", async || {
            Ok(pools.get_opt("left").await?.is_none().then_some(()))
        })
        .await?;
        // For the end of the test: its token is left to its expiration.
        let ids: BTreeSet<String> = field.tokens().await?.into_keys().collect();
        let secrets: Api<Secret> = field.api("kube-system");
        for id in ids {
            let name = format!("bootstrap-token-{id}");
            secrets.delete(&name, &DeleteParams::default()).await?;
        }
        let made = json!({
            "apiVersion": "seedbed.dev/v1alpha1", "kind": "ControlPlane",
            "metadata": {"name": CLUSTER},
            "spec": {
                "version": "v1.37.1", "replicas": 1,
                "machines": [{"name": "cp-1", "address": "198.18.0.11"}],
            },
        });
        field.space.control_plane(made).await?;
        Ok(())
    });
}
