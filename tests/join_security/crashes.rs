//! Tokens of many pools are replaced while the operator is killed again and again: no user data
//! ever names a token that is not there.
//!
//! A replacement becomes due when the lifetime in the spec is raised to more than twice of what is
//! left. So every token lives for minutes at least, and none can expire because an operator that
//! lives for seconds has not come to it: whatever is missing was made or taken away in a wrong order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use futures::{StreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::ListParams;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use seedbed::crd::NodePool;
use serde_json::json;

use super::field::{Field, run, token_in};

const POOLS: usize = 200;
/// Each is more than twice the one before.
const TTLS: [&str; 6] = ["10m", "21m", "45m", "2h", "5h", "12h"];
/// No further replacement begins after this time of killing, once every token was replaced twice.
const LONG: Duration = Duration::from_secs(60);
/// Longest time of one replacement of all.
const ROUND: Duration = Duration::from_secs(240);

#[test]
fn no_user_data_names_a_token_that_is_not_there() {
    let seed: u64 = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    println!("repeat with SEED={seed}");
    run("crashes", async |field| {
        let mut random = StdRng::seed_from_u64(seed);
        for_all(async |name| {
            let spec = json!({"maxNodes": 1, "token": {"ttl": TTLS[0]}});
            field.pool(&name, spec).await.map(drop)
        })
        .await?;
        let (watch, kills) = (Watch::default(), AtomicUsize::new(0));
        let working = async {
            replaced(field, &BTreeMap::new()).await?;
            // Killing never ends by itself.
            tokio::select! {
                rounds = replace(field) => rounds,
                failed = kill(field, &mut random, &kills) => failed,
            }
        };
        let rounds: usize = tokio::select! {
            rounds = working => rounds?,
            failed = watch.watch(field) => failed?,
        };
        // It may just have been killed.
        field.restart(Duration::ZERO).await?;
        watch.look(field).await?;
        let Watch { seen, looks, .. } = watch;
        let (seen, looks) = (seen.into_inner().unwrap().len(), looks.into_inner());
        println!(
            "{POOLS} pools, {rounds} replacements of all, {} kills; {seen} tokens seen in user \
             data by {looks} looks",
            kills.into_inner(),
        );
        ensure!(rounds >= 2 && seen > 2 * POOLS && looks > 50);
        Ok(())
    });
}

fn names() -> impl Iterator<Item = String> {
    (0..POOLS).map(|number| format!("p-{number}"))
}

async fn for_all(work: impl AsyncFn(String) -> Result<()>) -> Result<()> {
    let work = &work;
    let done = stream::iter(names()).map(|name| work(name));
    let done: Vec<_> = done.buffer_unordered(16).collect().await;
    done.into_iter().collect()
}

/// Makes all tokens due, waits until all are replaced, and again; how often.
async fn replace(field: &Field<'_>) -> Result<usize> {
    let began = Instant::now();
    let mut rounds = 0;
    for ttl in &TTLS[1..] {
        let before = ids(field).await?;
        let longer = json!({"spec": {"token": {"ttl": ttl}}});
        for_all(async |name| {
            field
                .space
                .patch::<NodePool>(&name, &longer)
                .await
                .map(drop)
        })
        .await?;
        replaced(field, &before).await?;
        rounds += 1;
        println!(
            "{rounds}: all replaced, {:.0} s",
            began.elapsed().as_secs_f64()
        );
        if rounds >= 2 && began.elapsed() > LONG {
            break;
        }
    }
    Ok(rounds)
}

/// Waits until the user data of every pool names another token than before.
async fn replaced(field: &Field<'_>, before: &BTreeMap<String, String>) -> Result<()> {
    let began = Instant::now();
    loop {
        let now = ids(field).await?;
        let new = now
            .iter()
            .filter(|(secret, id)| before.get(*secret) != Some(*id));
        let new = new.count();
        if new == POOLS {
            return Ok(());
        }
        let took = began.elapsed();
        ensure!(
            took < ROUND,
            "{new} of {POOLS} tokens are new after {took:?}"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Kills it every few seconds, with a new one at once; for ever.
async fn kill(field: &Field<'_>, random: &mut StdRng, kills: &AtomicUsize) -> Result<usize> {
    loop {
        let pause = Duration::from_millis(random.random_range(500..8_000));
        tokio::time::sleep(pause).await;
        field.restart(Duration::ZERO).await?;
        kills.fetch_add(1, Ordering::Relaxed);
    }
}

fn configs() -> ListParams {
    ListParams::default().labels("seedbed.dev/content=machine-config,seedbed.dev/node-pool")
}

/// The id of the token that each Secret says it names.
async fn ids(field: &Field<'_>) -> Result<BTreeMap<String, String>> {
    let list = field
        .space
        .api::<Secret>()
        .list_metadata(&configs())
        .await?;
    let named = list.items.iter().filter_map(|secret| {
        let id = secret.annotations().get("seedbed.dev/token-id")?;
        (!id.is_empty()).then(|| (secret.name_any(), id.clone()))
    });
    Ok(named.collect())
}

/// UID and resource version of a Secret.
type Version = (Option<String>, Option<String>);

/// Looks without a pause.
#[derive(Default)]
struct Watch {
    /// The token in the user data of each Secret.
    parsed: Mutex<BTreeMap<Version, Option<String>>>,
    /// Tokens that user data named: when each was seen last, and when it should have expired.
    seen: Mutex<BTreeMap<String, (Instant, String)>>,
    looks: AtomicUsize,
}

impl Watch {
    async fn watch(&self, field: &Field<'_>) -> Result<usize> {
        loop {
            self.look(field).await?;
            // The machine is the operator's as well.
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// First what is named, then what is there: a token that is named lives on for one TTL. One
    /// that is missing is a failure if it is named still.
    async fn look(&self, field: &Field<'_>) -> Result<()> {
        let named = self.named(field).await?;
        let live = field.tokens().await?;
        let mut missing = BTreeSet::new();
        for (secret, token) in named {
            let (id, value) = token.split_once('.').context("a token without a dot")?;
            let Some(found) = live.get(id).and_then(|found| found.data.as_ref()) else {
                missing.insert((secret, token));
                continue;
            };
            let same = found["token-secret"].0 == value.as_bytes();
            ensure!(same, "{id} of {secret} is another");
            let expiration = String::from_utf8(found["expiration"].0.clone())?;
            let mut seen = self.seen.lock().unwrap();
            seen.insert(id.to_owned(), (Instant::now(), expiration));
        }
        self.looks.fetch_add(1, Ordering::Relaxed);
        if missing.is_empty() {
            return Ok(());
        }
        let named = self.named(field).await?;
        let Some((secret, token)) = missing.intersection(&named).next() else {
            return Ok(());
        };
        let id = super::field::id(token);
        let known = match self.seen.lock().unwrap().get(id) {
            None => "it was never seen".to_owned(),
            Some((at, expiration)) => {
                let ago = at.elapsed().as_secs_f64();
                format!("it was there {ago:.1} s ago, to expire at {expiration}")
            }
        };
        bail!("{secret} names token {id}, which is not there; {known}")
    }

    /// What user data names, with the name of its Secret.
    async fn named(&self, field: &Field<'_>) -> Result<BTreeSet<(String, String)>> {
        let secrets = field.space.api::<Secret>().list(&configs()).await?;
        let mut parsed = self.parsed.lock().unwrap();
        let named = secrets.items.iter().filter_map(|secret| {
            let version = (secret.uid(), secret.resource_version());
            let token = parsed.entry(version).or_insert_with(|| token_in(secret));
            Some((secret.name_any(), token.clone()?))
        });
        Ok(named.collect())
    }
}
