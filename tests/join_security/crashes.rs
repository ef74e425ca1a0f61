//! Tokens of many pools are replaced while the operator is killed again and again: no user data
//! ever names a token that is not there.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ListParams;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;

use super::field::{CLUSTER, Field, run, token_in};
use super::operator_ground::until;

/// As many as an operator can look at in a few seconds, which is less without optimisation.
const POOLS: usize = if cfg!(debug_assertions) { 60 } else { 200 };
/// Every token is replaced after half of it. Not the shortest that is allowed: an operator that
/// lives for seconds only needs several lives to look at every pool.
const TTL: &str = "2m";
/// Every token is replaced twice.
const LONG: Duration = Duration::from_secs(150);

#[test]
fn no_user_data_names_a_token_that_is_not_there() {
    let seed: u64 = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    println!("repeat with SEED={seed}");
    run("crashes", async |field| {
        let mut random = StdRng::seed_from_u64(seed);
        let names = (0..POOLS).map(|number| format!("p-{number}"));
        let made: Vec<_> = stream::iter(names)
            .map(|name| async move {
                let spec = json!({"maxNodes": 1, "token": {"ttl": TTL}});
                field.pool(&name, spec).await
            })
            .buffer_unordered(16)
            .collect()
            .await;
        for made in made {
            made?;
        }
        let done = AtomicBool::new(false);
        let (looks, seen) = (AtomicUsize::new(0), std::sync::Mutex::new(BTreeSet::new()));
        let watching = async {
            while !done.load(Ordering::Relaxed) {
                look(field, &seen).await?;
                looks.fetch_add(1, Ordering::Relaxed);
                // The machine is the operator's as well.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Ok(())
        };
        let killing = async {
            let killed = kill(field, &mut random).await;
            done.store(true, Ordering::Relaxed);
            killed
        };
        let (watched, killed): (Result<()>, Result<usize>) = tokio::join!(watching, killing);
        watched?;
        let (kills, seen) = (killed?, seen.into_inner().unwrap());
        println!(
            "{kills} kills, {} looks, {} tokens seen in the user data of {POOLS} pools",
            looks.into_inner(),
            seen.len()
        );
        ensure!(
            seen.len() > 2 * POOLS,
            "only {} tokens were seen",
            seen.len()
        );
        until("every pool to be published again", async || {
            let published = published(field).await?;
            Ok((published.len() == POOLS).then_some(()))
        })
        .await
    });
}

/// Kills it every few seconds, with a new one at once.
async fn kill(field: &Field<'_>, random: &mut StdRng) -> Result<usize> {
    until("every pool to be published", async || {
        Ok((published(field).await?.len() == POOLS).then_some(()))
    })
    .await?;
    let began = Instant::now();
    let mut kills = 0;
    while began.elapsed() < LONG {
        let pause = Duration::from_millis(random.random_range(2000..10_000));
        tokio::time::sleep(pause).await;
        field.restart(Duration::ZERO).await?;
        kills += 1;
    }
    Ok(kills)
}

/// What user data names, by the name of its Secret.
async fn published(field: &Field<'_>) -> Result<Vec<(String, String)>> {
    let params =
        ListParams::default().labels("seedbed.dev/content=machine-config,seedbed.dev/node-pool");
    let secrets = field.space.api::<Secret>().list(&params).await?;
    let named = secrets
        .items
        .iter()
        .filter_map(|secret| Some((secret.name_any(), token_in(secret)?)));
    Ok(named.collect())
}

/// First what is named, then what is there: a token that is named lives on for one TTL.
async fn look(field: &Field<'_>, seen: &std::sync::Mutex<BTreeSet<String>>) -> Result<()> {
    let named = published(field).await?;
    let live = field.tokens().await?;
    for (secret, token) in named {
        let id = super::field::id(&token).to_owned();
        ensure!(
            live.contains_key(&id),
            "{secret} names token {id}, which {CLUSTER} does not have"
        );
        let whole = live[&id]
            .data
            .as_ref()
            .map(|data| data["token-secret"].0.clone());
        ensure!(
            whole.as_deref() == token.split('.').nth(1).map(str::as_bytes),
            "{id} is another"
        );
        seen.lock().unwrap().insert(id);
    }
    Ok(())
}
