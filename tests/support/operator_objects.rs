//! Objects that tests of the operator write, and how they look at what came of them.
#![allow(
    dead_code,
    reason = "every test that includes this module uses a part of it"
)]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{DynamicObject, ListParams, Patch, PatchParams};
use kube::core::ApiResource;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, ResourceExt};
use seedbed::crd::{ControlPlane, EtcdCluster, Founding};
use serde_json::{Value, json};

use super::operator_ground::{Space, lacking, until_or};

/// Condition types of a ControlPlane.
pub const CONDITIONS: [&str; 9] = [
    "Available",
    "CertificatesValid",
    "EtcdHealthy",
    "MachineConfigsPublished",
    "Paused",
    "Ready",
    "Reconciling",
    "Stalled",
    "UpToDate",
];

/// A ControlPlane of the machines `m-1` to `m-3`, at addresses that refuse connections.
pub fn control_plane(name: &str) -> Value {
    at(name, "198.18.0")
}

/// The same at addresses that stay silent.
pub fn silent_control_plane(name: &str) -> Value {
    at(name, "198.19.0")
}

fn at(name: &str, subnet: &str) -> Value {
    let machine =
        |n: u8| json!({"name": format!("m-{n}"), "address": format!("{subnet}.{}", 10 + n)});
    json!({
        "apiVersion": "seedbed.dev/v1alpha1",
        "kind": "ControlPlane",
        "metadata": {"name": name},
        "spec": {
            "version": "v1.37.1",
            "endpoint": {"host": format!("api.{name}.example.net"), "port": 6443},
            "replicas": 3,
            "machines": [machine(1), machine(2), machine(3)],
            "network": {"podCIDRs": ["10.244.0.0/16"]},
        },
    })
}

/// Names of every Secret of such a ControlPlane, sorted.
pub fn secret_names(name: &str) -> Vec<String> {
    let suffixes = [
        "ca",
        "etcd",
        "kubeconfig",
        "m-1",
        "m-1-certs",
        "m-2",
        "m-2-certs",
        "m-3",
        "m-3-certs",
        "proxy",
        "sa",
    ];
    suffixes.map(|suffix| format!("{name}-{suffix}")).to_vec()
}

/// Status, reason and message of a condition.
pub fn condition(status: &Value, kind: &str) -> Option<(String, String, String)> {
    let text = |condition: &Value, field: &str| condition[field].as_str().map(str::to_owned);
    let conditions = status["conditions"].as_array()?;
    let found = conditions.iter().find(|c| c["type"] == kind)?;
    Some((
        text(found, "status")?,
        text(found, "reason")?,
        text(found, "message").unwrap_or_default(),
    ))
}

/// What kstatus says of an object (its generic rules for custom resources).
pub fn kstatus(object: &Value) -> &'static str {
    let status = &object["status"];
    if object["metadata"]["deletionTimestamp"].is_string() {
        return "Terminating";
    }
    let observed = &status["observedGeneration"];
    if observed.is_i64() && *observed != object["metadata"]["generation"] {
        return "InProgress";
    }
    let is =
        |kind: &str, wanted: &str| condition(status, kind).is_some_and(|(s, _, _)| s == wanted);
    match () {
        () if is("Reconciling", "True") => "InProgress",
        () if is("Stalled", "True") => "Failed",
        () if is("Ready", "False") || is("Ready", "Unknown") => "InProgress",
        () => "Current",
    }
}

impl Space<'_> {
    fn dynamic(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        let resource = ApiResource {
            group: "seedbed.dev".to_owned(),
            version: "v1alpha1".to_owned(),
            api_version: "seedbed.dev/v1alpha1".to_owned(),
            kind: kind.to_owned(),
            plural: plural.to_owned(),
        };
        Api::namespaced_with(self.client.clone(), &self.name, &resource)
    }

    fn kind(&self, kind: &str) -> Api<DynamicObject> {
        self.dynamic(kind, &format!("{}s", kind.to_lowercase()))
    }

    /// One of our objects as it is stored, readable by our types or not.
    pub async fn raw(&self, kind: &str, name: &str) -> Result<Value> {
        Ok(serde_json::to_value(self.kind(kind).get(name).await?)?)
    }

    /// Merges `patch` into one of our objects, whether or not our types fit it.
    pub async fn raw_patch(&self, kind: &str, name: &str, patch: &Value) -> Result<()> {
        let (params, patch) = (PatchParams::default(), Patch::Merge(patch));
        self.kind(kind).patch(name, &params, &patch).await?;
        Ok(())
    }

    /// A ControlPlane as it is stored, readable by our types or not.
    pub async fn raw_control_plane(&self, name: &str) -> Result<Value> {
        let api = self.dynamic("ControlPlane", "controlplanes");
        Ok(serde_json::to_value(api.get(name).await?)?)
    }

    /// Waits until a condition of a ControlPlane has this status and reason; returns its message.
    pub async fn condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Result<String> {
        self.condition_of(
            &self.dynamic("ControlPlane", "controlplanes"),
            name,
            kind,
            status,
            reason,
        )
        .await
    }

    /// The same of an EtcdCluster.
    pub async fn etcd_condition(
        &self,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Result<String> {
        self.condition_of(
            &self.dynamic("EtcdCluster", "etcdclusters"),
            name,
            kind,
            status,
            reason,
        )
        .await
    }

    async fn condition_of(
        &self,
        api: &Api<DynamicObject>,
        name: &str,
        kind: &str,
        status: &str,
        reason: &str,
    ) -> Result<String> {
        let look = async || {
            let Some(object) = api.get_opt(name).await.ok().flatten() else {
                return Ok(None);
            };
            let found = condition(&object.data["status"], kind);
            let found = found.filter(|(s, r, _)| s == status && r == reason);
            Ok(found.map(|(_, _, message)| message))
        };
        let state = async || {
            let object = api.get(name).await?;
            Ok(format!("{:#}", object.data["status"]["conditions"]))
        };
        until_or(&format!("{name}: {kind}={status}, {reason}"), look, state).await
    }

    /// Waits until the machine configs of a ControlPlane are published.
    pub async fn published(&self, name: &str) -> Result<()> {
        self.condition(name, "MachineConfigsPublished", "True", "AsDesired")
            .await
            .map(drop)
    }

    /// Every Secret of the space by name.
    pub async fn secrets(&self) -> Result<BTreeMap<String, Secret>> {
        let list = self.api::<Secret>().list(&ListParams::default()).await?;
        Ok(list
            .into_iter()
            .map(|secret| (secret.name_any(), secret))
            .collect())
    }

    /// Data of every Secret of the space by name.
    pub async fn secret_data(&self) -> Result<BTreeMap<String, BTreeMap<String, Vec<u8>>>> {
        let data = |secret: Secret| -> BTreeMap<String, Vec<u8>> {
            let data = secret.data.unwrap_or_default();
            data.into_iter()
                .map(|(key, value)| (key, value.0))
                .collect()
        };
        let secrets = self.secrets().await?;
        Ok(secrets
            .into_iter()
            .map(|(name, s)| (name, data(s)))
            .collect())
    }

    /// The founding in the status of the EtcdCluster and in the ledger ConfigMap, which have to
    /// agree.
    pub async fn founding(&self, name: &str) -> Result<Founding> {
        let cluster = self.api::<EtcdCluster>().get(name).await?;
        let ledger = cluster.status.and_then(|status| status.ledger);
        let founding = ledger.and_then(|ledger| ledger.founding);
        let founding = founding.ok_or_else(|| lacking("the founding in the status"))?;
        let map = self
            .api::<ConfigMap>()
            .get(&format!("{name}-etcd-ledger"))
            .await?;
        let data = map.data.unwrap_or_default();
        let text = data
            .get("ledger.json")
            .ok_or_else(|| lacking("ledger.json"))?;
        let record: Value = serde_json::from_str(text)?;
        let mirrored: Founding = serde_json::from_value(record["founding"].clone())?;
        ensure!(founding == mirrored, "{founding:?} is not {mirrored:?}");
        Ok(founding)
    }

    /// Waits until [`Space::founding`] has an answer.
    pub async fn founded(&self, name: &str) -> Result<Founding> {
        let look = async || Ok(self.founding(name).await.ok());
        until_or("the founding", look, async || {
            Ok(format!("{:?}", self.founding(name).await.err()))
        })
        .await
    }

    /// Every event of the space.
    pub async fn events(&self) -> Result<Vec<Event>> {
        Ok(self
            .api::<Event>()
            .list(&ListParams::default())
            .await?
            .items)
    }

    /// Waits for an event with this reason about the object of this kind and name; returns its
    /// note.
    pub async fn event(&self, kind: &str, name: &str, reason: &str) -> Result<String> {
        let look = async || {
            let events = self.events().await?;
            let about = |event: &&Event| {
                let regarding = event.regarding.as_ref();
                regarding.is_some_and(|object| {
                    object.kind.as_deref() == Some(kind) && object.name.as_deref() == Some(name)
                }) && event.reason.as_deref() == Some(reason)
            };
            let found = events.iter().find(about);
            Ok(found.map(|event| event.note.clone().unwrap_or_default()))
        };
        let state = async || {
            let events = self.events().await?;
            let of = |event: &Event| format!("{:?} of {:?}", event.reason, event.regarding);
            Ok(events.iter().map(of).collect::<Vec<_>>().join("\n"))
        };
        until_or(&format!("event {reason} of {kind} {name}"), look, state).await
    }

    /// Deletes everything of these names at once and waits until it is gone.
    pub async fn delete<K>(&self, name: &str) -> Result<()>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = self.api::<K>();
        api.delete(name, &Default::default())
            .await
            .with_context(|| format!("delete {name}"))?;
        Ok(())
    }

    /// Starts to note every version of every ControlPlane here.
    pub fn history(&self) -> History {
        History(Recorder::start(
            self.dynamic("ControlPlane", "controlplanes"),
        ))
    }
}

/// Every version of the objects of one kind, as a watch sees them.
pub struct Recorder<K> {
    versions: Arc<Mutex<Vec<K>>>,
    task: tokio::task::JoinHandle<()>,
}

impl<K> Recorder<K>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + Send + 'static,
{
    pub fn start(api: Api<K>) -> Self {
        let versions = Arc::<Mutex<Vec<K>>>::default();
        let noted = Arc::clone(&versions);
        let task = tokio::spawn(async move {
            let mut events = std::pin::pin!(watcher(api, watcher::Config::default()));
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event
                {
                    noted
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(object);
                }
            }
        });
        Self { versions, task }
    }

    pub fn versions(&self) -> Vec<K> {
        self.versions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

impl<K> Drop for Recorder<K> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Every version of the ControlPlanes of a space.
pub struct History(Recorder<DynamicObject>);

impl History {
    /// Checks each version that has a status: all conditions are there, with a reason and the
    /// generation they speak of, and the verdict is never `Current`.
    pub fn check_never_current(&self) -> Result<usize> {
        let mut count = 0;
        for object in self.0.versions() {
            let object = serde_json::to_value(object)?;
            let status = &object["status"];
            if status.is_null() {
                continue;
            }
            let types: Vec<&str> = status["conditions"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|c| c["type"].as_str())
                .collect();
            ensure!(types == CONDITIONS, "not all conditions: {status:#}");
            for kind in CONDITIONS {
                let (_, reason, _) = condition(status, kind).context("no reason")?;
                ensure!(!reason.is_empty(), "{kind} has no reason: {status:#}");
            }
            if kstatus(&object) == "Current" {
                bail!("nobody would wait any more: {status:#}");
            }
            count += 1;
        }
        Ok(count)
    }
}

/// Notes every version of what is made once and must stay as it is.
pub struct Constancy {
    secrets: Recorder<Secret>,
    etcds: Recorder<EtcdCluster>,
}

impl Constancy {
    pub fn start(space: &Space<'_>) -> Self {
        Self {
            secrets: Recorder::start(space.api()),
            etcds: Recorder::start(space.api()),
        }
    }

    /// No Secret has ever been replaced or had other data, and no cluster another founding.
    pub fn check(&self) -> Result<()> {
        let mut first: BTreeMap<String, Secret> = BTreeMap::new();
        for secret in self.secrets.versions() {
            let name = secret.name_any();
            let before = first.entry(name.clone()).or_insert_with(|| secret.clone());
            ensure!(
                before.uid() == secret.uid(),
                "{name} was deleted and made again"
            );
            ensure!(before.data == secret.data, "{name} has changed");
        }
        let mut foundings: BTreeMap<String, Founding> = BTreeMap::new();
        for etcd in self.etcds.versions() {
            let ledger = etcd
                .status
                .as_ref()
                .and_then(|status| status.ledger.as_ref());
            let Some(founding) = ledger.and_then(|ledger| ledger.founding.clone()) else {
                ensure!(
                    !foundings.contains_key(&etcd.name_any()),
                    "a founding was forgotten"
                );
                continue;
            };
            let before = foundings
                .entry(etcd.name_any())
                .or_insert_with(|| founding.clone());
            ensure!(
                *before == founding,
                "founded twice: {before:?}, {founding:?}"
            );
        }
        ensure!(
            !first.is_empty() && !foundings.is_empty(),
            "nothing was noted"
        );
        Ok(())
    }
}

/// Creates the ControlPlanes `names` and waits until all are published.
pub async fn publish(space: &Space<'_>, names: &[String]) -> Result<()> {
    for name in names {
        space.control_plane(control_plane(name)).await?;
    }
    for name in names {
        space.published(name).await?;
    }
    Ok(())
}

/// The ControlPlane as our type.
pub async fn stored(space: &Space<'_>, name: &str) -> Result<ControlPlane> {
    Ok(space.api::<ControlPlane>().get(name).await?)
}
