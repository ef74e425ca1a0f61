//! What the seed lacks at first, what it loses in between, and objects that it should never have
//! taken.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::operator::Operator;
use super::operator_ground::{Ground, PERMISSIONS_ROLE, Space, install, role, until, until_or};
use super::operator_objects::{Constancy, control_plane, publish};
use super::operator_scan::no_secret_is_told;

/// Leases that outlast a restart of the API server: losing one is another test's matter.
const ARGS: [&str; 4] = ["--lease-duration", "100s", "--lease-renew-deadline", "90s"];

#[test]
fn the_operator_outlives_what_its_seed_lacks() {
    Ground::bare("faults-seed")
        .expect("a seed")
        .run_here(async |ground| {
            let space = Space::new(ground, "clusters").await?;
            let operator = waits_for_its_prerequisites(&space).await?;
            one_bad_object_stops_no_other(&space, &operator).await?;
            the_api_server_restarts(&space, &operator).await?;
            no_secret_is_told(&space, &[&operator]).await?;
            operator.stop().await
        });
}

/// Each missing kind and verb is named, and as soon as they are there it goes on by itself.
async fn waits_for_its_prerequisites(space: &Space<'_>) -> Result<Operator> {
    let mut less = role(PERMISSIONS_ROLE);
    for rule in less.rules.iter_mut().flatten() {
        let resources = rule.resources.clone().unwrap_or_default();
        match resources.first().map(String::as_str) {
            Some("secrets") => rule
                .verbs
                .retain(|verb| verb != "create" && verb != "watch"),
            Some("leases") => rule.verbs.retain(|verb| verb != "update"),
            _ => {}
        }
    }
    let roles = space.api::<Role>();
    let replace = async |role: &Role| {
        roles
            .patch(
                PERMISSIONS_ROLE,
                &PatchParams::default(),
                &Patch::Merge(role),
            )
            .await
    };
    replace(&less).await?;
    let operator = Operator::start(space, "one", &ARGS).await?;
    let named = async |texts: &[&str]| {
        until_or(
            "what is missing to be named",
            async || {
                let log = operator.log()?;
                Ok(texts.iter().all(|text| log.contains(text)).then_some(()))
            },
            async || operator.log(),
        )
        .await
    };
    named(&[
        "CustomResourceDefinition controlplanes.seedbed.dev is not installed",
        "CustomResourceDefinition etcdclusters.seedbed.dev is not installed",
        "CustomResourceDefinition nodepools.seedbed.dev is not installed",
        "RBAC does not allow watch, create on secrets in namespace clusters",
        "RBAC does not allow update on leases.coordination.k8s.io in namespace clusters",
    ])
    .await?;
    let (code, body) = operator.get("/readyz").await?;
    ensure!(
        code == 503 && body.contains("start-up check"),
        "{code} {body}"
    );
    assert_eq!(operator.get("/healthz").await?.0, 200);

    let pid = operator.process().pid();
    install(&space.client).await?;
    assert_eq!(operator.get("/readyz").await?.0, 503);
    replace(&role(PERMISSIONS_ROLE)).await?;
    operator.ready().await?;
    assert_eq!(operator.process().pid(), pid);
    Ok(operator)
}

/// Two of ten objects are bad in different ways; so is an EtcdCluster. They say so, keep what their
/// status held, and the others are published.
async fn one_bad_object_stops_no_other(space: &Space<'_>, operator: &Operator) -> Result<()> {
    let named = |n: &str| format!("cp-{n}");
    publish(space, &[named("broken"), named("broken-etcd")]).await?;
    let founding = space.founding("cp-broken-etcd").await?;
    let before = space.raw_control_plane("cp-broken").await?;
    relax(space, "controlplanes.seedbed.dev").await?;
    relax(space, "etcdclusters.seedbed.dev").await?;
    // The API server takes a changed schema a moment later.
    let broken = json!({"spec": {"version": 7}});
    let taken = async |kind: &str, name: &str| {
        until("the relaxed schema", async || {
            let patched = space.raw_patch(kind, name, &broken).await;
            Ok(patched.is_ok().then_some(()))
        })
        .await
    };
    taken("ControlPlane", "cp-broken").await?;
    taken("EtcdCluster", "cp-broken-etcd").await?;
    let mut hardened = control_plane("cp-hardened");
    hardened["spec"]["profile"] = json!("Hardened");
    space.control_plane(hardened).await?;
    let good: Vec<String> = (1..=7).map(|n| named(&n.to_string())).collect();
    publish(space, &good).await?;

    space
        .condition("cp-hardened", "Stalled", "True", "NotYetSupported")
        .await?;
    let message = space
        .condition("cp-broken", "Stalled", "True", "InvalidObject")
        .await?;
    ensure!(message.contains("integer `7`"), "{message}");
    let after = space.raw_control_plane("cp-broken").await?;
    ensure!(
        before["status"]["machines"] == after["status"]["machines"],
        "rows were dropped"
    );
    space
        .event("ControlPlane", "cp-broken", "InvalidObject")
        .await?;
    space
        .etcd_condition("cp-broken-etcd", "Stalled", "True", "InvalidObject")
        .await?;
    let etcd = space.raw("EtcdCluster", "cp-broken-etcd").await?;
    let kept = &etcd["status"]["ledger"]["founding"];
    ensure!(
        *kept == serde_json::to_value(&founding)?,
        "the ledger is gone: {etcd:#}"
    );
    let metric = operator.metric("seedbed_leader").await?;
    assert_eq!(metric, 1.0, "it still leads");

    // Told once: another process finds nothing to write.
    let versions = async || -> Result<[Value; 2]> {
        let one = space.raw("ControlPlane", "cp-broken").await?;
        let other = space.raw("EtcdCluster", "cp-broken-etcd").await?;
        Ok([one, other].map(|object| object["metadata"]["resourceVersion"].clone()))
    };
    let told = versions().await?;
    let touch = json!({"metadata": {"annotations": {"example.net/touched": "1"}}});
    space
        .patch::<k8s_openapi::api::core::v1::Secret>("cp-broken-sa", &touch)
        .await?;
    let planes = operator.reconciles("ControlPlane").await?;
    until("more reconciles", async || {
        Ok((operator.reconciles("ControlPlane").await? > planes + 2.0).then_some(()))
    })
    .await?;
    ensure!(told == versions().await?, "written again");

    // Whole again, by hand.
    space
        .raw_patch(
            "ControlPlane",
            "cp-broken",
            &json!({"spec": {"version": "v1.37.1"}}),
        )
        .await?;
    space
        .raw_patch(
            "EtcdCluster",
            "cp-broken-etcd",
            &json!({"spec": {"version": "3.7.0"}}),
        )
        .await?;
    install(&space.client).await?;
    space
        .condition("cp-broken", "Stalled", "False", "NotStalled")
        .await?;
    space
        .etcd_condition("cp-broken-etcd", "Stalled", "False", "NotStalled")
        .await?;
    assert_eq!(space.founding("cp-broken-etcd").await?, founding);
    Ok(())
}

/// Makes a kind take any spec, as an older or a foreign definition of it would.
async fn relax(space: &Space<'_>, name: &str) -> Result<()> {
    let crds: Api<CustomResourceDefinition> = Api::all(space.client.clone());
    let mut crd = serde_json::to_value(crds.get(name).await?)?;
    let schema = crd
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
        .context("schema")?;
    schema["properties"]["spec"] = json!({
        "type": "object", "x-kubernetes-preserve-unknown-fields": true,
    });
    schema
        .as_object_mut()
        .context("schema")?
        .remove("x-kubernetes-validations");
    let relaxed: CustomResourceDefinition = serde_json::from_value(crd)?;
    crds.replace(name, &Default::default(), &relaxed).await?;
    Ok(())
}

/// Crashed and restarted in the middle of the publication of several control planes: requests
/// fail, the operator does not.
async fn the_api_server_restarts(space: &Space<'_>, operator: &Operator) -> Result<()> {
    let seed = &space.ground.seed;
    let constancy = Constancy::start(space);
    let names: Vec<String> = (1..=6).map(|n| format!("restart-{n}")).collect();
    for name in &names {
        space.control_plane(control_plane(name)).await?;
    }
    let first = async || {
        Ok(space
            .secrets()
            .await?
            .contains_key("restart-1-ca")
            .then_some(()))
    };
    until("the first Secret", first).await?;
    seed.kill_api_server()?;
    until("a request to fail", async || {
        let failed = operator.metric("seedbed_reconcile_failures_total").await?;
        let watches = operator.metric("seedbed_watch_errors_total").await?;
        Ok((failed + watches >= 1.0).then_some(()))
    })
    .await?;
    seed.start_api_server().await?;
    for name in &names {
        space.published(name).await?;
        space.founding(name).await?;
    }
    operator.process().check()?;
    constancy.check()?;
    Ok(())
}
