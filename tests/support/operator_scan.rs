//! Looks for private keys in everything that people and collectors may read.
#![allow(
    dead_code,
    reason = "every test that includes this module uses a part of it"
)]

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ListParams;
use seedbed::crd::{ControlPlane, EtcdCluster, NodePool};

use super::operator::Operator;
use super::operator_ground::Space;

/// Shortest piece of a key that is looked for, in characters.
const PIECE: usize = 40;

/// Searches logs, events, objects with their status, ConfigMaps and metrics of a space.
pub async fn no_secret_is_told(space: &Space<'_>, operators: &[&Operator]) -> Result<()> {
    let needles = needles(&space.secret_data().await?);
    ensure!(
        needles.len() > 20,
        "only {} pieces to look for",
        needles.len()
    );
    for (place, text) in places(space, operators).await? {
        ensure!(!text.is_empty(), "{place} is empty: nothing was looked at");
        if let Some(at) = found(&text, &needles) {
            // Not the text itself: this goes to logs as well.
            anyhow::bail!("{place} holds a private key at byte {at}");
        }
    }
    Ok(())
}

async fn places(space: &Space<'_>, operators: &[&Operator]) -> Result<Vec<(String, String)>> {
    let all = ListParams::default();
    let planes = space.api::<ControlPlane>().list(&all).await?;
    let etcds = space.api::<EtcdCluster>().list(&all).await?;
    let pools = space.api::<NodePool>().list(&all).await?;
    let maps = space.api::<ConfigMap>().list(&all).await?;
    let labels: Vec<_> = space
        .secrets()
        .await?
        .into_values()
        .map(|secret| secret.metadata)
        .collect();
    let mut places = vec![
        (
            "events".to_owned(),
            serde_json::to_string(&space.events().await?)?,
        ),
        ("ControlPlanes".to_owned(), serde_json::to_string(&planes)?),
        ("EtcdClusters".to_owned(), serde_json::to_string(&etcds)?),
        ("NodePools".to_owned(), serde_json::to_string(&pools)?),
        ("ConfigMaps".to_owned(), serde_json::to_string(&maps)?),
        (
            "metadata of Secrets".to_owned(),
            serde_json::to_string(&labels)?,
        ),
    ];
    for operator in operators {
        places.push((
            format!("metrics of {}", operator.user()),
            operator.get("/metrics").await?.1,
        ));
    }
    let logs = space.ground.seed.state().join("logs");
    let ours = format!("operator-{}-", space.name);
    for entry in std::fs::read_dir(&logs)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&ours) {
            let text = std::fs::read(entry.path()).context(name.clone())?;
            let text = String::from_utf8_lossy(&text).into_owned();
            ensure!(text.contains("DEBUG"), "{name} has no debug lines");
            places.push((name, text));
        }
    }
    Ok(places)
}

/// Pieces of every value that holds a private key: of its text, and of its text in base64.
fn needles(secrets: &BTreeMap<String, BTreeMap<String, Vec<u8>>>) -> BTreeSet<Vec<u8>> {
    let values = secrets.values().flatten();
    let private = values.filter(|(key, _)| key.ends_with(".key") || *key == "value");
    let mut needles = BTreeSet::new();
    for (_, value) in private {
        for line in value.split(|byte| *byte == b'\n') {
            // What a kubeconfig tells of certificates is no secret.
            let certificate = line.windows(17).any(|w| w == b"certificate-data:");
            let last = line
                .split(|byte| *byte == b' ')
                .next_back()
                .unwrap_or_default();
            let encoded = last
                .iter()
                .all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(b));
            if !certificate && encoded && last.len() >= PIECE {
                needles.insert(last[..PIECE].to_vec());
                needles.insert(last[last.len() - PIECE..].to_vec());
            }
        }
        let encoded = STANDARD.encode(value).into_bytes();
        let middle = encoded.len() / 2;
        if encoded.len() >= 2 * PIECE {
            needles.insert(encoded[..PIECE].to_vec());
            needles.insert(encoded[middle..middle + PIECE].to_vec());
        }
    }
    needles
}

fn found(text: &str, needles: &BTreeSet<Vec<u8>>) -> Option<usize> {
    // As a PEM block, and as bytes the way `Debug` shows them ("BEGIN").
    for sign in ["PRIVATE KEY", "66, 69, 71, 73, 78"] {
        if let Some(at) = text.find(sign) {
            return Some(at);
        }
    }
    text.as_bytes()
        .windows(PIECE)
        .position(|window| needles.contains(window))
}

#[test]
fn the_scanner_finds_what_it_looks_for() {
    let key = format!(
        "-----BEGIN PRIVATE KEY-----\n{}\n",
        "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg".repeat(2)
    );
    let data = BTreeMap::from([("tls.key".to_owned(), key.clone().into_bytes())]);
    let needles = needles(&BTreeMap::from([("ca".to_owned(), data)]));
    let line = key.lines().nth(1).expect("a line");
    for told in [
        key.clone(),
        format!("x {line} y"),
        STANDARD.encode(&key),
        format!("{:?}", key.as_bytes()),
    ] {
        assert!(found(&told, &needles).is_some(), "{told}");
    }
    assert_eq!(found("nothing of it", &needles), None);
}
