//! A seed in a network of its own, shared by the tests of one binary, and a namespace for each
//! test in it.
//!
//! The machines that specs name do not exist. Addresses below 198.18.128.0 refuse connections at
//! once; those of 198.19.0.0/16 stay silent. No packet leaves the network namespace.
#![allow(
    dead_code,
    reason = "every test that includes this module uses a part of it"
)]

use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use seedbed::crd::{ControlPlane, EtcdCluster, NodePool, all_crds};
use seedbed::runtime::permissions::PERMISSIONS;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::audit::Audit;
use crate::testbed::network::Network;
use crate::testbed::{Seed, StateDir, netns, progress, seed};

/// Longest wait for anything: mostly for machines that are busy otherwise.
pub const LIMIT: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);
const SEED: Ipv4Addr = Ipv4Addr::new(198, 18, 255, 1);

/// A running seed with our kinds installed.
pub struct Ground {
    pub seed: Seed,
    pub audit: Audit,
    // Goes after the seed.
    pub network: Network,
}

static SHARED: Mutex<Weak<Ground>> = Mutex::new(Weak::new());

impl Ground {
    /// Runs one test on the seed that the tests of this process share; it lives as long as one of
    /// them runs. Panics with the last log lines when the test fails.
    pub fn run(prefix: &str, test: impl AsyncFnOnce(&Ground) -> Result<()> + Send) {
        let ground = {
            // Poisoned by a seed that did not start: the next test tries again.
            let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
            shared.upgrade().unwrap_or_else(|| {
                let ground = Arc::new(Self::start(prefix).expect("a seed"));
                *shared = Arc::downgrade(&ground);
                ground
            })
        };
        ground.run_here(test);
    }

    /// Runs one test on this seed. Panics with the last log lines when it fails.
    pub fn run_here(&self, test: impl AsyncFnOnce(&Ground) -> Result<()> + Send) {
        let ended = self.inside(|| {
            let executor = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            executor.block_on(test(self))
        });
        if let Err(error) = ended {
            panic!("{error:#}\n{}", self.seed.log_tails());
        }
    }

    fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        netns::inside(self.seed.netns().context("the seed has a netns")?, work)
    }

    /// Starts a seed without our kinds.
    pub fn bare(prefix: &str) -> Result<Self> {
        Self::bare_with(prefix, seed::Options::default())
    }

    /// Starts a seed with our kinds that machines can join, too, so that it can be its own target.
    pub fn joinable(prefix: &str) -> Result<Self> {
        let options = seed::Options {
            listen: SEED.into(),
            joinable: true,
            ..seed::Options::default()
        };
        Self::bare_with(prefix, options)?.furnished()
    }

    fn bare_with(prefix: &str, options: seed::Options) -> Result<Self> {
        let state = StateDir::for_test(prefix)?;
        let network = Network::create(&state)?;
        let netns = network.attach("seed", SEED)?;
        let mut refuse = Command::new("ip");
        refuse
            .args(["-n", &netns])
            .args("route add local 198.18.0.0/17 dev lo".split_whitespace());
        progress::output(&mut refuse)?;
        let options = seed::Options {
            netns: Some(netns),
            audit_log: true,
            ..options
        };
        let seed = Seed::start_blocking(&state, &options)?;
        Ok(Self {
            audit: Audit::new(&seed.audit_log()),
            seed,
            network,
        })
    }

    fn start(prefix: &str) -> Result<Self> {
        Self::bare(prefix)?.furnished()
    }

    fn furnished(self) -> Result<Self> {
        self.inside(|| {
            let executor = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            executor.block_on(async { install(&self.seed.client().await?).await })
        })?;
        Ok(self)
    }
}

/// Installs our kinds, and returns once they are served.
pub async fn install(client: &Client) -> Result<()> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply("seedbed-test").force();
    for crd in all_crds() {
        api.patch(&crd.name_any(), &params, &Patch::Apply(&crd))
            .await
            .with_context(|| format!("install {}", crd.name_any()))?;
    }
    until("our kinds to be served", async || {
        let one = ListParams::default().limit(1);
        let control_planes = Api::<ControlPlane>::all(client.clone()).list(&one).await;
        let etcds = Api::<EtcdCluster>::all(client.clone()).list(&one).await;
        let pools = Api::<NodePool>::all(client.clone()).list(&one).await;
        let served = control_planes.is_ok() && etcds.is_ok() && pools.is_ok();
        Ok(served.then_some(()))
    })
    .await
}

/// A namespace of the seed in which the operator has its rights.
pub struct Space<'a> {
    pub ground: &'a Ground,
    pub name: String,
    /// With every right.
    pub client: Client,
}

impl<'a> Space<'a> {
    pub async fn new(ground: &'a Ground, name: &str) -> Result<Self> {
        let client = ground.seed.client().await?;
        let space = Self {
            ground,
            name: name.to_owned(),
            client,
        };
        let namespaces: Api<Namespace> = Api::all(space.client.clone());
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespaces
            .create(&PostParams::default(), &namespace)
            .await?;
        space.create(&role(PERMISSIONS_ROLE)).await?;
        Ok(space)
    }

    /// Objects of a kind in this namespace, with every right.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.name)
    }

    /// Creates an object here.
    pub async fn create<K>(&self, object: &K) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned + Serialize,
        K::DynamicType: Default,
    {
        let created = self.api::<K>().create(&PostParams::default(), object).await;
        created.with_context(|| format!("create {}", object.name_any()))
    }

    /// Creates a ControlPlane from JSON.
    pub async fn control_plane(&self, object: Value) -> Result<ControlPlane> {
        self.create(&serde_json::from_value::<ControlPlane>(object)?)
            .await
    }

    /// Merges `patch` into an object, as a person would with `kubectl patch`.
    pub async fn patch<K>(&self, name: &str, patch: &Value) -> Result<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + Debug + DeserializeOwned,
        K::DynamicType: Default,
    {
        let params = PatchParams {
            field_manager: Some("a-person".to_owned()),
            ..PatchParams::default()
        };
        let (api, patch) = (self.api::<K>(), Patch::Merge(patch));
        let patched = api.patch(name, &params, &patch).await;
        patched.with_context(|| format!("patch {name}"))
    }

    /// The user name of a service account here.
    pub fn user(&self, account: &str) -> String {
        format!("system:serviceaccount:{}:{account}", self.name)
    }

    /// A kubeconfig of the service account `name`, made when missing, with the operator's rights.
    pub async fn service_account(&self, name: &str) -> Result<PathBuf> {
        if self.api::<ServiceAccount>().get_opt(name).await?.is_none() {
            let mut account = ServiceAccount::default();
            account.metadata.name = Some(name.to_owned());
            self.create(&account).await?;
            let binding: RoleBinding = serde_json::from_value(json!({
                "metadata": {"name": name},
                "roleRef": {
                    "apiGroup": "rbac.authorization.k8s.io",
                    "kind": "Role", "name": PERMISSIONS_ROLE,
                },
                "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": self.name}],
            }))?;
            self.create(&binding).await?;
        }
        let seed = &self.ground.seed;
        seed.kubeconfig_for_service_account(&self.name, name).await
    }
}

/// Name of the Role in each [`Space`].
pub const PERMISSIONS_ROLE: &str = "seedbed";

/// A Role with exactly the operator's permissions: it works in the namespace that it watches.
pub fn role(name: &str) -> Role {
    let list = |text: &str| Some(vec![text.to_owned()]);
    let rule = PERMISSIONS.iter().map(|permission| PolicyRule {
        api_groups: list(permission.group),
        resources: list(permission.resource),
        verbs: permission
            .verbs
            .iter()
            .map(|verb| (*verb).to_owned())
            .collect(),
        ..PolicyRule::default()
    });
    Role {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        rules: Some(rule.collect()),
    }
}

/// Looks again and again until there is an answer.
pub async fn until<T>(what: &str, look: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    until_or(what, look, async || Ok(String::new())).await
}

/// Like [`until`]; when the time is over, `state` tells how things are.
pub async fn until_or<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> Result<Option<T>>,
    state: impl AsyncFnOnce() -> Result<String>,
) -> Result<T> {
    let began = Instant::now();
    loop {
        if let Some(found) = look()
            .await
            .with_context(|| format!("waiting for {what}"))?
        {
            return Ok(found);
        }
        if began.elapsed() > LIMIT {
            let state = state().await.unwrap_or_else(|error| format!("{error:#}"));
            bail!("waited {} s for {what}; {state}", LIMIT.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// An error that says what is wrong, for `ensure!` on an `Option`.
pub fn lacking(what: &str) -> anyhow::Error {
    anyhow!("{what} is missing")
}
