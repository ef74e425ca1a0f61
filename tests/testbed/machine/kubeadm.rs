//! The baseline that benchmarks compare with: the real kubeadm, one machine after another, on the
//! same machines. It also proves that the machines can carry a control plane at all.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use super::{
    super::{netns, progress},
    Machine, POLL,
};

/// The drop-in that the Debian package of kubeadm puts beside the kubelet's unit.
const DROP_IN: &str = r#"# Note: This dropin only works with kubeadm and kubelet v1.11+
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
# This is a file that "kubeadm init" and "kubeadm join" generates at runtime, populating the KUBELET_KUBEADM_ARGS variable dynamically
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
# This is a file that the user can use for overrides of the kubelet args as a last resort. Preferably, the user should use
# the .NodeRegistration.KubeletExtraArgs object in the configuration files instead. KUBELET_EXTRA_ARGS should be sourced from this file.
EnvironmentFile=-/etc/default/kubelet
ExecStart=
ExecStart=/usr/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS $KUBELET_EXTRA_ARGS
"#;

const ADMIN: &str = "/etc/kubernetes/admin.conf";
const CONFIG: &str = "/etc/kubeadm.yaml";

/// What kubeadm is told.
#[derive(Clone, Debug)]
pub struct Options {
    /// Exact release, for example `v1.37.1`.
    pub version: String,
    /// Host (or address) and port of the load balancer.
    pub endpoint: String,
    /// Pod addresses of the whole cluster.
    pub pod_cidr: String,
    /// Service addresses.
    pub service_cidr: String,
    /// Leave out kube-proxy and CoreDNS.
    pub skip_addons: bool,
    /// An etcdctl on this machine, to count the voters.
    pub etcdctl: std::path::PathBuf,
}

/// How long it took.
#[derive(Clone, Debug)]
pub struct Elapsed {
    /// `kubeadm init` on the first machine.
    pub init: Duration,
    /// `kubeadm join --control-plane` on each other machine, in order.
    pub joins: Vec<Duration>,
    /// From the start of `init` until every API server is ready and every machine is a registered
    /// node and a voter of etcd.
    pub total: Duration,
}

/// Runs `kubeadm init` on the first of `machines`, then `kubeadm join --control-plane` on each
/// other one. They must have booted, and have run neither kubeadm nor a kubelet before.
pub fn bring_up(machines: &[Machine], options: &Options) -> Result<Elapsed> {
    let (first, others) = machines.split_first().context("no machines")?;
    for machine in machines {
        prepare(machine)?;
    }
    let token = first.exec(&["kubeadm", "token", "generate"])?;
    let key = first.exec(&["kubeadm", "certs", "certificate-key"])?;
    let (token, key) = (token.trim(), key.trim());
    fs::write(first.file(CONFIG), init_config(first, options, token, key))?;
    for machine in others {
        fs::write(
            machine.file(CONFIG),
            join_config(machine, options, token, key),
        )?;
    }

    let begin = Instant::now();
    run(
        first,
        &["kubeadm", "init", "--upload-certs", "--config", CONFIG],
    )?;
    let init = begin.elapsed();
    let mut joins = Vec::new();
    for machine in others {
        let begin = Instant::now();
        run(machine, &["kubeadm", "join", "--config", CONFIG])?;
        joins.push(begin.elapsed());
    }
    wait_complete(machines, options)?;
    Ok(Elapsed {
        init,
        joins,
        total: begin.elapsed(),
    })
}

/// Runs `kubectl` as the cluster's administrator on `machine`.
pub fn kubectl(machine: &Machine, arguments: &[&str]) -> Result<String> {
    machine.exec(&[&["kubectl", "--kubeconfig", ADMIN], arguments].concat())
}

/// Puts in what the Kubernetes packages bring beside the programs.
pub fn prepare(machine: &Machine) -> Result<()> {
    let folder = machine.file("/usr/lib/systemd/system/kubelet.service.d");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("10-kubeadm.conf"), DROP_IN)?;
    machine.exec(&["systemctl", "daemon-reload"])?;
    machine
        .exec(&["systemctl", "enable", "--quiet", "kubelet"])
        .map(drop)
}

fn run(machine: &Machine, argv: &[&str]) -> Result<()> {
    let output = machine.command(argv)?.output()?;
    ensure!(
        output.status.success(),
        "{} on {}: {}\n{}\n{}\nend of the kubelet's journal:\n{}",
        argv.join(" "),
        machine.name(),
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
        machine.journal_tail("kubelet")
    );
    Ok(())
}

fn wait_complete(machines: &[Machine], options: &Options) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let missing = match incomplete(machines, options) {
            Ok(None) => return Ok(()),
            Ok(Some(missing)) => missing,
            Err(e) => format!("{e:#}"),
        };
        ensure!(
            Instant::now() < deadline,
            "the control plane is not complete: {missing}"
        );
        std::thread::sleep(POLL);
    }
}

/// What is missing, if anything.
fn incomplete(machines: &[Machine], options: &Options) -> Result<Option<String>> {
    let Some(first) = machines.first() else {
        return Ok(None);
    };
    for machine in machines {
        let server = format!("https://{}:6443", machine.address());
        kubectl(first, &["--server", &server, "get", "--raw", "/readyz"])?;
    }
    let nodes = kubectl(first, &["get", "nodes", "-o", "name"])?
        .lines()
        .count();
    if nodes != machines.len() {
        return Ok(Some(format!("{nodes} nodes of {}", machines.len())));
    }
    let voters = voters(first, &options.etcdctl)?;
    Ok((voters != machines.len()).then(|| format!("{voters} voters of {}", machines.len())))
}

/// How many started voters the etcd member on `machine` knows.
fn voters(machine: &Machine, etcdctl: &Path) -> Result<usize> {
    let pki = machine.file("/etc/kubernetes/pki/etcd");
    let mut list: Command = netns::command(Some(machine.namespace()), etcdctl);
    list.arg(format!("--endpoints=https://{}:2379", machine.address()));
    list.arg("--cacert").arg(pki.join("ca.crt"));
    list.arg("--cert").arg(pki.join("server.crt"));
    list.arg("--key").arg(pki.join("server.key"));
    list.args(["member", "list", "--write-out=json"]);
    let answer: serde_json::Value = serde_json::from_str(&progress::output(&mut list)?)?;
    let members = answer["members"]
        .as_array()
        .context("etcd lists no members")?;
    let started = |m: &&serde_json::Value| m["name"].is_string() && m["isLearner"] != true;
    Ok(members.iter().filter(started).count())
}

fn init_config(machine: &Machine, options: &Options, token: &str, key: &str) -> String {
    let Options {
        version,
        endpoint,
        pod_cidr,
        service_cidr,
        ..
    } = options;
    let skipped = if options.skip_addons {
        "[preflight, addon]"
    } else {
        "[preflight]"
    };
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens: [{{token: {token}}}]
certificateKey: {key}
localAPIEndpoint: {{advertiseAddress: {address}, bindPort: 6443}}
skipPhases: {skipped}
nodeRegistration:
{registration}---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
kubernetesVersion: {version}
controlPlaneEndpoint: {endpoint}
encryptionAlgorithm: ECDSA-P256
networking: {{podSubnet: {pod_cidr}, serviceSubnet: {service_cidr}}}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
failCgroupV1: false
failSwapOn: false
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
conntrack: {{maxPerCore: 0}}
",
        address = machine.address(),
        registration = registration(machine),
    )
}

fn join_config(machine: &Machine, options: &Options, token: &str, key: &str) -> String {
    format!(
        "apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
controlPlane:
  certificateKey: {key}
  localAPIEndpoint: {{advertiseAddress: {address}, bindPort: 6443}}
discovery:
  bootstrapToken:
    apiServerEndpoint: {endpoint}
    token: {token}
    unsafeSkipCAVerification: true
skipPhases: [preflight]
nodeRegistration:
{registration}",
        address = machine.address(),
        endpoint = options.endpoint,
        registration = registration(machine),
    )
}

/// A container shares its host's swap, modules and cgroups, hence no preflight errors.
fn registration(machine: &Machine) -> String {
    format!(
        "  name: {}
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: Never
  ignorePreflightErrors: [all]
  kubeletExtraArgs: [{{name: node-ip, value: {}}}]
",
        machine.name(),
        machine.address()
    )
}
