//! The text of `seedbed status`. Pure.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

use super::verdict::{Phase, View, expected_secrets, holds, verdict};
use crate::controllers::conditions::{
    AVAILABLE, CERTIFICATES_VALID, ETCD_HEALTHY, MACHINE_CONFIGS_PUBLISHED, MEMBERSHIP_SETTLED,
    RECONCILING, STALLED, UP_TO_DATE,
};
use crate::crd::{MachineStatus, MemberRole, MemberStatus};
use crate::pki::secret_names;

/// A line and what stands below it.
struct Item {
    text: String,
    below: Vec<Item>,
}

impl Item {
    fn leaf(text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            below: Vec::new(),
        }
    }

    fn write(&self, indent: &str, out: &mut String) {
        for (index, item) in self.below.iter().enumerate() {
            let last = index + 1 == self.below.len();
            let (branch, trunk) = if last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            *out += &format!("{indent}{branch}{}\n", item.text);
            item.write(&format!("{indent}{trunk}"), out);
        }
    }
}

/// Verdict, what happens next and who must act, in one line.
pub fn headline(view: &View) -> String {
    let verdict = verdict(view);
    format!(
        "{} is {}. Next: {}. To act: {}.",
        view.name(),
        verdict.is,
        verdict.next,
        verdict.act
    )
}

/// The whole text: the headline, a tree, and commands for what is to be done now.
pub fn render(view: &View) -> String {
    let mut out = format!("{}\n\n", headline(view));
    let root = control_plane(view);
    out += &format!("{}\n", root.text);
    root.write("", &mut out);
    if verdict(view).phase != Phase::Deleting {
        boot_commands(view, &mut out);
        kubeconfig_command(view, &mut out);
    }
    out
}

fn control_plane(view: &View) -> Item {
    let object = &view.control_plane;
    let status = view.status();
    let mut text = format!("ControlPlane {}: {}", view.name(), object.spec.version);
    if let Some(endpoint) = status.and_then(|status| status.endpoint.as_deref()) {
        text += &format!(", {endpoint}");
    }
    if let Some(created) = &object.metadata.creation_timestamp {
        text += &format!(", created {} ago", span(view.now, created.0));
    }
    let machines = machines(view);
    let etcd = etcd(view);
    let told = [&machines, &etcd].iter().any(|item| !item.below.is_empty());
    let mut below = conditions(view, told);
    below.extend([etcd, machines, certificates(view), secrets(view)]);
    Item { text, below }
}

/// Conditions that are out of the ordinary, unless the rows below tell the same.
fn conditions(view: &View, rows_tell: bool) -> Vec<Item> {
    let conditions = view.conditions();
    let abnormal = |condition: &&Condition| match condition.type_.as_str() {
        STALLED => condition.status == "True",
        RECONCILING => condition.status == "True" && !rows_tell,
        CERTIFICATES_VALID | UP_TO_DATE => condition.status == "False",
        ETCD_HEALTHY | AVAILABLE => condition.status == "False" && !rows_tell,
        _ => false,
    };
    let mut said: Vec<&str> = Vec::new();
    let mut items = Vec::new();
    for condition in conditions.iter().filter(abnormal) {
        // Several conditions often say the same; the first is enough.
        if !condition.message.is_empty() && said.contains(&condition.message.as_str()) {
            continue;
        }
        said.push(&condition.message);
        items.push(condition_item(condition));
    }
    items
}

fn condition_item(condition: &Condition) -> Item {
    let not = if condition.status == "True" {
        ""
    } else {
        "not "
    };
    let text = format!("{not}{} ({})", condition.type_, condition.reason);
    Item::leaf(match condition.message.as_str() {
        "" => text,
        message => format!("{text}: {message}"),
    })
}

fn etcd(view: &View) -> Item {
    let spec = &view.control_plane.spec;
    let own = view.control_plane.name_any();
    let Some(name) = spec.etcd_cluster(&own) else {
        let external = spec.etcd.as_ref().and_then(|etcd| etcd.external.as_ref());
        let endpoints = external.map(|external| external.endpoints.join(", "));
        let endpoints = endpoints.unwrap_or_default();
        return Item::leaf(format!("etcd that Seedbed does not manage: {endpoints}"));
    };
    let Some(status) = view.etcd_status() else {
        let text = if view.etcd.is_some() {
            "not founded yet"
        } else {
            "not there yet"
        };
        return Item::leaf(format!("EtcdCluster {name}: {text}"));
    };
    let founding = status.ledger.as_ref().and_then(|l| l.founding.as_ref());
    let voters = status.members.iter().filter(|m| votes(m));
    let members = if status.members.is_empty() {
        founding.map_or(0, |f| f.members.len())
    } else {
        voters.clone().count()
    };
    let healthy = voters.filter(|m| m.healthy == Some(true));
    let mut text = format!(
        "EtcdCluster {name}: {} of {members} voters healthy",
        healthy.count()
    );
    let learners = status.members.iter().filter(|m| !votes(m)).count();
    if learners > 0 {
        text += &format!(", {learners} joining");
    }
    let leader = status.members.iter().find(|m| m.leader == Some(true));
    if let Some(leader) = leader {
        text += &format!(", {} leads", leader.name);
    }
    if let Some(id) = &status.cluster_id {
        text += &format!(", cluster ID {id}");
    }
    let stalled = holds(&status.conditions, STALLED).map(condition_item);
    let ill = status
        .members
        .iter()
        .filter(|m| m.healthy != Some(true) || !m.alarms.is_empty());
    // Before the first answer every row says the same as the machines below.
    let answered = status.cluster_id.is_some();
    let ill = ill.filter(|_| answered).map(member);
    let held = status.conditions.iter().find(|c| {
        c.type_ == MEMBERSHIP_SETTLED && c.status == "False" && status.cluster_id.is_some()
    });
    let held = held.filter(|_| stalled.is_none()).map(condition_item);
    Item {
        text,
        below: stalled.into_iter().chain(held).chain(ill).collect(),
    }
}

/// A member counts for quorum unless it is known not to.
fn votes(member: &MemberStatus) -> bool {
    !matches!(
        member.role,
        Some(MemberRole::Learner | MemberRole::Unstarted)
    )
}

fn member(member: &MemberStatus) -> Item {
    let mut text = member.name.clone();
    if let Some(id) = &member.id {
        text += &format!(" (member {id})");
    }
    text += ": ";
    text += member.message.as_deref().unwrap_or("healthy");
    if !member.alarms.is_empty() {
        text += &format!("; alarms: {}", member.alarms.join(", "));
    }
    Item::leaf(text)
}

fn machines(view: &View) -> Item {
    let replicas = view.control_plane.spec.replicas;
    let whole = |machine: &&MachineStatus| {
        machine.api_server_ready == Some(true) && machine.node_ready == Some(true)
    };
    let whole_count = view.machines().filter(whole).count();
    let mut text = format!("Machines: {whole_count} of {replicas} ready");
    let spares = view.status().map_or(0, |status| {
        status
            .machines
            .iter()
            .filter(|m| m.spare == Some(true))
            .count()
    });
    if spares > 0 {
        text += &format!(", {spares} spare");
    }
    let ill = view.machines().filter(|machine| !whole(machine));
    Item {
        text,
        below: ill.map(machine).collect(),
    }
}

fn machine(machine: &MachineStatus) -> Item {
    let message = machine
        .message
        .as_deref()
        .unwrap_or("nothing is known of it yet");
    Item::leaf(format!("{}: {message}", machine.name))
}

fn certificates(view: &View) -> Item {
    let certificates = view
        .status()
        .and_then(|status| status.certificates.as_ref());
    let earliest = certificates.and_then(|certificates| {
        let expiry: Timestamp = certificates.earliest_expiry.as_ref()?.parse().ok()?;
        let of = certificates
            .earliest_expiry_of
            .as_deref()
            .unwrap_or("a certificate");
        Some((expiry, of))
    });
    Item::leaf(match earliest {
        None => "Certificates: none issued yet".to_owned(),
        Some((expiry, of)) if expiry <= view.now => {
            format!("Certificates: {of} expired {} ago", span(view.now, expiry))
        }
        Some((expiry, of)) => {
            format!(
                "Certificates: {of} expires first, in {}",
                span(expiry, view.now)
            )
        }
    })
}

fn secrets(view: &View) -> Item {
    let found = match &view.secrets {
        Ok(found) => found,
        Err(why) => return Item::leaf(format!("Secrets: cannot be listed: {why}")),
    };
    let published = holds(view.conditions(), MACHINE_CONFIGS_PUBLISHED).is_some();
    let expected = expected_secrets(&view.control_plane);
    let there = expected.iter().filter(|name| found.contains(*name)).count();
    if verdict(view).phase == Phase::Deleting {
        return Item::leaf(format!("Secrets: {} left", found.len()));
    }
    if !published {
        return Item::leaf(format!("Secrets: {} so far", found.len()));
    }
    let missing = expected.iter().filter(|name| !found.contains(*name));
    Item {
        text: format!("Secrets: {there} of {} there", expected.len()),
        below: missing
            .map(|name| Item::leaf(format!("{name}: missing")))
            .collect(),
    }
}

/// Which Secret is for which machine, as long as one has not booted.
fn boot_commands(view: &View, out: &mut String) {
    let booting = [Phase::AwaitingMachines, Phase::Starting, Phase::Changing];
    if !booting.contains(&verdict(view).phase) {
        return;
    }
    let unbooted: Vec<&MachineStatus> = view.unbooted().collect();
    let Some(first) = unbooted.first() else {
        return;
    };
    *out += "\nBoot each machine with the user data in its Secret, key \"value\":\n";
    let width = unbooted.iter().map(|machine| machine.name.len()).max();
    for machine in &unbooted {
        let (name, secret) = (&machine.name, secret(machine));
        let inventory = view.control_plane.spec.machines.iter();
        let address = inventory.clone().find(|m| m.name == *name);
        let address = address.map_or("", |machine| machine.address.as_str());
        *out += &format!(
            "  {name:<0$}  {address:<15}  Secret {secret}\n",
            width.unwrap_or(0)
        );
    }
    *out += "To have one as a file:\n";
    *out += &fetch(view, secret(first), &format!("{}.user-data", first.name));
}

fn secret(machine: &MachineStatus) -> &str {
    machine.secret_name.as_deref().unwrap_or_default()
}

fn kubeconfig_command(view: &View, out: &mut String) {
    if holds(view.conditions(), AVAILABLE).is_none() {
        return;
    }
    let name = view.control_plane.name_any();
    *out += "\nTo use the new cluster:\n";
    *out += &fetch(
        view,
        &secret_names::kubeconfig(&name),
        &format!("{name}.kubeconfig"),
    );
    *out += &format!("  kubectl --kubeconfig {name}.kubeconfig get nodes\n");
}

fn fetch(view: &View, secret: &str, file: &str) -> String {
    let namespace = view.control_plane.namespace().unwrap_or_default();
    format!(
        "  kubectl -n {namespace} get secret {secret} -o jsonpath='{{.data.value}}' | base64 -d > {file}\n"
    )
}

/// How long from `earlier` to `later`, in its largest unit.
fn span(later: Timestamp, earlier: Timestamp) -> String {
    let span: SignedDuration = later.duration_since(earlier);
    let seconds = span.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}
