//! Of several replicas one writes, and no other, whatever happens to them.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jiff::Timestamp;

use super::operator::Operator;
use super::operator_ground::{Ground, Space, until};
use super::operator_objects::{Constancy, control_plane, publish};

const LEASE: Duration = Duration::from_secs(4);
const RETRY: Duration = Duration::from_millis(500);
/// What a busy machine may add.
const SLACK: Duration = Duration::from_secs(5);
const ARGS: [&str; 6] = [
    "--lease-duration",
    "4s",
    "--lease-renew-deadline",
    "3s",
    "--lease-retry-period",
    "500ms",
];

#[test]
fn only_the_leader_writes_and_another_takes_over() {
    Ground::run("faults", async |ground| {
        let space = Space::new(ground, "replicas").await?;
        let constancy = Constancy::start(&space);
        let first = Operator::start(&space, "first", &ARGS).await?;
        leads(&first).await?;
        let second = Operator::start(&space, "second", &ARGS).await?;
        second.ready().await?;
        publish(&space, &["a".to_owned(), "b".to_owned()]).await?;
        let writes = |operator: &Operator| ground.audit.writes(operator.user(), &space.name);
        ensure!(!writes(&first)?.is_empty(), "the leader writes");
        ensure!(writes(&second)?.is_empty(), "{:#?}", writes(&second)?);

        // Dead: the other one is there when the lease has ended.
        space.control_plane(control_plane("c")).await?;
        first.kill()?;
        let killed = Instant::now();
        leads(&second).await?;
        let took = killed.elapsed();
        let limit = LEASE + RETRY.mul_f64(1.2) + SLACK;
        ensure!(took <= limit, "{took:?} until the other one led");
        space.published("c").await?;

        // Frozen for longer than the lease, with work waiting for it: it has lost, and ends.
        let third = Operator::start(&space, "third", &ARGS).await?;
        third.ready().await?;
        second.freeze()?;
        space.control_plane(control_plane("d")).await?;
        leads(&third).await?;
        space.published("d").await?;
        space.control_plane(control_plane("e")).await?;
        let thawed = Timestamp::now();
        second.thaw()?;
        second.wait_exit().await?;
        let log = second.log()?;
        ensure!(
            log.contains("leadership of lease replicas/seedbed is lost")
                && !log.contains("panicked at"),
            "{log}"
        );
        space.published("e").await?;
        let late: Vec<_> = writes(&second)?
            .into_iter()
            .filter(|w| w.received >= thawed)
            .collect();
        ensure!(late.is_empty(), "written without the lease: {late:#?}");
        constancy.check()?;

        // A graceful stop gives the lease back at once.
        let fourth = Operator::start(&space, "fourth", &ARGS).await?;
        fourth.ready().await?;
        let stopped = Instant::now();
        third.stop().await?;
        leads(&fourth).await?;
        ensure!(
            stopped.elapsed() < RETRY * 2 + SLACK,
            "{:?}",
            stopped.elapsed()
        );
        fourth.stop().await
    });
}

async fn leads(operator: &Operator) -> Result<()> {
    until("leadership", async || {
        operator.process().check()?;
        let leader = operator.metric("seedbed_leader").await;
        Ok(leader.is_ok_and(|leader| leader == 1.0).then_some(()))
    })
    .await
}
