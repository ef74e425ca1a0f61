//! Who led when a member joined, and is gone when that member leads.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use seedbed::domain::MemberId;

use crate::cluster::Cluster;
use crate::testbed::StateDir;

/// Longest wait for anything.
const LIMIT: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_millis(200);

/// A fourth member joins and leads, and its former leader is gone: it does not see it any more.
pub fn missed(state: &StateDir) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut cluster = Cluster::new(state, 201, "gone").unwrap();
    for machine in 0..3 {
        cluster.start_new(machine, &[0, 1, 2], false).unwrap();
    }
    let played = runtime.block_on(played(&mut cluster));
    drop(runtime);
    cluster.end().unwrap();
    played.unwrap();
}

async fn played(cluster: &mut Cluster) -> Result<()> {
    let first = leader(cluster, 0).await?;
    // etcd counts connections of 5 s.
    tokio::time::sleep(Duration::from_secs(7)).await;
    // It takes more than one message to catch up.
    cluster.write(first.0, 400).await?;
    let (api, through) = (cluster.api(), cluster.endpoint(first.0));
    api.add_learner(&through, &cluster.peer_url(3)).await?;
    cluster.start_new(3, &[0, 1, 2, 3], true)?;
    let began = Instant::now();
    let joined = loop {
        let answer = api.probe(&cluster.endpoint(3)).await;
        if let Ok(answer) = &answer {
            let id = answer.member_id;
            if api.promote(&through, id).await.is_ok() {
                break id;
            }
        }
        ensure!(began.elapsed() < LIMIT, "it is not promoted: {answer:?}");
        tokio::time::sleep(TICK).await;
    };
    api.move_leader(&through, joined).await?;
    ensure!(leader(cluster, 3).await?.1 == joined, "another leader");
    // All are there and heard; then the former leader is not.
    let endpoint = cluster.endpoint(3);
    let began = Instant::now();
    while api.active_peers(&endpoint).await?.len() < 3 {
        ensure!(began.elapsed() < LIMIT, "it does not see all others");
        tokio::time::sleep(TICK).await;
    }
    cluster.kill(first.0)?;
    let began = Instant::now();
    while api.active_peers(&endpoint).await?.contains(&first.1) {
        ensure!(began.elapsed() < LIMIT / 2, "it still sees who is gone");
        tokio::time::sleep(TICK).await;
    }
    Ok(())
}

/// The machine and ID of the leader, as this machine's member says once all have answered.
async fn leader(cluster: &Cluster, asked: u8) -> Result<(u8, MemberId)> {
    let began = Instant::now();
    loop {
        let mut ids = Vec::new();
        let mut leader = None;
        for machine in (0..3).chain((asked == 3).then_some(3)) {
            if let Ok(answer) = cluster.api().probe(&cluster.endpoint(machine)).await {
                ids.push((machine, answer.member_id));
                leader = if machine == asked {
                    answer.leader
                } else {
                    leader
                };
            }
        }
        if let Some(leader) = leader
            && ids.len() >= 3
        {
            let place = ids.into_iter().find(|(_, id)| *id == leader);
            return place.context("the leader does not answer");
        }
        ensure!(began.elapsed() < LIMIT, "no leader: {ids:?}");
        tokio::time::sleep(TICK).await;
    }
}
