//! A control plane that is its own seed, pools of it, and an operator.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::ByteString;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Config, ResourceExt};
use seedbed::crd::{ControlPlane, NodePool};
use serde_json::{Value, json};

use super::operator::Operator;
use super::operator_ground::{Ground, Space, until, until_or};
use super::user_data;

/// Name of the ControlPlane.
pub const CLUSTER: &str = "prod";

/// Everything of one test.
pub struct Field<'a> {
    pub space: Space<'a>,
    pub operator: Mutex<Arc<Operator>>,
}

/// Runs a test on a seed of its own, which is its target, too: what one test's operator answers
/// there is no other test's business.
pub fn run(name: &str, test: impl AsyncFnOnce(&Field<'_>) -> Result<()> + Send) {
    let ground = Ground::joinable(&format!("join-{name}")).expect("a seed");
    ground.run_here(async |ground| {
        let field = Field::start(ground, name).await?;
        test(&field).await?;
        field.end().await
    });
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Field<'a> {
    async fn start(ground: &'a Ground, name: &str) -> Result<Self> {
        let space = Space::new(ground, name).await?;
        let (certificate, key) = ground.seed.ca()?;
        let mut secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": format!("{CLUSTER}-ca")},
            "type": "cluster.x-k8s.io/secret",
        }))?;
        let pair = [("tls.crt", certificate), ("tls.key", key)];
        let pair = pair.map(|(key, text)| (key.to_owned(), ByteString(text.into_bytes())));
        secret.data = Some(BTreeMap::from(pair));
        space.create(&secret).await?;
        let config = ground.seed.client_config().await?;
        let server = config.cluster_url.authority().context("a server")?;
        space
            .control_plane(json!({
                "apiVersion": "seedbed.dev/v1alpha1",
                "kind": "ControlPlane",
                "metadata": {"name": CLUSTER},
                "spec": {
                    "version": "v1.37.1",
                    "replicas": 1,
                    "machines": [{
                        "name": "cp-1",
                        "address": server.host(),
                        "bindPort": server.port_u16(),
                    }],
                    "network": {
                        "podCIDRs": ["10.244.0.0/16"],
                        "serviceCIDRs": ["198.19.255.0/24"],
                    },
                    "kubeProxy": {"disabled": true},
                    "coreDNS": {"disabled": true},
                },
            }))
            .await?;
        let operator = Mutex::new(Arc::new(Operator::start(&space, "one", &[]).await?));
        let field = Self { space, operator };
        // kubeadm's objects, which the operator brings into the target.
        until("cluster-info", async || {
            let api = field.api::<k8s_openapi::api::core::v1::ConfigMap>("kube-public");
            Ok(api.get_opt("cluster-info").await?.map(drop))
        })
        .await?;
        Ok(field)
    }

    pub fn operator(&self) -> Arc<Operator> {
        Arc::clone(&lock(&self.operator))
    }

    /// Kills the operator, and starts another one when asked to.
    pub async fn restart(&self, pause: Duration) -> Result<()> {
        self.operator().kill()?;
        tokio::time::sleep(pause).await;
        if self
            .space
            .api::<Lease>()
            .get_opt("seedbed")
            .await?
            .is_some()
        {
            let params = DeleteParams::default();
            self.space.api::<Lease>().delete("seedbed", &params).await?;
        }
        let operator = Operator::start(&self.space, "one", &[]).await?;
        *lock(&self.operator) = Arc::new(operator);
        Ok(())
    }

    async fn end(&self) -> Result<()> {
        let pools: Api<NodePool> = self.space.api();
        for pool in pools.list(&ListParams::default()).await? {
            pools
                .delete(&pool.name_any(), &DeleteParams::default())
                .await?;
        }
        until("the pools to go", async || {
            let left = pools.list(&ListParams::default()).await?;
            Ok(left.items.is_empty().then_some(()))
        })
        .await?;
        let tokens = self.tokens().await?;
        ensure!(tokens.is_empty(), "left in the target: {:?}", tokens.keys());
        let planes: Api<ControlPlane> = self.space.api();
        planes.delete(CLUSTER, &DeleteParams::default()).await?;
        let operator = self.operator();
        let log = operator.log()?;
        ensure!(!log.contains("panicked at"), "the operator panicked");
        operator.stop().await
    }

    /// Objects of the target, with every right.
    pub fn api<K>(&self, namespace: &str) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.space.client.clone(), namespace)
    }

    /// Creates a pool of the ControlPlane.
    pub async fn pool(&self, name: &str, spec: Value) -> Result<NodePool> {
        let mut whole = json!({"controlPlaneRef": {"name": CLUSTER}});
        for (key, value) in spec.as_object().context("a spec")? {
            whole[key] = value.clone();
        }
        let pool = json!({
            "apiVersion": "seedbed.dev/v1alpha1",
            "kind": "NodePool",
            "metadata": {"name": name},
            "spec": whole,
        });
        self.space
            .create(&serde_json::from_value::<NodePool>(pool)?)
            .await
    }

    /// The status of a pool as JSON.
    pub async fn status(&self, pool: &str) -> Result<Value> {
        let pool = self.space.api::<NodePool>().get(pool).await?;
        Ok(serde_json::to_value(pool.status)?)
    }

    /// Waits until a condition of a pool has this status and reason; returns its message.
    pub async fn condition(
        &self,
        pool: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Result<String> {
        let what = format!("{pool}: {kind}={status} because of {reason}");
        until_or(
            &what,
            async || {
                let found = self.status(pool).await?;
                let conditions = found["conditions"].as_array().cloned().unwrap_or_default();
                let wanted = conditions.into_iter().find(|condition| {
                    condition["type"] == kind
                        && condition["status"] == status
                        && condition["reason"] == reason
                });
                Ok(wanted.map(|found| found["message"].as_str().unwrap_or_default().to_owned()))
            },
            async || Ok(format!("{:#}", self.status(pool).await?)),
        )
        .await
    }

    /// Waits until a machine could boot; returns the token in its user data.
    pub async fn token_of(&self, machine: &str) -> Result<String> {
        until(&format!("a token for {machine}"), async || {
            self.published_token(machine).await
        })
        .await
    }

    /// The token in the user data of a machine, or of an open pool; `None` without one.
    pub async fn published_token(&self, machine: &str) -> Result<Option<String>> {
        let name = format!("{CLUSTER}-{machine}");
        let found = self.space.api::<Secret>().get_opt(&name).await?;
        Ok(found.and_then(|secret| token_in(&secret)))
    }

    /// The Secrets of node pools' tokens in the target, by token id.
    pub async fn tokens(&self) -> Result<BTreeMap<String, Secret>> {
        let params = ListParams::default().fields("type=bootstrap.kubernetes.io/token");
        let secrets: Api<Secret> = self.api("kube-system");
        let ours = |secret: &Secret| {
            let data = secret.data.as_ref();
            let groups = data.and_then(|data| data.get("auth-extra-groups"));
            groups.is_some_and(|groups| groups.0 == b"system:bootstrappers:seedbed:node-pool")
        };
        let all = secrets.list(&params).await?.items.into_iter().filter(ours);
        let id = |name: String| name.trim_start_matches("bootstrap-token-").to_owned();
        Ok(all.map(|secret| (id(secret.name_any()), secret)).collect())
    }

    /// A client that is nobody but who has this token.
    pub async fn client_with(&self, token: &str) -> Result<Client> {
        let mut config = self.stranger().await?;
        config.auth_info.token = Some(token.to_owned().into());
        Ok(Client::try_from(config)?)
    }

    /// The administrator, in the clothes of somebody else.
    pub async fn client_as(&self, user: &str, groups: &[&str]) -> Result<Client> {
        let mut config = self.space.ground.seed.client_config().await?;
        config.auth_info.impersonate = Some(user.to_owned());
        let groups = groups.iter().map(|group| (*group).to_owned());
        config.auth_info.impersonate_groups = Some(groups.collect());
        Ok(Client::try_from(config)?)
    }

    async fn stranger(&self) -> Result<Config> {
        let mut config = self.space.ground.seed.client_config().await?;
        config.auth_info = kube::config::AuthInfo::default();
        config.default_retry = false;
        Ok(config)
    }

    /// Registers a Node, as a kubelet with a certificate does.
    pub async fn register(&self, name: &str) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.space.client.clone());
        let node = serde_json::from_value(json!({
            "metadata": {"name": name},
            "status": {
                "nodeInfo": node_info(),
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "198.18.0.99"}],
            },
        }))?;
        nodes.create(&PostParams::default(), &node).await?;
        nodes
            .replace_status(name, &PostParams::default(), &{
                let mut made = nodes.get(name).await?;
                made.status = node.status;
                made
            })
            .await?;
        Ok(())
    }

    /// Events about a pool: their reasons with their notes.
    pub async fn events(&self) -> Result<Vec<(String, String)>> {
        let list = self
            .space
            .api::<Event>()
            .list(&ListParams::default())
            .await?;
        let words = list.items.into_iter().map(|event| {
            let reason = event.reason.unwrap_or_default();
            (reason, event.note.unwrap_or_default())
        });
        Ok(words.collect())
    }
}

fn node_info() -> Value {
    json!({
        "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": "",
        "kubeProxyVersion": "", "kubeletVersion": "v1.37.1", "machineID": "",
        "operatingSystem": "linux", "osImage": "", "systemUUID": "",
    })
}

/// The token in the bootstrap kubeconfig of user data.
pub fn token_in(secret: &Secret) -> Option<String> {
    let value = secret.data.as_ref()?.get("value")?;
    let config = user_data::parse(&value.0);
    let mut files = config.write_files.iter();
    let file = files.find(|file| file.path == "/etc/kubernetes/bootstrap-kubelet.conf")?;
    let text = String::from_utf8(file.bytes()).ok()?;
    let kubeconfig: Value = serde_saphyr::from_str(&text).ok()?;
    kubeconfig["users"][0]["user"]["token"]
        .as_str()
        .map(str::to_owned)
}

/// The public half of a token.
pub fn id(token: &str) -> &str {
    token.split('.').next().unwrap_or_default()
}
