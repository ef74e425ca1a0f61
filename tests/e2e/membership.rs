//! Members come and go on real machines: a lost one is replaced by a spare, a healthy one is
//! released, the number of replicas changes. Quorum is never lost by what the operator does.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::site::{self, MACHINES_LIMIT, SEED_LIMIT, Site, machine, soak, tell};
use crate::testbed::machine::Machine;
use crate::testbed::stage::{NAMESPACE, condition_of, wait};
use crate::writer::Writer;
use crate::{etcd, kills};

/// The shortest that the API allows.
const LOSS_TIMEOUT: &str = "1m";

/// So many machines in the inventory, the first ones as in the example, with the least patience.
fn with_machines(object: &mut Value, machines: u8, replicas: u8) {
    let spec = &mut object["spec"];
    let template = spec["machines"][0].clone();
    let inventory = (1..=machines).map(|number| {
        let (name, address) = machine(number);
        let mut machine = template.clone();
        machine["name"] = json!(name);
        machine["address"] = json!(address.to_string());
        if let Some(machine) = machine.as_object_mut() {
            machine.remove("failureDomain");
        }
        machine
    });
    spec["machines"] = inventory.collect();
    spec["replicas"] = json!(replicas);
    spec["etcd"]["nodeLoss"] = json!({"timeout": LOSS_TIMEOUT});
}

/// Boots a machine from the Secret that names this member, once it is published.
fn boot_as(cluster: &Cluster<'_>, number: u8, member: &str) -> Result<Arc<Machine>> {
    let (name, address) = machine(number);
    let began = Instant::now();
    wait(MACHINES_LIMIT, || {
        let status = cluster.etcd_status()?;
        let slots = status["ledger"]["slots"].as_array().context("no slots")?;
        let slot = slots.iter().find(|slot| slot["machine"] == name.as_str());
        let slot = slot.with_context(|| format!("{name} has no member: {status:#}"))?;
        ensure!(
            member == name || slot["name"] == member,
            "{name} has another member: {slot}"
        );
        let config = cluster.site.stage.user_data(&cluster.name, &name)?;
        let manifest = crate::user_data::parse(&config);
        let etcd = manifest
            .write_files
            .iter()
            .find(|file| file.path == "/etc/kubernetes/manifests/etcd.yaml")
            .context("no manifest of etcd")?;
        let text = String::from_utf8(etcd.bytes())?;
        ensure!(
            text.contains(&format!("--name={member}\n")),
            "the machine config is not for {member} yet"
        );
        Ok(())
    })?;
    tell(
        &cluster.name,
        &format!(
            "{member} has a machine config after {:.1} s",
            began.elapsed().as_secs_f64()
        ),
    );
    let machine = cluster.site.provision(&cluster.name, &name, address)?;
    machine.boot()?;
    Ok(machine)
}

/// Waits until exactly these members vote, all healthy, and the control plane is Ready.
fn wait_members(cluster: &Cluster<'_>, wanted: &[&str]) -> Result<Duration> {
    let began = Instant::now();
    wait(MACHINES_LIMIT, || {
        let object = cluster.site.stage.get("etcdcluster", &cluster.name)?;
        let status = &object["status"];
        let rows = status["members"].as_array().context("no members")?;
        let mut voters: Vec<&str> = rows
            .iter()
            .filter(|row| row["role"] == "Voter" && row["healthy"] == true)
            .filter_map(|row| row["name"].as_str())
            .collect();
        voters.sort_unstable();
        let settled = condition_of(&object, "MembershipSettled") == Some("True");
        ensure!(
            voters == wanted && rows.len() == wanted.len() && settled,
            "{status:#}"
        );
        Ok(())
    })?;
    cluster.wait_ready()?;
    Ok(began.elapsed())
}

/// The name of the member that leads.
fn leader(cluster: &Cluster<'_>) -> Result<(String, String)> {
    let status = cluster.etcd_status()?;
    let rows = status["members"].as_array().context("no members")?;
    let leader = rows.iter().find(|row| row["leader"] == true);
    let leader = leader.context("no leader")?;
    let text = |field: &str| leader[field].as_str().map(str::to_owned).context("no text");
    Ok((text("name")?, text("machine")?))
}

fn annotate(cluster: &Cluster<'_>, machine: &str, annotation: &str) -> Result<()> {
    let secret = format!("{}-{machine}", cluster.name);
    let annotate = ["-n", NAMESPACE, "annotate", "secret", &secret, annotation];
    cluster.site.stage.kubectl(&annotate).map(drop)
}

fn patch(cluster: &Cluster<'_>, patch: &Value) -> Result<()> {
    let patch = patch.to_string();
    let arguments = [
        "-n",
        NAMESPACE,
        "patch",
        "controlplane",
        &cluster.name,
        "--type=merge",
        "-p",
        &patch,
    ];
    cluster.site.stage.kubectl(&arguments).map(drop)
}

/// What etcd itself lists, seen by one machine.
fn check_listed(cluster: &Cluster<'_>, through: &Machine, wanted: &[&str]) -> Result<()> {
    let members = etcd::members(through)?;
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    ensure!(names == wanted, "{members:?}");
    ensure!(members.iter().all(|member| !member.learner), "{members:?}");
    let status = cluster.etcd_status()?;
    let id = members[0].cluster_id.as_str();
    ensure!(status["clusterID"] == id, "{status:#}");
    Ok(())
}

/// Everything that was decided, oldest first, for the log.
fn tell_decisions(cluster: &Cluster<'_>) -> Result<()> {
    let explain = ["explain", &cluster.name, "-n", NAMESPACE];
    let text = cluster.site.stage.seedbed(&explain)?;
    tell(&cluster.name, &format!("seedbed explain:\n{text}"));
    Ok(())
}

#[test]
fn a_lost_machine_is_replaced_and_a_healthy_leader_released() {
    site::run(|site| kills::with_an_operator(site, "spare", lost_and_released));
}

fn lost_and_released(site: &Site) -> Result<()> {
    let cluster = site.apply_with("spare", |object| with_machines(object, 4, 3))?;
    let machines = (1..=3)
        .map(|number| boot_as(&cluster, number, &machine(number).0))
        .collect::<Result<Vec<_>>>()?;
    cluster.wait_ready()?;
    let revisions = |cluster: &Cluster<'_>| -> Result<Vec<String>> {
        let status = cluster.status()?;
        let rows = status["machines"].as_array().context("no machines")?;
        let of = |name: &str| {
            let row = rows.iter().find(|row| row["name"] == name);
            Ok(row.context("no row")?["revision"].to_string())
        };
        ["cp-1", "cp-3"].into_iter().map(of).collect()
    };
    let before = revisions(&cluster)?;

    // cp-2 is gone for good; cp-4 takes its place, with nobody's help but the boot.
    let writer = Writer::begin(&cluster)?;
    machines[1].power_off()?;
    let lost = Instant::now();
    let spare = boot_as(&cluster, 4, "cp-4_1")?;
    let booted = Instant::now();
    wait_members(&cluster, &["cp-1", "cp-3", "cp-4_1"])?;
    let report = writer.end()?;
    tell(
        &cluster.name,
        &format!(
            "lost to booting: {:.1} s, booting to three voters and Ready: {:.1} s, {report:?}",
            (booted - lost).as_secs_f64(),
            booted.elapsed().as_secs_f64()
        ),
    );
    check_listed(&cluster, &spare, &["cp-1", "cp-3", "cp-4_1"])?;
    ensure!(
        revisions(&cluster)? == before,
        "a machine that runs looks outdated"
    );
    // It comes back with its old disk, and stays out.
    machines[1].boot()?;

    release_the_leader(&cluster)?;
    tell_decisions(&cluster)
}

/// The leader's machine is to go; cp-2, imaged anew, takes its place.
fn release_the_leader(cluster: &Cluster<'_>) -> Result<()> {
    let (name, machine) = leader(cluster)?;
    let writer = Writer::begin(cluster)?;
    std::thread::sleep(Duration::from_secs(2));
    annotate(
        cluster,
        &machine,
        "seedbed.dev/release-requested=maintenance",
    )?;
    let fresh = boot_as(cluster, 2, "cp-2_2")?;
    let mut wanted = vec!["cp-1", "cp-2_2", "cp-3", "cp-4_1"];
    wanted.retain(|member| *member != name);
    let took = wait_members(cluster, &wanted)?;
    let report = writer.end()?;
    tell(
        &cluster.name,
        &format!(
            "the leader {name} was replaced in {:.1} s: {report:?}",
            took.as_secs_f64()
        ),
    );
    ensure!(
        report.longest_gap <= Duration::from_secs(2),
        "writes stood still for {:?}",
        report.longest_gap
    );
    check_listed(cluster, &fresh, &wanted)?;
    wait(SEED_LIMIT, || {
        let secret = format!("{}-{machine}", cluster.name);
        let secret = cluster.site.stage.get("secret", &secret)?;
        let released = &secret["metadata"]["annotations"]["seedbed.dev/released"];
        ensure!(released.is_string(), "{machine} is not released");
        ensure!(
            secret["data"].is_null(),
            "{machine} still has its user data"
        );
        let certs = format!("{}-{machine}-certs", cluster.name);
        let certs = cluster.site.stage.get("secret", &certs)?;
        ensure!(certs["data"].is_null(), "{machine} still has its keys");
        Ok(())
    })?;
    // Its API server has lost its etcd: until the load balancer has noticed, who comes to it waits.
    wait(MACHINES_LIMIT, || {
        let list = ["get", "nodes", "-o", "name", "--request-timeout=5s"];
        let nodes = cluster.kubectl(&list)?;
        ensure!(!nodes.contains(&format!("node/{machine}\n")), "{nodes}");
        Ok(())
    })
}

#[test]
fn without_a_spare_it_heals_when_a_machine_comes() {
    if soak() {
        site::run(|site| kills::with_an_operator(site, "no-spare", lost_without_a_spare));
    }
}

fn lost_without_a_spare(site: &Site) -> Result<()> {
    let cluster = site.apply_with("no-spare", |object| with_machines(object, 3, 3))?;
    let machines = (1..=3)
        .map(|number| boot_as(&cluster, number, &machine(number).0))
        .collect::<Result<Vec<_>>>()?;
    cluster.wait_ready()?;
    machines[2].power_off()?;
    // The dead member goes; what is left is said to be even and too few.
    wait(MACHINES_LIMIT, || {
        let object = site.stage.get("etcdcluster", &cluster.name)?;
        let even = condition_of(&object, "OddMembers") == Some("False");
        let serves = condition_of(&object, "QuorumHealthy") == Some("True");
        let healthy = condition_of(&object, "EtcdHealthy") == Some("True");
        ensure!(even && serves && !healthy, "{:#}", object["status"]);
        Ok(())
    })?;
    // Its own machine comes back with a fresh disk: the config that is published is for the
    // new member.
    let fresh = boot_as(&cluster, 3, "cp-3_1")?;
    wait_members(&cluster, &["cp-1", "cp-2", "cp-3_1"])?;
    check_listed(&cluster, &fresh, &["cp-1", "cp-2", "cp-3_1"])?;
    tell_decisions(&cluster)
}

#[test]
fn replicas_go_up_and_down() {
    if soak() {
        site::run(|site| kills::with_an_operator(site, "scale", one_three_five_three));
    }
}

fn one_three_five_three(site: &Site) -> Result<()> {
    let cluster = site.apply_with("scale", |object| with_machines(object, 5, 1))?;
    boot_as(&cluster, 1, "cp-1")?;
    cluster.wait_ready()?;
    let writer = Writer::begin(&cluster)?;
    let scale = |replicas: u8| -> Result<()> {
        let replicas = format!("--replicas={replicas}");
        let scale = [
            "-n",
            NAMESPACE,
            "scale",
            "controlplane",
            &cluster.name,
            &replicas,
        ];
        site.stage.kubectl(&scale).map(drop)
    };
    scale(3)?;
    boot_as(&cluster, 2, "cp-2_1")?;
    boot_as(&cluster, 3, "cp-3_2")?;
    let took = wait_members(&cluster, &["cp-1", "cp-2_1", "cp-3_2"])?;
    tell(
        &cluster.name,
        &format!(
            "three voters {:.1} s after the last boot",
            took.as_secs_f64()
        ),
    );
    patch(&cluster, &json!({"spec": {"replicas": 5}}))?;
    boot_as(&cluster, 4, "cp-4_3")?;
    boot_as(&cluster, 5, "cp-5_4")?;
    let all = ["cp-1", "cp-2_1", "cp-3_2", "cp-4_3", "cp-5_4"];
    wait_members(&cluster, &all)?;
    scale(3)?;
    wait(MACHINES_LIMIT, || {
        let object = site.stage.get("etcdcluster", &cluster.name)?;
        let settled = condition_of(&object, "MembershipSettled") == Some("True");
        let three = object["status"]["replicas"] == 3;
        ensure!(settled && three, "{:#}", object["status"]);
        Ok(())
    })?;
    cluster.wait_ready()?;
    let report = writer.end()?;
    tell(&cluster.name, &format!("1, 3, 5, 3: {report:?}"));
    ensure!(report.longest_gap <= Duration::from_secs(5), "{report:?}");
    tell_decisions(&cluster)
}
