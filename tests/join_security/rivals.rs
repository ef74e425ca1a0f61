//! Two pools that claim one machine at the same instant: one has it, the other is told, and no
//! token is left that no user data names. Nor by one that goes while it is begun.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::DeleteParams;
use seedbed::crd::NodePool;
use serde_json::{Value, json};

use super::field::{CLUSTER, Field, id, run};
use super::operator_ground::until_or;

/// Who is first is a matter of milliseconds: so several at once.
const PAIRS: usize = 8;

#[test]
fn two_pools_that_claim_one_machine_at_once_leave_no_stray_token() {
    run("rivals", async |field| {
        field.operator().freeze()?;
        for pair in 0..PAIRS {
            for side in ["a", "b"] {
                let machines =
                    json!([{"name": format!("x-{pair}")}, {"name": format!("{side}-{pair}")}]);
                field
                    .pool(
                        &format!("pool-{side}-{pair}"),
                        json!({"machines": machines}),
                    )
                    .await?;
            }
        }
        field.operator().thaw()?;
        let mut both_made_tokens = 0;
        for pair in 0..PAIRS {
            both_made_tokens += usize::from(one_has_it(field, pair).await?);
        }
        let state = async || -> Result<(BTreeSet<String>, BTreeSet<String>)> {
            let live = field.tokens().await?.into_keys().collect();
            let mut named = BTreeSet::new();
            for pair in 0..PAIRS {
                for machine in ["x", "a", "b"] {
                    let token = field.published_token(&format!("{machine}-{pair}")).await?;
                    named.extend(token.map(|token| id(&token).to_owned()));
                }
            }
            Ok((live, named))
        };
        until_or(
            "only tokens that user data names",
            async || {
                let (live, named) = state().await?;
                Ok((live == named && named.len() >= PAIRS).then_some(()))
            },
            async || {
                let (live, named) = state().await?;
                let stray: Vec<_> = live.difference(&named).collect();
                Ok(format!("stray in the target: {stray:?}"))
            },
        )
        .await?;
        println!("{both_made_tokens} of {PAIRS} pairs both made a token");
        Ok(())
    });
}

/// The other one is told whose it is and forgets it; whether it had made a token.
async fn one_has_it(field: &Field<'_>, pair: usize) -> Result<bool> {
    let told = |status: &Value, owner: &str| {
        let words = format!("Secret {CLUSTER}-x-{pair} belongs to NodePool pool-{owner}-{pair}");
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.iter().any(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["type"] == "Stalled"
                && condition["status"] == "True"
                && message.contains(&words)
        })
    };
    let statuses = async || -> Result<(Value, Value)> {
        let a = field.status(&format!("pool-a-{pair}")).await?;
        Ok((a, field.status(&format!("pool-b-{pair}")).await?))
    };
    let loser = until_or(
        &format!("one of pair {pair} to be told"),
        async || {
            let (a, b) = statuses().await?;
            ensure!(!(told(&a, "b") && told(&b, "a")), "both gave way");
            Ok(match (told(&a, "b"), told(&b, "a")) {
                (true, _) => Some("a"),
                (_, true) => Some("b"),
                _ => None,
            })
        },
        async || Ok(format!("{:#?}", statuses().await?)),
    )
    .await?;
    field.token_of(&format!("x-{pair}")).await?;
    let stored = format!("{CLUSTER}-pool-{loser}-{pair}-tokens");
    let Some(stored) = field.space.api::<Secret>().get_opt(&stored).await? else {
        return Ok(false);
    };
    let stored = stored.data.context("data")?["tokens.json"].0.clone();
    let stored: Value = serde_json::from_slice(&stored)?;
    ensure!(
        stored.get(format!("x-{pair}")).is_none(),
        "pool-{loser}-{pair} keeps a token for x-{pair}"
    );
    Ok(true)
}

/// The end of the test finds what is left: tokens in the target.
#[test]
fn a_pool_that_goes_as_soon_as_it_is_made_leaves_nothing() {
    run("brief", async |field| {
        let pools: Api<NodePool> = field.space.api();
        for number in 0..40u64 {
            let name = format!("brief-{number}");
            field.pool(&name, json!({"maxNodes": 1})).await?;
            // From before the operator's first look to some steps later.
            tokio::time::sleep(Duration::from_millis(number * 3)).await;
            pools.delete(&name, &DeleteParams::default()).await?;
        }
        Ok(())
    });
}
