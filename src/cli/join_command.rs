//! `seedbed join-command`: a line for people who let a machine join by hand.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::config::{InferConfigError, KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::controllers::names;
use crate::crd::{ControlPlane, NodePool};
use crate::domain::parse_go_duration;
use crate::pki::certificate_pins;
use crate::pki::{Ca, secret_names};
use crate::runtime::client;
use crate::runtime::clock::Clock;
use crate::runtime::metrics::Metrics;
use crate::target;
use crate::tokens::format::{KUBEADM_GROUP, Purpose, secret};
use crate::tokens::issue::issue;

/// How long a token is valid when no pool says, as kubeadm has it.
const TTL: Duration = Duration::from_secs(24 * 3600);

/// Print a `kubeadm join` line with a fresh token for a worker that is joined by hand.
///
/// Reads the ControlPlane's CA and kubeconfig from the cluster of the current kubeconfig, and makes
/// the token in the control plane itself. The line is a credential: whoever has it can let machines
/// join under any name until the token expires. Machines of a NodePool need no such line.
#[derive(Args)]
pub(super) struct JoinCommand {
    /// Name of a ControlPlane.
    name: String,

    /// A NodePool of that ControlPlane: the token is valid for its spec.token.ttl instead of 24h.
    #[arg(long)]
    pool: Option<String>,

    /// Namespace. Default: that of the current context.
    #[arg(short, long)]
    namespace: Option<String>,
}

/// Why there is no line to print. Never holds a token.
#[derive(Debug, thiserror::Error)]
enum JoinError {
    #[error("cannot tell which cluster to ask: {0}; set KUBECONFIG")]
    Config(#[from] InferConfigError),
    #[error("cannot set up a client for the API server: {0}")]
    Client(#[source] kube::Error),
    #[error("cannot read {what}: {source}")]
    Read {
        what: String,
        #[source]
        source: kube::Error,
    },
    #[error("there is no {what} in namespace {namespace:?}")]
    NotFound { what: String, namespace: String },
    #[error(
        "NodePool {pool:?} belongs to ControlPlane {other:?}; leave --pool out, or name one of {name:?}"
    )]
    OtherPool {
        pool: String,
        other: String,
        name: String,
    },
    #[error("Secret {0} is not usable: {1}")]
    Unusable(String, String),
}

/// Makes the token and prints the line.
pub(super) async fn join_command(
    args: JoinCommand,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error>> {
    let config = Config::infer().await.map_err(JoinError::from)?;
    let namespace = args
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let seed = Seed {
        client: client::unfenced(config, &Metrics::default()).map_err(JoinError::Client)?,
        namespace,
    };
    seed.control_plane(&args.name).await?;
    let ttl = seed.ttl(&args).await?;
    let name = secret_names::ca(&args.name, Ca::Cluster);
    let ca = seed.secret(&name, secret_names::CERTIFICATE).await?;
    let pins = certificate_pins(&ca).ok_or_else(|| {
        let text = "it holds no PEM certificate".to_owned();
        JoinError::Unusable(name, text)
    })?;
    let name = secret_names::kubeconfig(&args.name);
    let kubeconfig = seed.secret(&name, secret_names::VALUE).await?;
    let (client, server) = administrator(&name, &kubeconfig).await?;

    let token = issue()?;
    let now = Clock::system().now();
    let purpose = Purpose {
        description: "seedbed join-command",
        group: KUBEADM_GROUP,
        signing: true,
    };
    let made = secret(&token, now.checked_add(ttl)?, purpose);
    target::put_token(&client, &made, false).await?;
    write!(out, "kubeadm join {server} --token {}", *token.reveal())?;
    for pin in pins {
        write!(out, " --discovery-token-ca-cert-hash {pin}")?;
    }
    writeln!(out)?;
    Ok(())
}

/// A client of the control plane by its administrators' kubeconfig, and its endpoint.
async fn administrator(name: &str, text: &[u8]) -> Result<(Client, String), JoinError> {
    let unusable = |error: String| JoinError::Unusable(name.to_owned(), error);
    let text = std::str::from_utf8(text).map_err(|_| unusable("it is not UTF-8".to_owned()))?;
    let kubeconfig = Kubeconfig::from_yaml(text)
        // The parser's own message could repeat a line with a key.
        .map_err(|_| unusable("it is not a kubeconfig".to_owned()))?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| unusable(error.to_string()))?;
    let server = config.cluster_url.authority().map(ToString::to_string);
    let server = server.ok_or_else(|| unusable("its server is no URL".to_owned()))?;
    config.default_retry = false;
    let client = Client::try_from(config).map_err(JoinError::Client)?;
    Ok((client, server))
}

struct Seed {
    client: Client,
    namespace: String,
}

impl Seed {
    async fn control_plane(&self, name: &str) -> Result<ControlPlane, JoinError> {
        let api: Api<ControlPlane> = Api::namespaced(self.client.clone(), &self.namespace);
        let what = format!("ControlPlane {name:?}");
        let found = api.get_opt(name).await;
        self.found(what, found)
    }

    async fn ttl(&self, args: &JoinCommand) -> Result<Duration, Box<dyn Error>> {
        let Some(pool) = &args.pool else {
            return Ok(TTL);
        };
        let api: Api<NodePool> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = api.get_opt(pool).await;
        let spec = self.found(format!("NodePool {pool:?}"), found)?.spec;
        if spec.control_plane_ref.name != args.name {
            return Err(Box::new(JoinError::OtherPool {
                pool: pool.clone(),
                other: spec.control_plane_ref.name,
                name: args.name.clone(),
            }));
        }
        let ttl = spec.token.and_then(|token| token.ttl);
        Ok(parse_go_duration(
            ttl.as_deref().unwrap_or(names::TOKEN_TTL),
        )?)
    }

    /// One key of a Secret.
    async fn secret(&self, name: &str, key: &str) -> Result<Vec<u8>, JoinError> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let what = format!("Secret {name:?}");
        let found = self.found(what, api.get_opt(name).await)?;
        let mut data = found.data.unwrap_or_default();
        let value = data.remove(key).map(|value| value.0);
        let missing = || JoinError::Unusable(name.to_owned(), format!("it has no key {key}"));
        value.ok_or_else(missing)
    }

    fn found<T>(&self, what: String, found: kube::Result<Option<T>>) -> Result<T, JoinError> {
        match found {
            Ok(Some(object)) => Ok(object),
            Ok(None) => Err(JoinError::NotFound {
                what,
                namespace: self.namespace.clone(),
            }),
            Err(source) => Err(JoinError::Read { what, source }),
        }
    }
}
