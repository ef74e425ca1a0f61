//! `seedbed status`: the whole text for every state, and the program against a real API server.
//! `UPDATE=1 cargo test --test status_cli` rewrites the texts.

#[path = "testbed/mod.rs"]
mod testbed;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use seedbed::cli::status::{View, expected_secrets, render, verdict};
use seedbed::controllers::conditions::{REASONS, TYPES};
use seedbed::crd::{ControlPlane, EtcdCluster};
use serde_json::{Value, json};
use testbed::seed::Options;
use testbed::stage::wait;
use testbed::{Seed, StateDir};

const CREATED: &str = "2026-11-22T08:00:00Z";
const NOW: &str = "2026-11-22T08:03:20Z";

/// A condition with a type and a reason that exist.
fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    assert!(TYPES.iter().any(|(known, _)| *known == kind), "{kind}");
    let known =
        |(known, _): &(seedbed::controllers::conditions::Reason, _)| known.as_str() == reason;
    assert!(REASONS.iter().any(known), "{reason}");
    json!({"type": kind, "status": status, "reason": reason, "message": message,
           "lastTransitionTime": CREATED, "observedGeneration": 1})
}

/// Objects of one control plane, changed step by step.
struct State {
    control_plane: Value,
    etcd: Option<Value>,
    secrets: Option<BTreeSet<String>>,
}

impl State {
    /// Applied, and nothing has happened since.
    fn fresh() -> Self {
        let machine =
            |n: u8| json!({"name": format!("cp-{n}"), "address": format!("198.18.0.1{n}")});
        Self {
            control_plane: json!({
                "apiVersion": "seedbed.dev/v1alpha1",
                "kind": "ControlPlane",
                "metadata": {"name": "prod", "namespace": "clusters", "generation": 1,
                             "creationTimestamp": CREATED},
                "spec": {
                    "version": "v1.37.1",
                    "endpoint": {"host": "198.18.0.10"},
                    "replicas": 3,
                    "machines": [machine(1), machine(2), machine(3)],
                },
            }),
            etcd: None,
            secrets: Some(BTreeSet::new()),
        }
    }

    /// Everything is as it should be.
    fn ready() -> Self {
        let mut state = Self::fresh();
        let machine = |n: u8| {
            json!({"name": format!("cp-{n}"), "secretName": format!("prod-cp-{n}"),
                   "revision": "4f0c", "apiServerReady": true, "nodeReady": true,
                   "kubeletVersion": "v1.37.1", "etcdMemberID": format!("8e9e05c52164694{n}")})
        };
        state.control_plane["status"] = json!({
            "observedGeneration": 1,
            "endpoint": "https://198.18.0.10:6443",
            "replicas": 3,
            "readyReplicas": 3,
            "version": "v1.37.1",
            "etcdCluster": "prod",
            "certificates": {"earliestExpiry": "2027-11-22T08:00:03Z",
                             "earliestExpiryOf": "prod-cp-1-certs/apiserver.crt"},
            "machines": [machine(1), machine(2), machine(3)],
            "conditions": [],
        });
        for (kind, status, reason) in [
            ("Available", "True", "AsDesired"),
            ("CertificatesValid", "True", "AsDesired"),
            ("EtcdHealthy", "True", "AsDesired"),
            ("MachineConfigsPublished", "True", "AsDesired"),
            ("Paused", "False", "NotPaused"),
            ("Ready", "True", "AsDesired"),
            ("Reconciling", "False", "Idle"),
            ("Stalled", "False", "NotStalled"),
            ("UpToDate", "True", "AsDesired"),
        ] {
            state.set(kind, status, reason, "");
        }
        let member = |n: u8| {
            json!({"name": format!("cp-{n}"), "machine": format!("cp-{n}"), "role": "Voter",
                   "id": format!("8e9e05c52164694{n}"), "leader": n == 2, "healthy": true})
        };
        let slot = |n: u8| json!({"machine": format!("cp-{n}"), "generation": 0, "started": true});
        state.etcd = Some(json!({
            "apiVersion": "seedbed.dev/v1alpha1",
            "kind": "EtcdCluster",
            "metadata": {"name": "prod", "namespace": "clusters"},
            "spec": {"version": "3.7.0", "size": 3,
                     "machines": state.control_plane["spec"]["machines"].clone()},
            "status": {
                "clusterID": "5b2c3a1f00d1e2f3",
                "conditions": [condition("EtcdHealthy", "True", "AsDesired", ""),
                               condition("Stalled", "False", "NotStalled", "")],
                "members": [member(1), member(2), member(3)],
                "ledger": {"slots": [slot(1), slot(2), slot(3)]},
            },
        }));
        state.secrets = Some(
            expected_secrets(&state.view().control_plane)
                .into_iter()
                .collect(),
        );
        state
    }

    /// Published, and no machine has answered.
    fn awaiting() -> Self {
        let mut state = Self::ready();
        let mut why = Vec::new();
        for n in 1..=3 {
            let message = format!("nothing listens at 198.18.0.1{n}:6443");
            why.push(format!("cp-{n}: {message}"));
            state.machine_down(n, &message);
            state.member_down(n, "it does not answer: connection refused");
            let slots = &mut state.etcd()["ledger"]["slots"];
            slots[n - 1]["started"] = json!(false);
        }
        let why = why.join("; ");
        let etcd = state.etcd();
        etcd["clusterID"] = Value::Null;
        etcd["conditions"] = json!([condition("EtcdHealthy", "False", "AwaitingMachines", "")]);
        state.set(
            "EtcdHealthy",
            "False",
            "AwaitingMachines",
            "0 of 3 voters are healthy",
        );
        state.set("Available", "False", "AwaitingMachines", &why);
        state.set("Ready", "False", "AwaitingMachines", &why);
        state.set("Reconciling", "True", "AwaitingMachines", &why);
        state.set(
            "UpToDate",
            "Unknown",
            "MachinesStarting",
            "not every Node is registered",
        );
        state
    }

    /// Status of the EtcdCluster.
    fn etcd(&mut self) -> &mut Value {
        &mut self.etcd.as_mut().expect("has an EtcdCluster")["status"]
    }

    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let conditions = self.control_plane["status"]["conditions"].as_array_mut();
        let conditions = conditions.expect("has a status");
        conditions.retain(|condition| condition["type"] != kind);
        conditions.push(condition(kind, status, reason, message));
        conditions.sort_by_key(|condition| condition["type"].to_string());
    }

    fn not_ready(&mut self, reason: &str, message: &str) {
        self.set("Ready", "False", reason, message);
        self.set("Reconciling", "True", reason, message);
    }

    fn machine_down(&mut self, number: usize, message: &str) {
        let row = &mut self.control_plane["status"]["machines"][number - 1];
        row["apiServerReady"] = json!(false);
        row["nodeReady"] = json!(false);
        row["message"] = json!(message);
    }

    fn member_down(&mut self, number: usize, message: &str) {
        let status = self.etcd();
        let row = &mut status["members"][number - 1];
        *row = json!({"name": row["name"], "machine": row["machine"], "healthy": false,
                      "message": message});
    }

    fn view(&self) -> View {
        let control_plane: ControlPlane =
            serde_json::from_value(self.control_plane.clone()).expect("a ControlPlane");
        let etcd = self.etcd.clone();
        let etcd = etcd.map(|etcd| serde_json::from_value::<EtcdCluster>(etcd).expect("its etcd"));
        let refused = "secrets is forbidden: User \"jane\" cannot list resource \"secrets\"";
        View {
            control_plane,
            etcd,
            secrets: self.secrets.clone().ok_or_else(|| refused.to_owned()),
            now: NOW.parse::<Timestamp>().expect("a time"),
        }
    }
}

#[track_caller]
fn check(name: &str, state: &State, exit_code: u8) {
    let view = state.view();
    assert_eq!(verdict(&view).exit_code(), exit_code, "{name}");
    let text = render(&view);
    let path =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/golden/status/{name}.txt"));
    if std::env::var_os("UPDATE").is_some() {
        let folder = path.parent().expect("has a folder");
        std::fs::create_dir_all(folder).expect("can be made");
        std::fs::write(&path, &text).expect("can be written");
    }
    let stored = std::fs::read_to_string(&path).expect("a golden text; run with UPDATE=1");
    assert_eq!(text, stored, "{name}; run with UPDATE=1");
}

#[test]
fn fresh() {
    check("fresh", &State::fresh(), 1);
}

#[test]
fn changed_spec() {
    let mut state = State::ready();
    state.control_plane["metadata"]["generation"] = json!(2);
    check("changed-spec", &state, 1);
}

#[test]
fn waiting_for_the_founding() {
    let mut state = State::ready();
    state.control_plane["status"]["machines"] = json!([]);
    *state.etcd() = Value::Null;
    state.secrets = Some(["prod-ca", "prod-etcd"].map(str::to_owned).into());
    let why = "waiting for the founding of etcd to be recorded";
    state.not_ready("AwaitingFounding", why);
    state.set("MachineConfigsPublished", "False", "AwaitingFounding", why);
    state.set("Available", "Unknown", "NotObserved", "");
    check("preparing", &state, 1);
}

#[test]
fn waiting_for_machines() {
    check("waiting-for-machines", &State::awaiting(), 1);
}

#[test]
fn starting() {
    let mut state = State::ready();
    state.control_plane["status"]["version"] = Value::Null;
    state.machine_down(
        2,
        "the API server at 198.18.0.12:6443 is not ready: [-]etcd failed",
    );
    state.machine_down(3, "nothing listens at 198.18.0.13:6443");
    state.member_down(3, "it does not answer: connection refused");
    let etcd = state.etcd();
    etcd["ledger"]["slots"][2]["started"] = json!(false);
    etcd["conditions"] = json!([condition("EtcdHealthy", "False", "MachinesStarting", "")]);
    let why = "cp-2: the API server is not ready; cp-3: nothing listens at 198.18.0.13:6443";
    state.not_ready("MachinesStarting", why);
    state.set(
        "EtcdHealthy",
        "False",
        "MachinesStarting",
        "2 of 3 voters are healthy",
    );
    check("starting", &state, 1);
}

#[test]
fn completing() {
    let mut state = State::ready();
    let why = "Deployment kube-system/coredns: the API server refused it: timeout; \
               DaemonSet kube-system/kube-proxy: the API server refused it: timeout";
    state.not_ready("TargetPending", why);
    check("completing", &state, 1);
}

#[test]
fn ready() {
    check("ready", &State::ready(), 0);
}

#[test]
fn ready_without_a_network_plugin() {
    let mut state = State::ready();
    for n in 0..3 {
        let row = &mut state.control_plane["status"]["machines"][n];
        row["nodeReady"] = json!(false);
        row["message"] = json!("the Node is not Ready");
    }
    check("ready-nodes-not-ready", &state, 0);
}

#[test]
fn ready_with_an_older_version() {
    let mut state = State::ready();
    let why = "cp-2 runs v1.37.0";
    state.set("UpToDate", "False", "Degraded", why);
    check("ready-outdated", &state, 0);
}

#[test]
fn degraded() {
    let mut state = State::ready();
    let message = "nothing listens at 198.18.0.13:6443";
    state.machine_down(3, message);
    state.member_down(3, "it does not answer: timed out after 2s");
    let etcd = state.etcd();
    etcd["conditions"] = json!([condition("EtcdHealthy", "False", "Degraded", "")]);
    state.not_ready("Degraded", &format!("cp-3: {message}"));
    state.set(
        "EtcdHealthy",
        "False",
        "Degraded",
        "2 of 3 voters are healthy; cp-3: silent",
    );
    check("degraded", &state, 1);
}

#[test]
fn quorum_lost() {
    let mut state = State::ready();
    for n in [2, 3] {
        state.machine_down(n, &format!("nothing listens at 198.18.0.1{n}:6443"));
        state.member_down(n, "it does not answer: timed out after 2s");
    }
    state.machine_down(
        1,
        "the API server at 198.18.0.11:6443 is not ready: [-]etcd failed",
    );
    state.member_down(1, "it knows no leader");
    state.etcd()["members"][0]["id"] = json!("8e9e05c521646941");
    let etcd = state.etcd();
    etcd["conditions"] = json!([condition("EtcdHealthy", "False", "QuorumLost", "")]);
    state.not_ready("Degraded", "cp-1: is not ready; cp-2: silent; cp-3: silent");
    state.set(
        "EtcdHealthy",
        "False",
        "QuorumLost",
        "0 of 3 voters are healthy",
    );
    state.set(
        "Available",
        "False",
        "NoApiServer",
        "no API server is ready",
    );
    check("quorum-lost", &state, 2);
}

#[test]
fn stalled_by_an_invalid_spec() {
    let mut state = State::fresh();
    let why = "spec.kubelet.config.cgroupDriver: \"cgroup\" is not a cgroup driver; use systemd \
               or cgroupfs; spec.apiServer.extraArgs[etcd-servers]: is Seedbed's to set; remove it";
    state.control_plane["status"] = json!({"observedGeneration": 1, "conditions": []});
    state.set("Stalled", "True", "InvalidSpec", why);
    state.set("Reconciling", "False", "Blocked", "");
    state.set("Ready", "False", "InvalidSpec", why);
    state.set("MachineConfigsPublished", "False", "InvalidSpec", why);
    check("stalled-invalid-spec", &state, 2);
}

#[test]
fn stalled_by_a_missing_input() {
    let mut state = State::fresh();
    let why =
        "spec.machineConfig.files[0].contentFrom: Secret \"registry\" does not exist; create it";
    state.control_plane["status"] = json!({"observedGeneration": 1, "conditions": []});
    state.set("Stalled", "True", "MissingInput", why);
    state.set("Ready", "False", "MissingInput", why);
    check("stalled-missing-input", &state, 2);
}

#[test]
fn stalled_by_etcd() {
    let mut state = State::ready();
    let why = "members answer with different cluster IDs: 5b2c3a1f00d1e2f3 on cp-1; 77aa on cp-2";
    let etcd = state.etcd();
    etcd["conditions"] = json!([
        condition("Stalled", "True", "SplitBrain", why),
        condition("EtcdHealthy", "False", "SplitBrain", why)
    ]);
    state.set("EtcdHealthy", "False", "SplitBrain", why);
    state.set("Ready", "False", "SplitBrain", why);
    check("stalled-etcd", &state, 2);
}

#[test]
fn paused() {
    let mut state = State::ready();
    state.control_plane["spec"]["paused"] = json!(true);
    state.set("Paused", "True", "Paused", "spec.paused is set");
    state.set("Ready", "False", "Paused", "spec.paused is set");
    check("paused", &state, 2);
}

#[test]
fn deleting() {
    let mut state = State::ready();
    state.control_plane["metadata"]["deletionTimestamp"] = json!(NOW);
    state.secrets = Some(["prod-ca"].map(str::to_owned).into());
    check("deleting", &state, 1);
}

#[test]
fn secrets_that_are_missing_or_hidden() {
    let mut state = State::ready();
    state.secrets.as_mut().unwrap().remove("prod-cp-2");
    check("secret-missing", &state, 0);
    state.secrets = None;
    check("secrets-hidden", &state, 0);
}

/// Whatever conditions and rows say, there is a text, and done is said exactly when Ready is true
/// of the newest spec.
#[test]
fn every_reason_has_a_text() {
    for (reason, _) in REASONS {
        for kind in ["Reconciling", "Stalled", "Ready"] {
            let mut state = State::awaiting();
            state.set(kind, "True", reason.as_str(), "why");
            let view = state.view();
            let first = render(&view).lines().next().unwrap().to_owned();
            assert!(
                first.contains(". Next: ") && first.contains(". To act: "),
                "{first}"
            );
            let stored: &[Condition] = &view.control_plane.status.as_ref().unwrap().conditions;
            let is_true = |kind: &str| stored.iter().any(|c| c.type_ == kind && c.status == "True");
            let ready = is_true("Ready") && !is_true("Stalled");
            assert_eq!(verdict(&view).exit_code() == 0, ready, "{kind} {first}");
        }
    }
}

fn run(seed: &Seed, arguments: &[&str]) -> Result<(Option<i32>, String, String)> {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_seedbed"))
        .arg("status")
        .args(arguments)
        .env("KUBECONFIG", seed.admin_kubeconfig())
        .output()?;
    Ok((
        status.code(),
        String::from_utf8(stdout)?,
        String::from_utf8(stderr)?,
    ))
}

#[test]
fn the_program_reads_a_real_api_server() -> Result<()> {
    let state = StateDir::for_test("status-cli")?;
    let options = Options {
        controller_manager: false,
        ..Options::default()
    };
    let seed = Seed::start_blocking(&state, &options)?;
    let kubectl = |arguments: &[&str]| testbed::progress::output(seed.kubectl()?.args(arguments));

    let (code, _, error) = run(&seed, &["prod"])?;
    ensure!(
        code == Some(2) && error.contains("seedbed crds | kubectl apply"),
        "{error}"
    );
    let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/crd");
    let crds = crds.to_str().context("UTF-8")?;
    kubectl(&["apply", "-f", crds])?;
    kubectl(&[
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "-f",
        crds,
    ])?;
    // Established is said before the storage answers.
    wait(Duration::from_secs(60), || {
        kubectl(&["get", "seedbed", "-A"]).map(drop)
    })?;
    kubectl(&["create", "namespace", "clusters"])?;

    let (code, _, error) = run(&seed, &["prod", "-n", "clusters"])?;
    ensure!(
        code == Some(2) && error.contains("there is no ControlPlane \"prod\""),
        "{error}"
    );
    let (code, _, error) = run(&seed, &["-A"])?;
    ensure!(
        code == Some(2) && error.contains("no ControlPlanes in any namespace"),
        "{error}"
    );

    let ready = State::ready();
    for object in [Some(&ready.control_plane), ready.etcd.as_ref()] {
        let object = object.context("both are there")?;
        let file = state.join("object.json");
        std::fs::write(&file, object.to_string())?;
        let file = file.to_str().context("UTF-8")?;
        kubectl(&["apply", "-f", file])?;
        kubectl(&["apply", "--server-side", "--subresource=status", "-f", file])?;
    }
    for secret in ready.secrets.iter().flatten() {
        kubectl(&["-n", "clusters", "create", "secret", "generic", secret])?;
    }
    let (code, text, error) = run(&seed, &["prod", "-n", "clusters"])?;
    ensure!(code == Some(0), "{text}{error}");
    ensure!(text.contains("clusters/prod is ready"), "{text}");
    ensure!(
        text.contains("Secrets: 11 of 11 there"),
        "unlabelled ones count, too: {text}"
    );
    let (code, text, _) = run(&seed, &["-A"])?;
    ensure!(code == Some(0) && text.lines().count() == 1, "{text}");

    let fresh = r#"{"spec":{"paused":true}}"#;
    kubectl(&[
        "-n",
        "clusters",
        "patch",
        "controlplane",
        "prod",
        "--type=merge",
        "-p",
        fresh,
    ])?;
    let (code, text, _) = run(&seed, &["-n", "clusters"])?;
    ensure!(
        code == Some(1) && text.contains("changed since the operator last looked"),
        "{text}"
    );

    let nobody = Command::new(env!("CARGO_BIN_EXE_seedbed"))
        .args(["status", "prod"])
        .env("KUBECONFIG", "/nonexistent")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .output()?;
    ensure!(nobody.status.code() == Some(2), "{nobody:?}");
    Ok(())
}
