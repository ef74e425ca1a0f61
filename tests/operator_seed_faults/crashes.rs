//! Killed at any moment, the operator goes on from what it finds.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::operator::Operator;
use super::operator_ground::{Ground, Space, until};
use super::operator_objects::{Constancy, control_plane, secret_names};
use super::operator_scan::no_secret_is_told;

const KILLS: usize = 12;
/// Publication of a ControlPlane takes about this long.
const LONGEST: u64 = 700;

#[test]
fn killed_at_random_moments_the_result_is_the_same() {
    let seed: u64 = std::env::var("SEED")
        .ok()
        .and_then(|s| s.parse().ok())
        .unwrap_or_else(rand::random);
    println!("repeat with SEED={seed}");
    Ground::run("faults", async |ground| {
        let mut random = StdRng::seed_from_u64(seed);
        let space = Space::new(ground, "crashes").await?;
        let constancy = Constancy::start(&space);
        let mut names = Vec::new();
        for round in 0..KILLS {
            let operator = leading(&space).await?;
            if round % 3 != 2 {
                let name = format!("cp-{round}");
                space.control_plane(control_plane(&name)).await?;
                names.push(name);
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..LONGEST))).await;
            operator.kill()?;
        }
        let before = space.secret_data().await?;
        println!(
            "{} Secrets of {} at the last kill",
            before.len(),
            11 * names.len()
        );
        let operator = leading(&space).await?;
        for name in &names {
            space.published(name).await?;
            space.founding(name).await?;
        }
        let after = space.secret_data().await?;
        for (name, data) in before {
            ensure!(after[&name] == data, "{name} has changed");
        }
        let mut wanted: Vec<String> = names.iter().flat_map(|name| secret_names(name)).collect();
        wanted.sort();
        ensure!(after.keys().eq(&wanted), "{:?}", after.keys());
        constancy.check()?;
        no_secret_is_told(&space, &[&operator]).await?;
        operator.stop().await
    });
}

/// An operator that leads. Its predecessor is dead, so nobody has to wait for its lease to end.
async fn leading(space: &Space<'_>) -> Result<Operator> {
    if space.api::<Lease>().get_opt("seedbed").await?.is_some() {
        space.delete::<Lease>("seedbed").await?;
    }
    let operator = Operator::start(space, "one", &[]).await?;
    operator.ready().await?;
    until("leadership", async || {
        Ok((operator.metric("seedbed_leader").await? == 1.0).then_some(()))
    })
    .await?;
    Ok(operator)
}
