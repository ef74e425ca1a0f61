//! Disks that are empty, swapped or old, and members that nobody expects.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use seedbed::crd::ControlPlane;
use serde_json::json;

use super::{THREE, nothing_changed};
use crate::checker::with_client;
use crate::host::swap_data;
use crate::trial::{NAME, Trial, member_of};

/// Where members are that can be asked.
fn voters_at(trial: &Trial<'_>) -> std::collections::BTreeSet<std::net::Ipv4Addr> {
    let seen = trial.sight.lock();
    let voters = seen.said.iter().filter(|(_, said)| said.list.is_some());
    voters.map(|(address, _)| *address).collect()
}

/// Boots a machine on an empty disk with what was published for its started member: its scripts
/// refuse, and etcd does not run.
async fn imaged_anew(trial: &mut Trial<'_>, machine: &str) -> Result<()> {
    trial.wipe(machine)?;
    let booted = trial.boot_any(machine).await?;
    ensure!(!booted, "{machine} booted on an empty disk");
    let host = trial.host(machine)?.clone();
    trial
        .stays("no etcd", 5, || {
            !host.etcd_runs() && !host.file("var/lib/etcd/member/wal").exists()
        })
        .await
}

/// Somebody says that a machine's disk is given up.
async fn announce(trial: &Trial<'_>, machine: &str) -> Result<()> {
    let said = format!("{machine} announced as imaged anew");
    trial.sight.fault(said);
    let announced = json!({"metadata": {"annotations": {"seedbed.dev/reimaged": machine}}});
    trial
        .space
        .patch::<ControlPlane>(NAME, &announced)
        .await
        .map(drop)
}

/// Waits for the machine's new member, and boots it from its new config.
async fn joins_again(trial: &mut Trial<'_>, machine: &str, old: u64) -> Result<()> {
    trial
        .until("removal", 180, || !trial.ids().contains(&old))
        .await?;
    trial
        .until("a new member", 120, || !trial.learners().is_empty())
        .await?;
    // Founders are called like their machines, later members never.
    let later = |secret: &Secret| {
        let name = member_of(secret).ok().flatten();
        name.is_some_and(|name| name != machine)
    };
    trial
        .machine_config(machine, "the new member's config", 60, later)
        .await?;
    trial.wipe(machine)?;
    trial.boot(machine).await?;
    trial.settled(&THREE, 120).await?;
    ensure!(trial.id_of(machine)? != old, "the same ID");
    Ok(())
}

/// 18
pub async fn a_disk_is_wiped(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 3).await?;
    let wiped = trial.follower()?;
    let old = trial.id_of(&wiped)?;
    trial.guarded(&wiped).await?;
    imaged_anew(trial, &wiped).await?;
    joins_again(trial, &wiped, old).await?;
    Ok("its scripts refused to start etcd; removed, joined under a new ID".to_owned())
}

/// Waits until all three founders answer a client; no operator need run.
async fn all_founders_answer(trial: &Trial<'_>) -> Result<()> {
    let listed = || voters_at(trial).len() == 3 && trial.ids().len() == 3;
    trial.until("three founders", 60, listed).await.map(drop)
}

/// 18a
pub async fn a_founder_that_nobody_saw_is_wiped(trial: &mut Trial<'_>) -> Result<String> {
    trial.publish(3, 3).await?;
    let first = trial.user_data("m-3", 10).await?;
    trial.boot("m-1").await?;
    trial.boot("m-2").await?;
    trial.republished("m-3", &first, 60).await?;
    trial.kill_operator().await?;
    // It asks the others, who do not know it, and starts.
    trial.boot("m-3").await?;
    all_founders_answer(trial).await?;
    let old = trial.id_of("m-3")?;
    imaged_anew(trial, "m-3").await?;
    trial.start_operator("one").await?;
    joins_again(trial, "m-3", old).await?;
    Ok("its scripts asked the others and refused; removed, joined under a new ID".to_owned())
}

/// 18b
pub async fn a_founder_is_wiped_before_anybody_was_seen(trial: &mut Trial<'_>) -> Result<String> {
    trial.publish(3, 3).await?;
    trial.kill_operator().await?;
    for machine in THREE {
        trial.boot(machine).await?;
    }
    all_founders_answer(trial).await?;
    let wiped = trial.follower()?;
    let old = trial.id_of(&wiped)?;
    trial.wipe(&wiped)?;
    ensure!(trial.boot_any(&wiped).await?, "its scripts know of nothing");
    let host = trial.host(&wiped)?.clone();
    let refused = || host.log().contains("has already been bootstrapped");
    trial.until("etcd to refuse", 30, refused).await?;
    trial
        .stays("no log of its own", 20, || {
            !host.file("var/lib/etcd/member/wal").exists()
        })
        .await?;
    trial.start_operator("one").await?;
    trial.says("EtcdHealthy", "False", &wiped, 60).await?;
    announce(trial, &wiped).await?;
    joins_again(trial, &wiped, old).await?;
    Ok("its etcd refused; announced, it joined under a new ID".to_owned())
}

/// 19
pub async fn a_disk_is_wiped_and_the_leader_changes(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 3).await?;
    let (wiped, leader) = (trial.follower()?, trial.leader()?);
    let old = trial.id_of(&wiped)?;
    trial.guarded(&wiped).await?;
    imaged_anew(trial, &wiped).await?;
    let third = THREE
        .into_iter()
        .find(|name| *name != wiped && *name != leader);
    let target = trial.id_of(third.unwrap_or_default())?;
    let credentials = trial.credentials()?.clone();
    let at = [trial.host(&leader)?.address()].into();
    trial.sight.fault("the leader is moved by hand");
    with_client(&credentials, &at, async |client| {
        client.move_leader(target).await?;
        Ok(())
    })
    .await?;
    trial
        .until("another leader", 30, || {
            trial.leader().is_ok_and(|new| new != leader)
        })
        .await?;
    let address = trial.host(&wiped)?.address();
    trial
        .stays("the wiped machine is no member", 20, || {
            !trial.sight.lock().said.contains_key(&address)
        })
        .await?;
    // From here on it is announced: nothing has to be waited for.
    announce(trial, &wiped).await?;
    joins_again(trial, &wiped, old).await?;
    Ok("it did not come back under its old ID; announced, it joined under a new one".to_owned())
}

/// 20
pub async fn two_disks_are_swapped(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let swap = |trial: &Trial<'_>| -> Result<()> {
        trial.power_off("m-2")?;
        trial.power_off("m-3")?;
        trial.sight.fault("the disks of m-2 and m-3 are swapped");
        swap_data(trial.host("m-2")?, trial.host("m-3")?)?;
        trial.power_on("m-2")?;
        trial.power_on("m-3")
    };
    swap(trial)?;
    trial.says("EtcdHealthy", "False", "", 60).await?;
    trial.untouched(80).await?;
    let said = trial
        .journal
        .condition("EtcdHealthy")
        .map(|(_, words)| words)
        .unwrap_or_default();
    swap(trial)?;
    trial.settled(&THREE, 120).await?;
    nothing_changed(trial)?;
    Ok(format!(
        "nothing changed in 80 s ({}); healed when swapped back",
        reason(&said)
    ))
}

fn reason(words: &str) -> &str {
    words.split(':').next().unwrap_or_default()
}

/// 21
pub async fn a_removed_member_comes_back(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    trial.power_off("m-3")?;
    trial.confirm_lost("m-3").await?;
    trial
        .settled_with(&["m-1", "m-2", "m-4"], &["m-4"], 240)
        .await?;
    let begun = trial.journal.operations().len();
    trial.power_on("m-3")?;
    let host = trial.host("m-3")?.clone();
    let address = host.address();
    trial
        .until("the old member's end", 60, || {
            host.log().contains("removed from the cluster")
                || host
                    .log()
                    .contains("the member has been permanently removed")
        })
        .await?;
    trial
        .stays("it is no member", 40, || {
            trial.voters().len() == 3
                && trial.learners().is_empty()
                && trial
                    .sight
                    .lock()
                    .said
                    .get(&address)
                    .is_none_or(|said| said.list.is_none())
        })
        .await?;
    ensure!(
        trial.journal.operations().len() == begun,
        "something was begun"
    );
    Ok("its etcd ended, it was not taken in again in 40 s".to_owned())
}

/// 22
pub async fn an_address_is_used_again(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 3).await?;
    trial.power_off("m-3")?;
    let address = trial.address(3);
    let machines = [
        trial.machine("m-1", trial.address(1)),
        trial.machine("m-2", trial.address(2)),
        trial.machine("m-9", address),
    ];
    trial.spec(&json!({"machines": machines})).await?;
    trial
        .settled_with(&["m-1", "m-2", "m-9"], &["m-9"], 240)
        .await?;
    ensure!(
        trial.changes("removed") < trial.changes("added"),
        "added first"
    );
    Ok("the old ID was removed first, then the new machine joined".to_owned())
}

/// 23: a machine at another address gets the name of one whose member is healthy. Members are told
/// apart by ID and address, so the namesake stays, whether or not the new machine ever joins.
pub async fn a_name_is_used_again(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 3).await?;
    let old = trial.id_of("m-3")?;
    let machines = [
        trial.machine("m-1", trial.address(1)),
        trial.machine("m-2", trial.address(2)),
        trial.machine("m-3", trial.address(9)),
    ];
    let patched = trial.spec(&json!({"machines": machines})).await;
    let refused = patched.is_err();
    trial
        .stays("the healthy namesake is a member", 40, || {
            trial.ids().contains(&old) || !trial.changes("promoted").is_empty()
        })
        .await?;
    trial.inventory(&[1, 2, 3]).await?;
    trial.settled(&THREE, 120).await?;
    ensure!(trial.ids().contains(&old), "the namesake was removed");
    let how = if refused {
        "refused by the API server"
    } else {
        "accepted and not acted on"
    };
    Ok(format!(
        "another address under its name: {how}; the member was left alone"
    ))
}

/// 37
pub async fn a_healthy_member_is_removed_by_hand(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 3).await?;
    let machine = trial.follower()?;
    let old = trial.id_of(&machine)?;
    trial.guarded(&machine).await?;
    let config = trial.user_data(&machine, 10).await?;
    let credentials = trial.credentials()?.clone();
    trial.connected().await;
    trial.sight.fault(format!("{machine} removed by hand"));
    let at = [trial.host(&trial.leader()?)?.address()].into();
    with_client(&credentials, &at, async |client| {
        client.member_remove(old).await?;
        Ok(())
    })
    .await?;
    trial
        .until("removal", 30, || !trial.ids().contains(&old))
        .await?;
    trial
        .until("a new member", 180, || !trial.learners().is_empty())
        .await?;
    trial.republished(&machine, &config, 60).await?;
    // Its disk keeps the old data; the scripts of the new config set it aside.
    trial.reboot_anew(&machine).await?;
    trial.settled(&THREE, 120).await?;
    ensure!(trial.id_of(&machine)? != old, "the same ID");
    Ok("detected, joined again under a new ID, the old data set aside".to_owned())
}

/// 38
pub async fn an_alien_voter(trial: &mut Trial<'_>) -> Result<String> {
    trial.found(3, 4).await?;
    let credentials = trial.credentials()?.clone();
    let url = format!("https://{}:2380", trial.address(99));
    trial.connected().await;
    trial.sight.fault(format!("{url} added by hand"));
    let id = with_client(&credentials, &voters_at(trial), async |client| {
        let added = client.member_add([url.clone()], None).await?;
        Ok(added.member().map_or(0, etcd_client::Member::id))
    })
    .await?;
    trial
        .until("the alien", 30, || trial.ids().contains(&id))
        .await?;
    let began = trial.journal.operations().len();
    trial
        .stays("the alien is a member", 80, || trial.ids().contains(&id))
        .await?;
    ensure!(
        trial.journal.operations().len() == began,
        "something was begun"
    );
    let said = trial
        .journal
        .condition("EtcdHealthy")
        .map(|(_, words)| words)
        .unwrap_or_default();
    trial.sight.fault("the alien removed by hand");
    with_client(&credentials, &voters_at(trial), async |client| {
        client.member_remove(id).await?;
        Ok(())
    })
    .await?;
    trial.settled(&THREE, 120).await?;
    ensure!(trial.journal.operations().is_empty(), "something was begun");
    Ok(format!(
        "not removed in 80 s ({}); well again when it was gone",
        reason(&said)
    ))
}
