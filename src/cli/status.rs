//! `seedbed status`: what a control plane is, what happens next and who has to act.
//!
//! Here are only the edges: reading objects and choosing the exit code. `verdict` decides what to
//! say, `render` how it looks; both are pure.

mod render;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io::Write;
use std::process::ExitCode;

use clap::Args;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::config::InferConfigError;
use kube::core::DeserializeGuard;
use kube::{Api, Client, Config, ResourceExt};

use crate::controllers::names;
use crate::crd::{ControlPlane, EtcdCluster};
use crate::runtime::client;
use crate::runtime::clock::Clock;
use crate::runtime::metrics::Metrics;

pub use render::{headline, render};
pub use verdict::{Phase, Verdict, View, expected_secrets, verdict};

/// Show what a control plane is, what happens next and who has to act.
///
/// Reads the cluster of the current kubeconfig. With NAME: a tree of the control plane, its etcd
/// members, machines and Secrets, with only what is out of the ordinary spelt out. Without: one
/// line for each control plane.
///
/// Exit code: 0 when everything is ready; 1 while Seedbed is at work or waits for machines; 2 when
/// nothing goes on until a person acts (stalled, paused, etcd's quorum lost), when nothing is
/// found, or when it cannot be read.
#[derive(Args)]
pub(super) struct Status {
    /// Name of a ControlPlane.
    name: Option<String>,

    /// Namespace. Default: that of the current context.
    #[arg(short, long)]
    namespace: Option<String>,

    /// Every namespace.
    #[arg(short = 'A', long, conflicts_with_all = ["name", "namespace"])]
    all_namespaces: bool,
}

/// Why there is nothing to show.
#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error("cannot tell which cluster to ask: {0}; set KUBECONFIG")]
    Config(#[from] InferConfigError),
    #[error("cannot set up a client for the API server: {0}")]
    Client(#[source] kube::Error),
    #[error("cannot read {what}: {why}")]
    Read { what: String, why: String },
    #[error("there is no ControlPlane {name:?} in namespace {namespace:?}; {fix}")]
    NotFound {
        name: String,
        namespace: String,
        fix: &'static str,
    },
    #[error("there are no ControlPlanes in {0}")]
    None(String),
}

const ANYWHERE: &str = "`seedbed status -A` lists those of every namespace";

/// Shows it; the exit code says how it stands.
pub(super) async fn status(args: Status, out: &mut impl Write) -> Result<ExitCode, Box<dyn Error>> {
    let config = Config::infer().await.map_err(StatusError::from)?;
    let own = config.default_namespace.clone();
    let reader = Reader {
        client: client::unfenced(config, &Metrics::default()).map_err(StatusError::Client)?,
        clock: Clock::system(),
    };
    let Some(name) = &args.name else {
        let namespace = args.namespace.unwrap_or(own);
        let namespace = (!args.all_namespaces).then_some(namespace);
        let views = reader.all(namespace.as_deref()).await?;
        for view in &views {
            writeln!(out, "{}", headline(view))?;
        }
        let worst = views.iter().map(|view| verdict(view).exit_code()).max();
        return Ok(ExitCode::from(worst.unwrap_or_default()));
    };
    let view = reader.one(name, &args.namespace.unwrap_or(own)).await?;
    out.write_all(render(&view).as_bytes())?;
    Ok(ExitCode::from(verdict(&view).exit_code()))
}

struct Reader {
    client: Client,
    clock: Clock,
}

impl Reader {
    async fn one(&self, name: &str, namespace: &str) -> Result<View, StatusError> {
        let control_planes: Api<DeserializeGuard<ControlPlane>> =
            Api::namespaced(self.client.clone(), namespace);
        let etcd: Api<EtcdCluster> = Api::namespaced(self.client.clone(), namespace);
        let found = control_planes.get_opt(name).await;
        let found = found.map_err(read(format!("ControlPlane {namespace}/{name}")))?;
        let control_plane = parsed(found.ok_or_else(|| StatusError::NotFound {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            fix: ANYWHERE,
        })?)?;
        let etcd = match control_plane.spec.etcd_cluster(name) {
            None => None,
            Some(name) => {
                let found = etcd.get_opt(name).await;
                found.map_err(read(format!("EtcdCluster {namespace}/{name}")))?
            }
        };
        let secrets = self.secrets(&control_plane, namespace).await;
        Ok(View {
            control_plane,
            etcd,
            secrets,
            now: self.clock.now(),
        })
    }

    /// Names of the Secrets; their contents are not asked for.
    async fn secrets(
        &self,
        control_plane: &ControlPlane,
        namespace: &str,
    ) -> Result<BTreeSet<String>, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let name = control_plane.name_any();
        let labelled = format!("{}={name}", names::LABEL_CONTROL_PLANE);
        let params = ListParams::default().labels(&labelled);
        let list = api.list_metadata(&params).await;
        let list = list.map_err(|error| reason(&error))?;
        let mut found: BTreeSet<String> = list.items.iter().map(ResourceExt::name_any).collect();
        // CAs that the user brought carry no label.
        for absent in expected_secrets(control_plane) {
            if !found.contains(&absent) {
                let secret = api.get_metadata_opt(&absent).await;
                if secret.map_err(|error| reason(&error))?.is_some() {
                    found.insert(absent);
                }
            }
        }
        Ok(found)
    }

    /// All of a namespace, or of every one.
    async fn all(&self, namespace: Option<&str>) -> Result<Vec<View>, StatusError> {
        let control_planes: Api<DeserializeGuard<ControlPlane>> = self.api(namespace);
        let etcd: Api<EtcdCluster> = self.api(namespace);
        let params = ListParams::default();
        let (control_planes, etcd) =
            futures::join!(control_planes.list(&params), etcd.list(&params));
        let control_planes = control_planes.map_err(read("the ControlPlanes"))?;
        let etcd = etcd.map_err(read("the EtcdClusters"))?;
        let named = |cluster: EtcdCluster| ((cluster.namespace(), cluster.name_any()), cluster);
        let etcd: BTreeMap<_, _> = etcd.items.into_iter().map(named).collect();
        let now = self.clock.now();
        let mut views = Vec::new();
        for found in control_planes.items {
            let control_plane = parsed(found)?;
            let name = control_plane.name_any();
            let name = control_plane.spec.etcd_cluster(&name);
            // Several may have their state in one.
            let etcd = name.and_then(|name| {
                let key = (control_plane.namespace(), name.to_owned());
                etcd.get(&key).cloned()
            });
            views.push(View {
                control_plane,
                etcd,
                secrets: Ok(BTreeSet::new()),
                now,
            });
        }
        if views.is_empty() {
            let place = namespace.map_or("any namespace".to_owned(), |namespace| {
                format!("namespace {namespace:?}; {ANYWHERE}")
            });
            return Err(StatusError::None(place));
        }
        Ok(views)
    }

    fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        match namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }
}

fn parsed(found: DeserializeGuard<ControlPlane>) -> Result<ControlPlane, StatusError> {
    found.0.map_err(|invalid| StatusError::Read {
        what: format!(
            "ControlPlane {}/{}",
            invalid.metadata.namespace.unwrap_or_default(),
            invalid.metadata.name.unwrap_or_default()
        ),
        why: invalid.error,
    })
}

fn read(what: impl Into<String>) -> impl FnOnce(kube::Error) -> StatusError {
    move |error| StatusError::Read {
        what: what.into(),
        why: reason(&error),
    }
}

/// In one line.
fn reason(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            "the API server does not know this kind; install Seedbed's CustomResourceDefinitions: \
             seedbed crds | kubectl apply -f -"
                .to_owned()
        }
        kube::Error::Api(status) => status.message.clone(),
        other => super::chain(other),
    }
}
