//! The members as etcd itself lists them, compared with what the EtcdCluster says.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::cluster::{Cluster, run_in};
use crate::testbed::machine::Machine;
use crate::testbed::{Component, build};

/// A member by its own answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub id: String,
    pub cluster_id: String,
    pub leader: bool,
    pub learner: bool,
    pub term: i64,
    pub index: i64,
    pub version: String,
}

/// Runs etcdctl in a machine with that member's own certificate; answers with JSON.
fn etcdctl(machine: &Machine, arguments: &[&str]) -> Result<Value> {
    let pki = "/etc/kubernetes/pki/etcd";
    let tls = [
        format!("--cacert={pki}/ca.crt"),
        format!("--cert={pki}/server.crt"),
        format!("--key={pki}/server.key"),
    ];
    let mut all = vec!["--endpoints=https://127.0.0.1:2379", "--write-out=json"];
    all.extend(tls.iter().map(String::as_str));
    all.extend(arguments);
    let program = build::program(Component::Etcd, "etcdctl")?;
    Ok(serde_json::from_str(&run_in(machine, &program, &all)?)?)
}

// etcdctl writes IDs as decimal numbers.
fn hex(id: &Value) -> Result<String> {
    Ok(format!("{:x}", id.as_u64().context("an ID is no number")?))
}

/// Every member of the cluster as the member on `machine` lists them, with what each one answers
/// itself; sorted by name. Members that were listed and are not started are an error.
pub fn members(machine: &Machine) -> Result<Vec<Member>> {
    let list = etcdctl(machine, &["member", "list"])?;
    let statuses = etcdctl(machine, &["endpoint", "status", "--cluster"])?;
    let statuses = statuses.as_array().context("no statuses")?;
    let mut members = Vec::new();
    for member in list["members"].as_array().context("no members")? {
        let url = &member["clientURLs"][0];
        let name = member["name"].as_str().unwrap_or_default();
        ensure!(!name.is_empty(), "a member has not started: {list}");
        let status = statuses
            .iter()
            .find(|status| &status["Endpoint"] == url)
            .with_context(|| format!("{name} does not answer: {statuses:?}"))?;
        let status = &status["Status"];
        let header = &status["header"];
        ensure!(
            header["member_id"] == member["ID"],
            "{name} is another member than listed: {status}"
        );
        members.push(Member {
            name: name.to_owned(),
            id: hex(&member["ID"])?,
            cluster_id: hex(&header["cluster_id"])?,
            leader: status["leader"] == member["ID"],
            learner: member["isLearner"] == true,
            term: status["raftTerm"].as_i64().context("no term")?,
            index: status["raftIndex"].as_i64().context("no index")?,
            version: status["version"].as_str().unwrap_or_default().to_owned(),
        });
    }
    members.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(members)
}

/// Three voters of one cluster with one leader, seen the same way by each of them; and the
/// EtcdCluster's status says the same. Returns the cluster's ID.
pub fn check_three_voters(cluster: &Cluster<'_>, machines: &[Arc<Machine>]) -> Result<String> {
    let own = members(&machines[0])?;
    let names: Vec<&str> = own.iter().map(|member| member.name.as_str()).collect();
    ensure!(names == ["cp-1", "cp-2", "cp-3"], "{own:?}");
    ensure!(own.iter().all(|member| !member.learner), "{own:?}");
    ensure!(
        own.iter().filter(|member| member.leader).count() == 1,
        "{own:?}"
    );
    let id = own[0].cluster_id.clone();
    ensure!(own.iter().all(|member| member.cluster_id == id), "{own:?}");
    let identity = |members: &[Member]| -> Vec<(String, String)> {
        let pairs = members.iter().map(|m| (m.name.clone(), m.id.clone()));
        pairs.collect()
    };
    for machine in &machines[1..] {
        let theirs = members(machine)?;
        ensure!(
            identity(&theirs) == identity(&own),
            "{} lists {theirs:?}, {} lists {own:?}",
            machine.name(),
            machines[0].name()
        );
    }
    check_rows(cluster, &own)?;
    Ok(id)
}

/// The rows of the status are the members' own answers.
fn check_rows(cluster: &Cluster<'_>, members: &[Member]) -> Result<()> {
    let status = cluster.etcd_status()?;
    ensure!(
        status["clusterID"] == members[0].cluster_id.as_str(),
        "{status:#}"
    );
    let rows = status["members"].as_array().context("no rows")?;
    ensure!(rows.len() == members.len(), "{rows:?}");
    for member in members {
        let row = rows
            .iter()
            .find(|row| row["name"] == member.name.as_str())
            .with_context(|| format!("no row of {}", member.name))?;
        let same = row["id"] == member.id.as_str()
            && row["machine"] == member.name.as_str()
            && row["role"] == "Voter"
            && row["leader"] == member.leader
            && row["healthy"] == true
            && row["raftTerm"] == member.term
            && row["version"] == member.version.as_str();
        ensure!(same, "{row:#}\nis not\n{member:#?}");
        // Figures are as of the last change in words; etcd's log only grows.
        let index = row["raftIndex"].as_i64().context("no raftIndex")?;
        ensure!(index > 0 && index <= member.index, "{row:#}\n{member:#?}");
        ensure!(
            row["lagEntries"].as_i64().is_some_and(|lag| lag >= 0),
            "{row:#}"
        );
        ensure!(
            row["dbSizeBytes"].as_i64().is_some_and(|size| size > 0),
            "{row:#}"
        );
        ensure!(row["lastProbeTime"].is_string(), "{row:#}");
    }
    let slots = status["ledger"]["slots"].as_array().context("no slots")?;
    for slot in slots {
        let member = members.iter().find(|m| slot["machine"] == m.name.as_str());
        let member = member.with_context(|| format!("a slot of nobody: {slot}"))?;
        ensure!(
            slot["memberID"] == member.id.as_str(),
            "{slot} is not {member:?}"
        );
    }
    Ok(())
}

/// ID and peer URL of every member as the one on `machine` lists them, started or not, sorted.
pub fn listed(machine: &Machine) -> Result<Vec<(String, String)>> {
    let list = etcdctl(machine, &["member", "list"])?;
    let mut listed = list["members"]
        .as_array()
        .context("no members")?
        .iter()
        .map(|member| {
            let url = member["peerURLs"][0].as_str().context("no peer URL")?;
            Ok((hex(&member["ID"])?, url.to_owned()))
        })
        .collect::<Result<Vec<_>>>()?;
    listed.sort();
    Ok(listed)
}
