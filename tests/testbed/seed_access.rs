//! Talking to a running seed: its kubeconfigs and clients.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::seed_pki::{Files, write_kubeconfig, write_private};
use super::state::StateDir;
use super::{Component, build, netns, progress};

const TOKEN_SECONDS: i64 = 24 * 3600;
const POLL: Duration = Duration::from_millis(100);

/// Where the seed is and how to get in.
#[derive(Clone)]
pub struct Access {
    state: StateDir,
    saved: Saved,
}

#[derive(Clone, Serialize, Deserialize)]
struct Saved {
    server: String,
    netns: Option<String>,
}

impl Access {
    pub(super) fn new(state: StateDir, server: String, netns: Option<String>) -> Self {
        Self {
            state,
            saved: Saved { server, netns },
        }
    }

    pub(super) fn save(&self) -> Result<()> {
        let file = self.state.join("seed/access.json");
        std::fs::write(&file, serde_json::to_vec_pretty(&self.saved)?)
            .with_context(|| format!("cannot write {}", file.display()))
    }

    /// The seed that was started in `state`, by this process or another; `None` if there was none.
    pub fn open(state: &StateDir) -> Result<Option<Self>> {
        let file = state.join("seed/access.json");
        if !file.exists() {
            return Ok(None);
        }
        let saved = serde_json::from_slice(&std::fs::read(&file)?)
            .with_context(|| format!("cannot read {}", file.display()))?;
        Ok(Some(Self {
            state: state.clone(),
            saved,
        }))
    }

    /// A seed that somebody else runs: the current context of `kubeconfig`, copied into `state`.
    pub fn existing(state: &StateDir, kubeconfig: &str) -> Result<Self> {
        let files = Files::in_dir(state.join("seed"));
        std::fs::create_dir_all(state.join("seed"))?;
        let mut view = Command::new(build::program(Component::Kubernetes, "kubectl")?);
        view.env("KUBECONFIG", kubeconfig).args([
            "config",
            "view",
            "--raw",
            "--minify",
            "--flatten",
            "--output",
            "json",
        ]);
        let text = progress::output(&mut view)
            .with_context(|| format!("KUBECONFIG={kubeconfig} has no usable current context"))?;
        let config: serde_json::Value = serde_json::from_str(&text)?;
        let cluster = &config["clusters"][0]["cluster"];
        let server = cluster["server"]
            .as_str()
            .context("the kubeconfig names no server")?;
        let ca = cluster["certificate-authority-data"]
            .as_str()
            .context("the kubeconfig holds no certificate authority; add one")?;
        std::fs::write(files.ca(), BASE64.decode(ca)?)?;
        write_private(&files.admin_kubeconfig(), &text)?;
        let access = Self::new(state.clone(), server.to_owned(), None);
        access.save()?;
        Ok(access)
    }

    /// The state folder it runs in.
    pub fn state(&self) -> &StateDir {
        &self.state
    }

    /// The URL of the API server.
    pub fn server(&self) -> &str {
        &self.saved.server
    }

    /// The network namespace it runs in.
    pub fn netns(&self) -> Option<&str> {
        self.saved.netns.as_deref()
    }

    /// The kubeconfig of a user with every right (group system:masters).
    pub fn admin_kubeconfig(&self) -> PathBuf {
        Files::in_dir(self.state.join("seed")).admin_kubeconfig()
    }

    /// A client with every right. If the seed runs in a network namespace, both this call and the
    /// runtime that uses the client have to be inside it (`netns::inside`).
    pub async fn client(&self) -> Result<kube::Client> {
        client(&self.admin_kubeconfig()).await
    }

    /// What [`Access::client`] is made of, to be changed.
    pub async fn client_config(&self) -> Result<kube::Config> {
        config(&self.admin_kubeconfig()).await
    }

    /// A kubeconfig with a token of a service account (as the kubelet gives to a pod), valid for
    /// a day, in a file that only this user can read.
    pub async fn kubeconfig_for_service_account(
        &self,
        namespace: &str,
        name: &str,
    ) -> Result<PathBuf> {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client().await?, namespace);
        let spec = TokenRequestSpec {
            expiration_seconds: Some(TOKEN_SECONDS),
            ..TokenRequestSpec::default()
        };
        let request = TokenRequest {
            spec: Some(spec),
            ..TokenRequest::default()
        };
        let answer = accounts
            .create_token_request(name, &PostParams::default(), &request)
            .await
            .with_context(|| format!("no token for the service account {namespace}/{name}"))?;
        let token = answer
            .status
            .context("the token request has no status")?
            .token;
        let file = self
            .state
            .join("seed")
            .join(format!("{namespace}-{name}.kubeconfig"));
        let ca = std::fs::read_to_string(Files::in_dir(self.state.join("seed")).ca())?;
        write_kubeconfig(&file, self.server(), &ca, &json!({ "token": token }))?;
        Ok(file)
    }

    /// `kubectl` as admin, inside the seed's network namespace; add arguments.
    pub fn kubectl(&self) -> Result<Command> {
        let program = build::program(Component::Kubernetes, "kubectl")?;
        let mut command = netns::command(self.netns(), program);
        command.env("KUBECONFIG", self.admin_kubeconfig());
        Ok(command)
    }

    /// Waits until the API server says that it is ready, at most `limit`. `check` is asked all the
    /// while whether waiting still makes sense.
    pub fn wait_ready(
        &self,
        limit: Duration,
        check: impl Fn() -> Result<()> + Send + Sync,
    ) -> Result<()> {
        self.wait_for("/readyz", limit, check)
    }

    /// Waits until a GET of `path` answers 200, at most `limit`. Blocks; works from outside of the
    /// seed's network namespace, too.
    pub fn wait_for(
        &self,
        path: &str,
        limit: Duration,
        check: impl Fn() -> Result<()> + Send + Sync,
    ) -> Result<()> {
        netns::inside_or_here(self.netns(), || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let client = self.client().await?;
                let deadline = Instant::now() + limit;
                loop {
                    check()?;
                    let Err(e) = get(&client, path).await else {
                        return Ok(());
                    };
                    if Instant::now() > deadline {
                        let log = log_tails(&self.state);
                        bail!("no answer to {path} in {} s: {e:#}\n{log}", limit.as_secs());
                    }
                    tokio::time::sleep(POLL).await;
                }
            })
        })
    }

    /// Whether the API server says that it is ready, at this moment. Blocks.
    pub fn is_ready(&self) -> bool {
        self.wait_ready(Duration::ZERO, || Ok(())).is_ok()
    }
}

/// A client for a kubeconfig file, such as that of a service account.
pub async fn client(kubeconfig: &std::path::Path) -> Result<kube::Client> {
    Ok(kube::Client::try_from(config(kubeconfig).await?)?)
}

async fn config(kubeconfig: &std::path::Path) -> Result<kube::Config> {
    let read = Kubeconfig::read_from(kubeconfig)
        .with_context(|| format!("cannot read {}", kubeconfig.display()))?;
    Ok(kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?)
}

async fn get(client: &kube::Client, path: &str) -> Result<()> {
    let request = http::Request::get(path).body(Vec::new())?;
    // Shorter than any client's own limit: a server that hangs is asked again.
    let answer = tokio::time::timeout(Duration::from_secs(5), client.request_text(request));
    answer.await.context("no answer in 5 s")??;
    Ok(())
}

/// The last log lines of every part of the seed.
pub(super) fn log_tails(state: &StateDir) -> String {
    ["etcd", "kube-apiserver", "kube-controller-manager"]
        .map(|name| (name, state.log(name)))
        .iter()
        .filter(|(_, log)| log.exists())
        .map(|(name, log)| format!("--- {name}\n{}", progress::tail(log, progress::TAIL_LINES)))
        .collect::<Vec<_>>()
        .join("\n")
}
