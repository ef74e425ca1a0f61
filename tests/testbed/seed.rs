//! The seed: a real etcd, kube-apiserver and kube-controller-manager without any node. It is the
//! cluster that Seedbed runs in and whose objects people write.

use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::{Process, Spawn};
use super::progress::Progress;
use super::seed_access::Access;
use super::seed_pki::Files;
use super::state::StateDir;
use super::{Component, build, netns};

/// How long the seed may take until it is ready: mostly for machines that are busy otherwise.
const START_LIMIT: Duration = Duration::from_secs(180);

// What makes owner references, namespaces and service accounts behave as in a real cluster. No
// workload controllers: there is no node that could run a pod.
const CONTROLLERS: [&str; 7] = [
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "resourcequota-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
];

// What kubeadm's clusters run besides for machines that join.
const JOIN_CONTROLLERS: [&str; 6] = [
    "bootstrap-signer-controller",
    "certificatesigningrequest-approving-controller",
    "certificatesigningrequest-cleaner-controller",
    "certificatesigningrequest-signing-controller",
    "disruption-controller",
    "token-cleaner-controller",
];

const AUDIT_LOG: &str = "logs/audit.jsonl";
// A request is written when it was answered; a watch, which has no end, when it has begun.
const AUDIT_POLICY: &str = r#"{
  "apiVersion": "audit.k8s.io/v1", "kind": "Policy",
  "omitStages": ["RequestReceived"], "rules": [{"level": "Metadata"}]
}"#;

/// How to run the seed.
#[derive(Clone, Debug)]
pub struct Options {
    /// The address that etcd and the API server listen on.
    pub listen: IpAddr,
    /// The network namespace to run in; `None` is that of this process.
    pub netns: Option<String>,
    /// Whether to run kube-controller-manager: without it nothing is garbage collected, no
    /// namespace ends, and namespaces get no default service account.
    pub controller_manager: bool,
    /// Whether the API server writes down every request that it has answered, one JSON object a
    /// line without bodies, to [`Seed::audit_log`].
    pub audit_log: bool,
    /// Whether machines can join it, as a cluster that kubeadm made: bootstrap tokens authenticate,
    /// and the controller manager signs kubelets' certificates and looks after tokens.
    pub joinable: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: IpAddr::V4(Ipv4Addr::LOCALHOST),
            netns: None,
            controller_manager: true,
            audit_log: false,
            joinable: false,
        }
    }
}

/// A running seed. Dropping it kills it, unless its state outlives this program. What one needs to
/// talk to it is in [`Access`].
pub struct Seed {
    access: Access,
    programs: Programs,
    options: Options,
    api_server_command: Command,
    // In the order in which they are dropped: clients before servers.
    controller_manager: Option<Process>,
    api_server: Mutex<Option<Process>>,
    etcd: Process,
}

impl Deref for Seed {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

struct Programs {
    kubernetes: PathBuf,
    etcd: PathBuf,
}

impl Seed {
    /// Builds what is missing, starts the seed in `state`, and returns once it is ready. It holds
    /// no data of an earlier seed in the same folder.
    pub async fn start(state: &StateDir, options: Options) -> Result<Self> {
        let state = state.clone();
        tokio::task::spawn_blocking(move || Self::start_blocking(&state, &options)).await?
    }

    /// `start` for code that is not async.
    pub fn start_blocking(state: &StateDir, options: &Options) -> Result<Self> {
        let programs = Programs {
            kubernetes: build::ensure(Component::Kubernetes)?,
            etcd: build::ensure(Component::Etcd)?,
        };
        let progress = Progress::start("start the seed");
        // Ports are free when looked at, yet another program may take one before it is used.
        let mut attempt = 1;
        loop {
            match Self::try_start(state, options, &programs) {
                Ok(started) => {
                    progress.done();
                    let (access, api_server_command, etcd, api_server) = started;
                    let mut seed = Self {
                        access,
                        programs,
                        options: options.clone(),
                        api_server_command,
                        controller_manager: None,
                        api_server: Mutex::new(Some(api_server)),
                        etcd,
                    };
                    seed.start_controller_manager()?;
                    return Ok(seed);
                }
                Err(e) if attempt < 4 && format!("{e:#}").contains("address already in use") => {
                    attempt += 1;
                }
                Err(e) => return Err(e).context("the seed does not start"),
            }
        }
    }

    fn try_start(
        state: &StateDir,
        options: &Options,
        programs: &Programs,
    ) -> Result<(Access, Command, Process, Process)> {
        let [client, peer, api] = free_ports(options)?;
        let how = spawn(options);
        let data = state.join("etcd");
        if data.exists() {
            std::fs::remove_dir_all(&data)
                .with_context(|| format!("cannot remove {}", data.display()))?;
        }
        let address = |port: u16| SocketAddr::new(options.listen, port);
        let etcd_url = format!("http://{}", address(client));
        let command = etcd(
            programs,
            &data,
            &etcd_url,
            &format!("http://{}", address(peer)),
        );
        let etcd = Process::spawn(state, "etcd", &command, &how)?;

        let server = format!("https://{}", address(api));
        let files = Files::in_dir(state.join("seed"));
        files.create(options.listen, &server)?;
        let mut command = api_server(programs, &files, &etcd_url, address(api));
        if options.audit_log {
            let policy = state.join("seed/audit-policy.json");
            std::fs::write(&policy, AUDIT_POLICY)
                .with_context(|| format!("cannot write {}", policy.display()))?;
            command.args([
                file("audit-policy-file", &policy),
                file("audit-log-path", &state.join(AUDIT_LOG)),
            ]);
        }
        if options.joinable {
            command.arg("--enable-bootstrap-token-auth");
        }
        let api_server = Process::spawn(state, "kube-apiserver", &command, &how)?;
        let access = Access::new(state.clone(), server, options.netns.clone());
        access.save()?;
        access.wait_ready(START_LIMIT, || {
            etcd.check()?;
            api_server.check()
        })?;
        Ok((access, command, etcd, api_server))
    }

    fn start_controller_manager(&mut self) -> Result<()> {
        if !self.options.controller_manager {
            return Ok(());
        }
        let files = Files::in_dir(self.state().join("seed"));
        let command = controller_manager(&self.programs, &files, self.options.joinable);
        let how = spawn(&self.options);
        let process = Process::spawn(self.state(), "kube-controller-manager", &command, &how)?;
        // The first thing it makes for a namespace that every cluster has.
        let made = "/api/v1/namespaces/default/serviceaccounts/default";
        self.wait_for(made, START_LIMIT, || process.check())?;
        self.controller_manager = Some(process);
        Ok(())
    }

    /// Stops the API server in good order. Safe to call from several tasks.
    pub async fn stop_api_server(&self) -> Result<()> {
        let stopped = self.api_server().take();
        tokio::task::spawn_blocking(move || stopped.map_or(Ok(()), |p| p.stop())).await?
    }

    /// Kills the API server at once, as a crash of its machine would.
    pub fn kill_api_server(&self) -> Result<()> {
        let stopped = self.api_server().take();
        stopped.map_or(Ok(()), |process| process.kill())
    }

    /// Starts the API server again, at the same address and with the same data; returns once it
    /// is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        let process = {
            let mut slot = self.api_server();
            if slot.is_some() {
                bail!("the seed's API server runs already");
            }
            let command = &self.api_server_command;
            let how = spawn(&self.options);
            slot.insert(Process::spawn(
                self.state(),
                "kube-apiserver",
                command,
                &how,
            )?)
            .pid()
        };
        let access = self.access.clone();
        let checked =
            tokio::task::spawn_blocking(move || access.wait_ready(START_LIMIT, || Ok(()))).await?;
        checked.with_context(|| {
            let log = self.state().log("kube-apiserver");
            let tail = super::progress::tail(&log, super::progress::TAIL_LINES);
            format!("kube-apiserver ({process}) does not come back; end of its log:\n{tail}")
        })
    }

    /// `stop_api_server`, then `start_api_server`.
    pub async fn restart_api_server(&self) -> Result<()> {
        self.stop_api_server().await?;
        self.start_api_server().await
    }

    /// Stops everything at once. The data stays in the state folder until it goes.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(process) = self.controller_manager.take() {
            process.kill()?;
        }
        self.kill_api_server()?;
        self.etcd.kill()
    }

    /// The file that requests are written to under [`Options::audit_log`]: events of
    /// audit.k8s.io/v1, level Metadata, one a line. The server writes a line before the client has
    /// the whole answer, or shortly after.
    pub fn audit_log(&self) -> PathBuf {
        self.state().join(AUDIT_LOG)
    }

    /// Certificate and key of the CA that everybody here trusts, PEM.
    pub fn ca(&self) -> Result<(String, String)> {
        let files = Files::in_dir(self.state().join("seed"));
        let read = |path: PathBuf| {
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))
        };
        Ok((read(files.ca())?, read(files.ca_key())?))
    }

    /// The last log lines of every part, for the message of a failed test.
    pub fn log_tails(&self) -> String {
        super::seed_access::log_tails(self.state())
    }

    fn api_server(&self) -> MutexGuard<'_, Option<Process>> {
        self.api_server
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn spawn(options: &Options) -> Spawn {
    Spawn {
        netns: options.netns.clone(),
        ..Spawn::default()
    }
}

// Below the range from which the kernel takes ports for outgoing connections.
fn free_ports<const N: usize>(options: &Options) -> Result<[u16; N]> {
    netns::inside_or_here(options.netns.as_deref(), || {
        let mut held = Vec::new();
        for _ in 0..1000 {
            let port = rand::random_range(20_000..32_000);
            if let Ok(listener) = TcpListener::bind((options.listen, port)) {
                held.push((port, listener));
            }
            if let Some((ports, [])) = held.split_first_chunk::<N>() {
                return Ok(std::array::from_fn(|i| ports[i].0));
            }
        }
        bail!("no free ports at {}", options.listen)
    })
}

fn flag(name: &str, value: impl Display) -> String {
    format!("--{name}={value}")
}

fn file(name: &str, value: &Path) -> String {
    flag(name, value.display())
}

fn etcd(programs: &Programs, data: &Path, client_url: &str, peer_url: &str) -> Command {
    let mut command = Command::new(programs.etcd.join("etcd"));
    command.args([
        flag("name", "seed"),
        file("data-dir", data),
        flag("listen-client-urls", client_url),
        flag("advertise-client-urls", client_url),
        flag("listen-peer-urls", peer_url),
        flag("initial-advertise-peer-urls", peer_url),
        flag("initial-cluster", format!("seed={peer_url}")),
        flag("log-level", "warn"),
        // Nobody needs this data after a power failure.
        "--unsafe-no-fsync".to_owned(),
    ]);
    command
}

fn api_server(programs: &Programs, files: &Files, etcd: &str, listen: SocketAddr) -> Command {
    let (certificate, key) = files.serving();
    let (public, private) = files.service_account_keys();
    let mut command = Command::new(programs.kubernetes.join("kube-apiserver"));
    command.args([
        flag("etcd-servers", etcd),
        flag("bind-address", listen.ip()),
        flag("secure-port", listen.port()),
        flag("advertise-address", listen.ip()),
        // There is no pod that could use the `kubernetes` Service, and its endpoints may not be
        // loopback addresses.
        flag("endpoint-reconciler-type", "none"),
        file("tls-cert-file", &certificate),
        file("tls-private-key-file", &key),
        file("client-ca-file", &files.ca()),
        flag("authorization-mode", "RBAC"),
        flag("service-account-issuer", "https://kubernetes.default.svc"),
        file("service-account-signing-key-file", &private),
        file("service-account-key-file", &public),
        flag("service-cluster-ip-range", "198.19.255.0/24"),
        // Some tests take the seed for a target, where kube-proxy is privileged.
        flag("allow-privileged", true),
        flag("profiling", false),
    ]);
    command
}

fn controller_manager(programs: &Programs, files: &Files, joinable: bool) -> Command {
    let mut command = Command::new(programs.kubernetes.join("kube-controller-manager"));
    let mut controllers = CONTROLLERS.to_vec();
    if joinable {
        controllers.extend(JOIN_CONTROLLERS);
        command.args([
            file("cluster-signing-cert-file", &files.ca()),
            file("cluster-signing-key-file", &files.ca_key()),
        ]);
    }
    command.args([
        file("kubeconfig", &files.controller_manager_kubeconfig()),
        flag("controllers", controllers.join(",")),
        file(
            "service-account-private-key-file",
            &files.service_account_keys().1,
        ),
        file("root-ca-file", &files.ca()),
        // Each controller with the rights that a real cluster gives it, not with all of them.
        flag("use-service-account-credentials", true),
        flag("leader-elect", false),
        // Serves nothing: no port to collide with another seed's.
        flag("secure-port", 0),
        flag("profiling", false),
    ]);
    command
}
