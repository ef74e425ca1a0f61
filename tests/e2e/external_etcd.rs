//! Etcd on machines of its own, and a control plane that refers to it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::site::{self, MACHINES_LIMIT, SEED_LIMIT, Site, soak, tell};
use crate::testbed::machine::Machine;
use crate::testbed::stage::{NAMESPACE, condition_of, wait};
use crate::writer::Writer;
use crate::{etcd, kills, user_data};

/// The EtcdCluster.
const STATE: &str = "state";

/// Machines that are on no load balancer.
fn etcd_machine(number: u8) -> (String, Ipv4Addr) {
    let address = Ipv4Addr::new(198, 18, 0, 40 + number);
    (format!("etcd-{number}"), address)
}

fn client_url(number: u8) -> String {
    format!("https://{}:2379", etcd_machine(number).1)
}

/// An EtcdCluster of three with so many machines, and the least patience.
fn etcd_cluster(machines: u8) -> Value {
    let machine = |number| {
        let (name, address) = etcd_machine(number);
        json!({"name": name, "address": address.to_string()})
    };
    json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "EtcdCluster",
        "metadata": {"name": STATE, "namespace": NAMESPACE},
        "spec": {
            "version": "3.7.0",
            "size": 3,
            "machines": (1..=machines).map(machine).collect::<Vec<_>>(),
            "nodeLoss": {"timeout": "1m"},
            "kubelet": {"config": {
                "cgroupDriver": "cgroupfs", "failCgroupV1": false, "failSwapOn": false,
            }},
        },
    })
}

/// So many machines of the example, whose state is in the EtcdCluster.
fn by_reference(object: &mut Value, replicas: usize) {
    let spec = &mut object["spec"];
    if let Some(machines) = spec["machines"].as_array_mut() {
        machines.truncate(replicas);
    }
    spec["replicas"] = json!(replicas);
    spec["etcd"] = json!({"clusterRef": {"name": STATE}});
}

/// The EtcdCluster's object once a condition is true.
fn wait_for(site: &Site, condition: &str, limit: Duration) -> Result<Value> {
    let mut found = Value::Null;
    wait(limit, || {
        found = site.stage.get("etcdcluster", STATE)?;
        let is_true = condition_of(&found, condition) == Some("True");
        ensure!(is_true, "not {condition}: {:#}", found["status"]);
        Ok(())
    })?;
    Ok(found)
}

/// Boots an etcd machine from the Secret that names this member, once it is published.
fn boot_as(site: &Site, number: u8, member: &str) -> Result<Arc<Machine>> {
    let (name, address) = etcd_machine(number);
    wait(MACHINES_LIMIT, || {
        let config = user_data::parse(&site.stage.user_data(STATE, &name)?);
        let mut files = config.write_files.iter();
        let manifest = files.find(|file| file.path == "/etc/kubernetes/manifests/etcd.yaml");
        let text = String::from_utf8(manifest.context("no manifest of etcd")?.bytes())?;
        ensure!(
            text.contains(&format!("--name={member}\n")),
            "the machine config is not for {member} yet"
        );
        Ok(())
    })?;
    let machine = site.provision(STATE, &name, address)?;
    machine.boot()?;
    Ok(machine)
}

/// Waits until exactly these members vote, all healthy.
fn wait_members(site: &Site, wanted: &[&str]) -> Result<()> {
    wait(MACHINES_LIMIT, || {
        let object = site.stage.get("etcdcluster", STATE)?;
        let rows = object["status"]["members"].as_array().context("no rows")?;
        let healthy = |row: &&Value| row["role"] == "Voter" && row["healthy"] == true;
        let mut voters: Vec<&str> = rows
            .iter()
            .filter(healthy)
            .filter_map(|row| row["name"].as_str())
            .collect();
        voters.sort_unstable();
        let settled = condition_of(&object, "MembershipSettled") == Some("True");
        let ready = condition_of(&object, "Ready") == Some("True");
        ensure!(
            voters == wanted && rows.len() == wanted.len() && settled && ready,
            "{:#}",
            object["status"]
        );
        Ok(())
    })
}

/// `--etcd-servers` in the machine config that is published for a machine of the control plane.
fn etcd_servers(cluster: &Cluster<'_>, machine: &str) -> Result<Vec<String>> {
    let config = user_data::parse(&cluster.site.stage.user_data(&cluster.name, machine)?);
    let file = |path: &str| config.write_files.iter().find(|file| file.path == path);
    ensure!(
        file("/etc/kubernetes/manifests/etcd.yaml").is_none(),
        "{machine} would run etcd"
    );
    let manifest = file("/etc/kubernetes/manifests/kube-apiserver.yaml");
    let text = String::from_utf8(manifest.context("no API server")?.bytes())?;
    let mut flags = text.lines().map(|line| line.trim_start_matches([' ', '-']));
    let servers = flags.find_map(|flag| flag.strip_prefix("etcd-servers="));
    let servers = servers.context("no --etcd-servers")?;
    Ok(servers.split(',').map(str::to_owned).collect())
}

fn urls(numbers: &[u8]) -> Vec<String> {
    numbers.iter().map(|number| client_url(*number)).collect()
}

/// An etcd machine runs etcd and a kubelet that knows nobody, and has no key of any CA.
fn check_machine(machine: &Machine) -> Result<()> {
    let files = machine.exec(&["find", "/etc/kubernetes", "-type", "f"])?;
    let mut files: Vec<&str> = files.lines().collect();
    files.sort_unstable();
    let pki = "/etc/kubernetes/pki/etcd";
    let wanted = [
        "/etc/kubernetes/manifests/etcd.yaml".to_owned(),
        format!("{pki}/ca.crt"),
        format!("{pki}/healthcheck-client.crt"),
        format!("{pki}/healthcheck-client.key"),
        format!("{pki}/peer.crt"),
        format!("{pki}/peer.key"),
        format!("{pki}/server.crt"),
        format!("{pki}/server.key"),
    ];
    ensure!(files == wanted, "{files:#?}");
    let listens = machine.exec(&["ss", "-Hltn"])?;
    ensure!(
        listens.contains("127.0.0.1:10250") && !listens.contains("*:10250"),
        "the kubelet listens elsewhere: {listens}"
    );
    Ok(())
}

#[test]
fn etcd_on_machines_of_its_own_serves_a_control_plane_and_heals() {
    site::run(|site| kills::with_an_operator(site, STATE, served_lost_released_scaled));
}

fn served_lost_released_scaled(site: &Site) -> Result<()> {
    // In any order: the control plane waits, in words.
    let cluster = site.apply_with("apis", |object| by_reference(object, 1))?;
    wait(SEED_LIMIT, || {
        let object = site.stage.get("controlplane", "apis")?;
        let said = object["status"]["conditions"].to_string();
        ensure!(said.contains("does not exist in namespace"), "{said}");
        Ok(())
    })?;
    site.apply_object(&etcd_cluster(4))?;
    wait_for(site, "MachineConfigsPublished", SEED_LIMIT)?;
    let began = Instant::now();
    let machines = (1..=3)
        .map(|number| boot_as(site, number, &etcd_machine(number).0))
        .collect::<Result<Vec<_>>>()?;
    wait_for(site, "Ready", MACHINES_LIMIT)?;
    let after = |what: &str| {
        let seconds = began.elapsed().as_secs_f64();
        tell(
            "apis",
            &format!("{what} {seconds:.1} s after the first boot"),
        );
    };
    after("three etcd machines are Ready");
    check_machine(&machines[0])?;

    site.stage
        .wait_for_condition("apis", "MachineConfigsPublished", SEED_LIMIT)?;
    ensure!(etcd_servers(&cluster, "cp-1")? == urls(&[1, 2, 3]));
    let api = site.provision("apis", "cp-1", Ipv4Addr::new(198, 18, 0, 11))?;
    api.boot()?;
    cluster.wait_ready()?;
    after("the control plane is Ready");

    lose_one(site, &cluster, &machines)?;
    if soak() {
        release_one(site, &cluster)?;
        scale(site, &cluster)?;
    }
    tell(
        "apis",
        &site.stage.seedbed(&["explain", STATE, "-n", NAMESPACE])?,
    );
    Ok(())
}

/// An etcd machine is gone for good: the spare takes its place, and API servers that boot later are
/// told of it.
fn lose_one(site: &Site, cluster: &Cluster<'_>, machines: &[Arc<Machine>]) -> Result<()> {
    let revision = |cluster: &Cluster<'_>| -> Result<Value> {
        let status = cluster.status()?;
        Ok(status["machines"][0]["revision"].clone())
    };
    let before = revision(cluster)?;
    let writer = Writer::begin(cluster)?;
    machines[1].power_off()?;
    machines[1].unplug()?;
    let lost = Instant::now();
    let spare = boot_as(site, 4, "etcd-4_1")?;
    wait_members(site, &["etcd-1", "etcd-3", "etcd-4_1"])?;
    tell(
        "apis",
        &format!(
            "replaced {:.1} s after the loss",
            lost.elapsed().as_secs_f64()
        ),
    );
    wait(SEED_LIMIT, || {
        let servers = etcd_servers(cluster, "cp-1")?;
        ensure!(servers == urls(&[1, 3, 4]), "{servers:?}");
        Ok(())
    })?;
    cluster.wait_ready()?;
    ensure!(revision(cluster)? != before, "the revision is the same");
    let report = writer.end()?;
    tell("apis", &format!("meanwhile: {report:?}"));
    ensure!(
        report.longest_gap <= Duration::from_secs(15),
        "writes stood still for {:?}",
        report.longest_gap
    );
    let members = etcd::members(&spare)?;
    let names: Vec<&str> = members.iter().map(|member| member.name.as_str()).collect();
    ensure!(names == ["etcd-1", "etcd-3", "etcd-4_1"], "{members:?}");
    ensure!(members.iter().all(|member| !member.learner), "{members:?}");
    Ok(())
}

/// A healthy machine is released; the one that was lost, imaged anew, takes its place.
fn release_one(site: &Site, cluster: &Cluster<'_>) -> Result<()> {
    let secret = format!("{STATE}-etcd-1");
    let request = "seedbed.dev/release-requested=maintenance";
    site.stage
        .kubectl(&["-n", NAMESPACE, "annotate", "secret", &secret, request])?;
    boot_as(site, 2, "etcd-2_2")?;
    wait_members(site, &["etcd-2_2", "etcd-3", "etcd-4_1"])?;
    wait(SEED_LIMIT, || {
        let secret = site.stage.get("secret", &secret)?;
        let released = &secret["metadata"]["annotations"]["seedbed.dev/released"];
        ensure!(released.is_string(), "it is not released");
        ensure!(secret["data"].is_null(), "it still has its user data");
        let servers = etcd_servers(cluster, "cp-1")?;
        ensure!(!servers.contains(&client_url(1)), "{servers:?}");
        Ok(())
    })?;
    cluster.wait_ready().map(drop)
}

/// Three, five, three: the machine that was released is given back, and another joins the inventory.
fn scale(site: &Site, cluster: &Cluster<'_>) -> Result<()> {
    let scale = |size: &str| {
        let size = format!("--replicas={size}");
        let scale = ["-n", NAMESPACE, "scale", "etcdcluster", STATE, &size];
        site.stage.kubectl(&scale).map(drop)
    };
    let servers = |wanted: &[u8]| {
        wait(SEED_LIMIT, || {
            let mut servers = etcd_servers(cluster, "cp-1")?;
            servers.sort_unstable();
            ensure!(servers == urls(wanted), "{servers:?}");
            Ok(())
        })
    };
    let writer = Writer::begin(cluster)?;
    let secret = format!("{STATE}-etcd-1");
    let give_back = "seedbed.dev/release-requested-";
    site.stage
        .kubectl(&["-n", NAMESPACE, "annotate", "secret", &secret, give_back])?;
    site.apply_object(&etcd_cluster(5))?;
    scale("5")?;
    boot_as(site, 5, "etcd-5_3")?;
    let last = boot_as(site, 1, "etcd-1_4")?;
    let five = ["etcd-1_4", "etcd-2_2", "etcd-3", "etcd-4_1", "etcd-5_3"];
    wait_members(site, &five)?;
    ensure!(etcd::members(&last)?.len() == 5);
    servers(&[1, 2, 3, 4, 5])?;
    scale("3")?;
    wait(MACHINES_LIMIT, || {
        let object = site.stage.get("etcdcluster", STATE)?;
        let settled = condition_of(&object, "MembershipSettled") == Some("True");
        let ready = condition_of(&object, "Ready") == Some("True");
        let three = object["status"]["members"].as_array().map(Vec::len) == Some(3);
        ensure!(settled && ready && three, "{:#}", object["status"]);
        Ok(())
    })?;
    wait(SEED_LIMIT, || {
        let servers = etcd_servers(cluster, "cp-1")?;
        ensure!(servers.len() == 3, "{servers:?}");
        Ok(())
    })?;
    let report = writer.end()?;
    tell("apis", &format!("3, 5, 3: {report:?}"));
    cluster.wait_ready().map(drop)
}
