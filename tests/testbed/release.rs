//! The operator as the chart installs it: helm puts it into the seed, and its replicas run with
//! the arguments, the variables and the service account of the Deployment. A seed has no node, so
//! the replicas are processes in its network namespace instead of pods.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::process::{Process, Spawn};
use super::seed_access::Access;
use super::state::StateDir;
use super::{Component, build, netns, progress};

/// Namespace of the release.
pub const NAMESPACE: &str = "seedbed-system";
const NAME: &str = "seedbed";
/// Each replica listens on a port of its own: pods would have an address each.
const FIRST_PORT: u16 = 8080;
/// Longest wait for an answer of a replica's health endpoints.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// An installed chart.
pub struct Release {
    access: Access,
    deployment: Value,
    kubeconfig: PathBuf,
    next_port: AtomicU16,
}

impl Release {
    /// Has the release, its namespace, `namespaces` and the definitions deleted with the state
    /// folder, for a seed that stays.
    pub fn remove_later(access: &Access, namespaces: &[&str]) -> Result<()> {
        let kubectl = access.kubectl()?;
        let program = kubectl
            .get_program()
            .to_str()
            .context("the path is not UTF-8")?;
        let kubeconfig = access.admin_kubeconfig();
        let kubeconfig = kubeconfig.to_str().context("the path is not UTF-8")?;
        let delete = |what: &[&str]| {
            let how = [
                program,
                "--kubeconfig",
                kubeconfig,
                "delete",
                "--ignore-not-found",
            ];
            access.state().undo_later(&[&how[..], what].concat())
        };
        // The last one recorded runs first.
        delete(&[
            "crd",
            "controlplanes.seedbed.dev",
            "etcdclusters.seedbed.dev",
            "nodepools.seedbed.dev",
        ])?;
        delete(&[&["namespace", NAMESPACE], namespaces].concat())
    }

    /// Installs the chart for these namespaces, which exist; `values` are further arguments.
    pub fn install(access: &Access, watched: &[&str], values: &[&str]) -> Result<Self> {
        let chart = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/seedbed");
        let mut helm = netns::command(access.netns(), build::program(Component::Helm, "helm")?);
        for (variable, folder) in [
            ("HELM_CACHE_HOME", "helm/cache"),
            ("HELM_CONFIG_HOME", "helm/config"),
            ("HELM_DATA_HOME", "helm/data"),
        ] {
            helm.env(variable, access.state().join(folder));
        }
        helm.env_remove("HELM_NAMESPACE")
            .env("KUBECONFIG", access.admin_kubeconfig())
            .args(["install", NAME])
            .arg(chart)
            .args(["--namespace", NAMESPACE, "--create-namespace"])
            .args([
                "--set",
                &format!("watchNamespaces={{{}}}", watched.join(",")),
            ])
            .args(values);
        progress::output(&mut helm)?;
        let mut get = access.kubectl()?;
        get.args(["-n", NAMESPACE, "get", "deployment", NAME, "-o", "json"]);
        let deployment: Value = serde_json::from_str(&progress::output(&mut get)?)?;
        let account = deployment["spec"]["template"]["spec"]["serviceAccountName"]
            .as_str()
            .context("the Deployment names no service account")?;
        let kubeconfig = netns::inside_or_here(access.netns(), || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(access.kubeconfig_for_service_account(NAMESPACE, account))
        })?;
        Ok(Self {
            access: access.clone(),
            deployment,
            kubeconfig,
            next_port: AtomicU16::new(FIRST_PORT),
        })
    }

    /// The operator's user name in the seed.
    pub fn user(&self) -> String {
        let account = &self.deployment["spec"]["template"]["spec"]["serviceAccountName"];
        let account = account.as_str().unwrap_or_default();
        format!("system:serviceaccount:{NAMESPACE}:{account}")
    }

    /// Starts `program` as the replica `pod` of the Deployment. Its log goes on under that name.
    pub fn start(&self, program: &Path, pod: &str) -> Result<Replica> {
        let container = &self.deployment["spec"]["template"]["spec"]["containers"][0];
        let variables = variables(container, pod)?;
        let port = self.next_port.fetch_add(1, Ordering::Relaxed);
        let health = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let mut command = Command::new(program);
        for argument in container["args"].as_array().context("no arguments")? {
            let argument = argument.as_str().context("an argument is no text")?;
            command.arg(match argument.strip_prefix("--health-address=") {
                Some(_) => format!("--health-address=[::]:{port}"),
                None => expanded(argument, &variables),
            });
        }
        for of_this_process in ["RUST_LOG", "POD_NAMESPACE"] {
            command.env_remove(of_this_process);
        }
        command.envs(&variables).env("KUBECONFIG", &self.kubeconfig);
        let how = Spawn {
            netns: self.access.netns().map(str::to_owned),
            // A reconcile ends before the operator does.
            grace: Duration::from_secs(75),
        };
        let process = Process::spawn(self.access.state(), pod, &command, &how)?;
        Ok(Replica {
            process,
            health,
            netns: self.access.netns().map(str::to_owned),
        })
    }

    /// The state folder of its seed.
    pub fn state(&self) -> &StateDir {
        self.access.state()
    }
}

/// The container's variables, as a kubelet would set them.
fn variables(container: &Value, pod: &str) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for variable in container["env"].as_array().into_iter().flatten() {
        let name = variable["name"]
            .as_str()
            .context("a variable has no name")?;
        let field = variable["valueFrom"]["fieldRef"]["fieldPath"].as_str();
        let value = match (variable["value"].as_str(), field) {
            (Some(value), _) => value,
            (None, Some("metadata.name")) => pod,
            (None, Some("metadata.namespace")) => NAMESPACE,
            (None, _) => bail!("the testbed does not know where {name} comes from: {variable}"),
        };
        variables.insert(name.to_owned(), value.to_owned());
    }
    Ok(variables)
}

/// `$(NAME)` becomes the variable's value, as in a container.
fn expanded(argument: &str, variables: &BTreeMap<String, String>) -> String {
    variables
        .iter()
        .fold(argument.to_owned(), |text, (name, value)| {
            text.replace(&format!("$({name})"), value)
        })
}

/// One running replica. Dropping it kills it, unless its state outlives this program.
pub struct Replica {
    process: Process,
    health: SocketAddr,
    netns: Option<String>,
}

impl Replica {
    /// Its process, to stop or kill it, or to see its log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What one of its endpoints (`/healthz`, `/readyz`, `/metrics`) answers; an error unless the
    /// status is 200.
    pub fn get(&self, path: &str) -> Result<String> {
        self.process.check()?;
        netns::inside_or_here(self.netns.as_deref(), || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                tokio::time::timeout(ANSWER_LIMIT, get(self.health, path)).await?
            })
        })
    }

    /// Sum of the series whose name and labels begin with `prefix`; 0 without any.
    pub fn metric(&self, prefix: &str) -> Result<f64> {
        let text = self.get("/metrics")?;
        let values = text
            .lines()
            .filter(|line| line.starts_with(prefix))
            .filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
        Ok(values.sum())
    }

    /// Whether it holds the lease.
    pub fn leads(&self) -> Result<bool> {
        Ok(self.metric("seedbed_leader")? > 0.0)
    }

    /// Reconciles of a kind that have ended.
    pub fn reconciles(&self, kind: &str) -> Result<f64> {
        self.metric(&format!(
            "seedbed_reconcile_duration_seconds_count{{kind=\"{kind}\"}}"
        ))
    }
}

async fn get(address: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: seedbed\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    ensure!(head.split(' ').nth(1) == Some("200"), "{path}: {answer}");
    Ok(body.to_owned())
}
