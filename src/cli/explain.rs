//! `seedbed explain`: why the members of an etcd cluster are as they are, and what holds every step
//! that is not taken. The edge reads one object; the text is pure.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{Api, Client, Config, ResourceExt};

use crate::controllers::conditions::{ETCD_HEALTHY, MEMBERSHIP_SETTLED, STALLED};
use crate::controllers::etcd_cluster::operation_in_words;
use crate::crd::{
    ControlPlane, Decision, EtcdCluster, EtcdClusterStatus, MemberStatus, PendingOperation,
};
use crate::runtime::client;
use crate::runtime::metrics::Metrics;

/// Explain etcd's membership: the members, the change under way, every step that is wanted and not
/// taken with the rule that holds it, and the last decisions with the facts they stood on.
///
/// Reads the cluster of the current kubeconfig. The rules I1 to I22 are those of ARCHITECTURE.md.
///
/// Exit code: 0 when the members are those that are wanted; 1 while a change is under way or held;
/// 2 when nothing is changed until a person has looked, or when it cannot be read.
#[derive(Args)]
pub(super) struct Explain {
    /// Name of an EtcdCluster, or of a ControlPlane: that of its own etcd is the same, and one that it
    /// refers to is found.
    name: String,

    /// Namespace. Default: that of the current context.
    #[arg(short, long)]
    namespace: Option<String>,
}

/// Explains it; the exit code says how it stands.
pub(super) async fn explain(
    args: Explain,
    out: &mut impl Write,
) -> Result<ExitCode, Box<dyn Error>> {
    let config = Config::infer()
        .await
        .map_err(|error| format!("cannot tell which cluster to ask: {error}; set KUBECONFIG"))?;
    let namespace = args.namespace.unwrap_or(config.default_namespace.clone());
    let client: Client = client::unfenced(config, &Metrics::default())?;
    let api: Api<EtcdCluster> = Api::namespaced(client.clone(), &namespace);
    let mut found = api.get_opt(&args.name).await?;
    if found.is_none() {
        let control_planes: Api<ControlPlane> = Api::namespaced(client, &namespace);
        let control_plane = control_planes.get_opt(&args.name).await?;
        let spec = control_plane.as_ref().map(|found| &found.spec);
        if let Some(name) = spec.and_then(|spec| spec.etcd_cluster(&args.name)) {
            found = api.get_opt(name).await?;
        }
    }
    let Some(cluster) = found else {
        let what = format!(
            "there is no EtcdCluster {:?} in namespace {namespace:?}, nor one that a ControlPlane of \
             this name refers to; a stacked one is called like its ControlPlane, and made when that \
             is looked at for the first time",
            args.name
        );
        return Err(what.into());
    };
    out.write_all(text(&cluster).as_bytes())?;
    Ok(ExitCode::from(exit_code(&cluster)))
}

fn condition<'a>(cluster: &'a EtcdCluster, kind: &str) -> Option<&'a Condition> {
    let conditions = &cluster.status.as_ref()?.conditions;
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// 0: settled; 1: changing or held; 2: only a person can help.
pub fn exit_code(cluster: &EtcdCluster) -> u8 {
    let is = |kind| condition(cluster, kind).is_some_and(|found| found.status == "True");
    match (is(STALLED), is(MEMBERSHIP_SETTLED)) {
        (true, _) => 2,
        (false, true) => 0,
        (false, false) => 1,
    }
}

/// The whole text.
pub fn text(cluster: &EtcdCluster) -> String {
    let name = format!(
        "{}/{}",
        cluster.namespace().unwrap_or_default(),
        cluster.name_any()
    );
    let Some(status) = &cluster.status else {
        return format!("EtcdCluster {name}: the operator has not looked at it yet\n");
    };
    let said = |kind| {
        let found = condition(cluster, kind)?;
        (!found.message.is_empty()).then(|| found.message.clone())
    };
    let health = said(ETCD_HEALTHY).unwrap_or_else(|| "nothing is known yet".to_owned());
    let mut text = format!("EtcdCluster {name}: {health}\n");
    text += &section("Members", status.members.iter().map(member));
    let pending = status.pending_operation.iter().map(under_way);
    text += &section("Under way", pending);
    text += &section("Membership", [membership(cluster, status, said)]);
    text += &section("Last decisions", status.decisions.iter().map(decision));
    text
}

fn section(title: &str, lines: impl IntoIterator<Item = String>) -> String {
    let lines: Vec<String> = lines.into_iter().collect();
    let mut text = String::new();
    if !lines.is_empty() {
        text += &format!("\n{title}:\n");
        for line in lines {
            text += &format!("  {line}\n");
        }
    }
    text
}

/// What the conditions say about the next step: every step that is held stands on a line of its
/// own there.
fn membership(
    cluster: &EtcdCluster,
    status: &EtcdClusterStatus,
    said: impl Fn(&'static str) -> Option<String>,
) -> String {
    let settled = condition(cluster, MEMBERSHIP_SETTLED);
    match settled.map(|found| found.status.as_str()) {
        Some("True") => format!(
            "as wanted: {} of {} voters",
            status.replicas.unwrap_or(0),
            cluster.spec.size
        ),
        Some("False") => said(MEMBERSHIP_SETTLED)
            .unwrap_or_else(|| "changing".to_owned())
            .replace("; ", "\n  "),
        _ => "nothing is decided before a member has answered".to_owned(),
    }
}

fn member(member: &MemberStatus) -> String {
    let mut text = member.name.clone();
    if let Some(id) = &member.id {
        let _ = write!(text, " ({id})");
    }
    if let Some(machine) = member.machine.as_ref().filter(|m| **m != member.name) {
        let _ = write!(text, " on {machine}");
    }
    if let Some(role) = member.role {
        let _ = write!(text, ", {role:?}");
    }
    if member.leader == Some(true) {
        text += ", leader";
    }
    text += match (member.healthy, &member.message) {
        (Some(true), _) => ": healthy",
        (_, Some(_)) => ": ",
        (_, None) => ": not healthy",
    };
    if let Some(message) = &member.message {
        text += message;
    }
    if let Some(since) = &member.silent_since {
        let _ = write!(text, "; it and its machine are silent since {since}");
    }
    text
}

fn under_way(pending: &PendingOperation) -> String {
    let mut text = format!(
        "{}, recorded {}, try {}",
        operation_in_words(pending),
        pending.started_at,
        pending.attempts.unwrap_or(0)
    );
    if let Some(reason) = &pending.reason {
        let _ = write!(text, "; because {reason}");
    }
    if let Some(message) = &pending.message {
        let _ = write!(text, "; the last try failed: {message}");
    }
    text
}

fn decision(decision: &Decision) -> String {
    let held = decision.held_by.as_ref();
    let held = held.map_or(String::new(), |by| format!(", held by {by}"));
    format!(
        "{}  {}{held}: {}",
        decision.time, decision.step, decision.because
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn cluster(settled: &str, message: &str) -> EtcdCluster {
        let condition = |kind: &str, status: &str, message: &str| {
            json!({"type": kind, "status": status, "reason": "Any", "message": message,
                   "lastTransitionTime": "2026-11-26T10:00:00Z"})
        };
        serde_json::from_value(json!({
            "apiVersion": "seedbed.dev/v1alpha1",
            "kind": "EtcdCluster",
            "metadata": {"name": "prod", "namespace": "clusters"},
            "spec": {"version": "3.7.0", "size": 3, "machines": []},
            "status": {
                "replicas": 3,
                "conditions": [
                    condition("EtcdHealthy", "False", "2 of 3 voters are healthy"),
                    condition("MembershipSettled", settled, message),
                ],
                "members": [
                    {"name": "cp-1", "machine": "cp-1", "id": "a1", "role": "Voter",
                     "leader": true, "healthy": true},
                    {"name": "cp-4_1", "machine": "cp-4", "role": "Unstarted", "healthy": false,
                     "message": "nothing answers", "silentSince": "2026-11-26T10:00:00Z"},
                ],
                "pendingOperation": {"kind": "Remove", "memberID": "b2", "machine": "cp-2",
                    "startedAt": "2026-11-26T10:01:00Z", "attempts": 2, "reason": "it is lost",
                    "message": "etcdserver: unhealthy cluster"},
                "decisions": [
                    {"time": "2026-11-26T10:00:30Z", "step": "remove member b2 of machine cp-2",
                     "because": "1 of 2 would be healthy", "heldBy": "I1"},
                ],
            },
        }))
        .unwrap()
    }

    #[test]
    fn every_held_step_and_its_rule_are_told() {
        let held = "remove member b2 of machine cp-2 is held by I1: why; add learner is held by I4";
        let cluster = cluster("False", held);
        let text = text(&cluster);
        for line in [
            "EtcdCluster clusters/prod: 2 of 3 voters are healthy\n",
            "  cp-1 (a1), Voter, leader: healthy\n",
            "  cp-4_1 on cp-4, Unstarted: nothing answers; it and its machine are silent since \
             2026-11-26T10:00:00Z\n",
            "  remove member b2 of machine cp-2, recorded 2026-11-26T10:01:00Z, try 2; because it \
             is lost; the last try failed: etcdserver: unhealthy cluster\n",
            "  remove member b2 of machine cp-2 is held by I1: why\n  add learner is held by I4\n",
            "  2026-11-26T10:00:30Z  remove member b2 of machine cp-2, held by I1: 1 of 2 would be \
             healthy\n",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
        assert_eq!(exit_code(&cluster), 1);
    }

    #[test]
    fn a_settled_cluster_says_so() {
        let cluster = cluster("True", "");
        assert!(text(&cluster).contains("as wanted: 3 of 3 voters"));
        assert_eq!(exit_code(&cluster), 0);
    }
}
