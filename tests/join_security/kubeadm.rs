//! Tokens as the real kubeadm makes them, and what the real controller manager does with them.

use std::process::Command;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use seedbed::tokens::Token;
use seedbed::tokens::format::{KUBEADM_GROUP, NODE_POOL_GROUP, Purpose, live, secret};
use serde_json::json;

use super::field::{CLUSTER, Field, id, run};
use super::operator_ground::until;
use super::requests::{Answer, Ask, answer};
use super::testbed::{self, Component, progress};

#[test]
fn tokens_and_join_lines_are_those_of_kubeadm() {
    run("kubeadm", async |field| {
        the_same_bytes(field).await?;
        a_join_line_works(field).await?;
        the_token_cleaner_cleans(field).await
    });
}

/// Byte for byte what `kubeadm token create` stores for the same token.
async fn the_same_bytes(field: &Field<'_>) -> Result<()> {
    let program = testbed::build::program(Component::Kubernetes, "kubeadm")?;
    let secrets: Api<Secret> = field.api("kube-system");
    for (text, group, signing, description) in [
        (
            "aaaaaa.0123456789abcdef",
            NODE_POOL_GROUP,
            false,
            "Seedbed NodePool a/b",
        ),
        (
            "bbbbbb.0123456789abcdef",
            KUBEADM_GROUP,
            true,
            "seedbed join-command",
        ),
        ("cccccc.0123456789abcdef", KUBEADM_GROUP, true, ""),
    ] {
        let usages = if signing {
            "signing,authentication"
        } else {
            "authentication"
        };
        let mut create = Command::new(&program);
        create
            .arg("--kubeconfig")
            .arg(field.space.ground.seed.admin_kubeconfig())
            .args(["token", "create", text, "--ttl", "15m"])
            .args(["--groups", group, "--usages", usages])
            .args(["--description", description]);
        progress::output(&mut create)?;
        let token: Token = text.parse()?;
        let purpose = Purpose {
            description,
            group,
            signing,
        };
        let theirs = secrets
            .get(&format!("bootstrap-token-{}", token.id()))
            .await?;
        let seen = live(&theirs, &token, purpose);
        ensure!(
            seen.intact,
            "{:?}",
            theirs.data.map(|data| data.into_keys().collect::<Vec<_>>())
        );
        let ours = secret(&token, seen.expires.context("an expiration")?, purpose);
        ensure!(
            ours.data == theirs.data && ours.type_ == theirs.type_,
            "{description}: other bytes"
        );
        ensure!(ours.metadata.labels == theirs.metadata.labels);
        ensure!(ours.metadata.annotations == theirs.metadata.annotations);
        secrets
            .delete(&theirs.name_any(), &DeleteParams::default())
            .await?;
    }
    Ok(())
}

/// The printed line is what `kubeadm join` needs: the cluster is signed with the token, the CA's pin
/// is kubeadm's own, and kubeadm's group gets its certificates without us.
async fn a_join_line_works(field: &Field<'_>) -> Result<()> {
    let seed = &field.space.ground.seed;
    field
        .pool(
            "short",
            json!({"machines": [{"name": "s-1"}], "token": {"ttl": "1h"}}),
        )
        .await?;
    field.token_of("s-1").await?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedbed"));
    command.env("KUBECONFIG", seed.admin_kubeconfig()).args([
        "join-command",
        CLUSTER,
        "-n",
        &field.space.name,
        "--pool",
        "short",
    ]);
    let line = progress::output(&mut command)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let [
        "kubeadm",
        "join",
        server,
        "--token",
        token,
        "--discovery-token-ca-cert-hash",
        pin,
    ] = words[..]
    else {
        anyhow::bail!("another line: {} words", words.len());
    };
    let config = seed.client_config().await?;
    ensure!(
        config
            .cluster_url
            .authority()
            .map(ToString::to_string)
            .as_deref()
            == Some(server)
    );
    ensure!(pin == kubeadms_pin(field).await?, "{pin}");

    let secrets: Api<Secret> = field.api("kube-system");
    let stored = secrets
        .get(&format!("bootstrap-token-{}", id(token)))
        .await?;
    let expires = stored.data.context("data")?["expiration"].0.clone();
    let expires: jiff::Timestamp = String::from_utf8(expires)?.parse()?;
    let left = expires.duration_since(jiff::Timestamp::now()).as_secs();
    ensure!((3500..=3600).contains(&left), "valid for {left} s");

    let maps: Api<ConfigMap> = field.api("kube-public");
    until("cluster-info to be signed", async || {
        let data = maps.get("cluster-info").await?.data.unwrap_or_default();
        let key = format!("jws-kubeconfig-{}", id(token));
        Ok(data.contains_key(&key).then_some(()))
    })
    .await?;
    let client = field.client_with(token).await?;
    let request = Ask::kubelet("by-hand").send(&client).await?;
    ensure!(answer(field, &request).await? == Answer::Issued);

    let mut wrong = Command::new(env!("CARGO_BIN_EXE_seedbed"));
    wrong.env("KUBECONFIG", seed.admin_kubeconfig()).args([
        "join-command",
        "nobody",
        "-n",
        &field.space.name,
    ]);
    let wrong = wrong.output()?;
    let text = String::from_utf8(wrong.stderr)?;
    ensure!(
        !wrong.status.success() && text.contains("there is no ControlPlane \"nobody\""),
        "{text}"
    );
    Ok(())
}

/// `kubeadm token create --print-join-command` on the same cluster.
async fn kubeadms_pin(field: &Field<'_>) -> Result<String> {
    let program = testbed::build::program(Component::Kubernetes, "kubeadm")?;
    let mut create = Command::new(program);
    create
        .arg("--kubeconfig")
        .arg(field.space.ground.seed.admin_kubeconfig())
        .args(["token", "create", "--print-join-command"]);
    let line = progress::output(&mut create)?;
    let words: Vec<&str> = line.split_whitespace().collect();
    let pin = words.last().context("a pin")?;
    Ok((*pin).to_owned())
}

/// A token of ours that has expired goes without us.
async fn the_token_cleaner_cleans(field: &Field<'_>) -> Result<()> {
    let token: Token = "dddddd.0123456789abcdef".parse()?;
    let purpose = Purpose {
        description: "expired",
        group: NODE_POOL_GROUP,
        signing: false,
    };
    let past = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(1);
    let secrets: Api<Secret> = field.api("kube-system");
    secrets
        .create(&PostParams::default(), &secret(&token, past, purpose))
        .await?;
    until("the token cleaner", async || {
        let found = secrets.get_opt("bootstrap-token-dddddd").await?;
        Ok(found.is_none().then_some(()))
    })
    .await
}
