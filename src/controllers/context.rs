//! The one struct with handles to the outside. Stages take it whole because they are few; the
//! pure ones never see it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, Resource, ResourceExt};

use super::control_plane::InOrder;
use super::error::Error;
use super::etcd_cluster::{Expiries, MirrorRecord};
use super::looks::Looks;
use super::memories::Memories;
use super::node_pool::WorkerConfigs;
use super::pace::Changes;
use super::seen::Watches;
use super::settled::Settled;
use super::targets::Targets;
use crate::crd::{EtcdCluster, KeyAlgorithm};
use crate::etcd::{EtcdApi, EtcdClients, EtcdCredentials};
use crate::kube_ext::events::Events;
use crate::pki::inventory::{OperatorIdentity, operator_client};
use crate::pki::{Ca, KeyPair, issue, secret_names};
use crate::runtime::clock::Clock;
use crate::runtime::metrics::Metrics;

/// Validity of the client certificates that the operator makes for itself, in memory.
const OWN_VALIDITY: Duration = Duration::from_secs(24 * 3600);
/// They are made anew after half of it.
const OWN_RENEWAL: Duration = Duration::from_secs(12 * 3600);
/// A ledger ConfigMap that was in order is looked at again after this time: somebody may delete it.
const MIRROR_PERIOD: Duration = Duration::from_secs(60);

/// Handles to the outside.
pub struct Context {
    pub client: Client,
    pub clock: Clock,
    pub events: Events,
    pub metrics: Metrics,
    /// Ledger ConfigMaps as they were last seen or written.
    pub mirrors: Mirrors,
    /// What earlier rounds of questions to etcd's members have shown.
    pub memories: Memories,
    /// Targets whose objects were seen in place.
    pub in_place: InPlace,
    /// What the watches have seen of our Secrets.
    pub watches: Watches,
    /// When each status changed last.
    pub changes: Changes,
    /// Control planes that had nothing left to write, by their UID.
    pub control_planes: Pool<Settled<InOrder>>,
    /// EtcdClusters whose machines had nothing left to write, by their UID.
    pub etcd_machines: Pool<Settled<Expiries>>,
    /// Machine configs of node pools that were in place, by the pool's UID.
    pub worker_configs: Pool<WorkerConfigs>,
    /// Secrets of node pools as the last look left them.
    pub looks: Looks,
    /// Targets of node pools.
    pub targets: Targets,
    etcd: Pool<EtcdClients>,
    target: Pool<KeyPair>,
}

impl Context {
    /// A context over a client of the seed.
    pub fn new(client: Client, clock: Clock, events: Events, metrics: Metrics) -> Self {
        Self {
            client,
            clock,
            events,
            metrics,
            mirrors: Mirrors::default(),
            memories: Memories::default(),
            in_place: InPlace::default(),
            watches: Watches::default(),
            changes: Changes::default(),
            control_planes: Pool::default(),
            etcd_machines: Pool::default(),
            worker_configs: Pool::default(),
            looks: Looks::default(),
            targets: Targets::default(),
            etcd: Pool::default(),
            target: Pool::default(),
        }
    }

    /// The API of a kind in the namespace of `object`.
    pub fn api<K>(&self, object: &impl ResourceExt) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }

    /// Clients of this cluster's members, under a certificate that lives in memory only.
    /// The inner error says, for people, what is missing.
    pub async fn etcd(
        &self,
        cluster: &EtcdCluster,
    ) -> Result<Result<Arc<dyn EtcdApi>, String>, Error> {
        let uid = cluster.uid().unwrap_or_default();
        if let Some(clients) = self.etcd.get(&uid, self.clock.monotonic()) {
            return Ok(Ok(clients));
        }
        let name = secret_names::ca(&cluster.name_any(), Ca::Etcd);
        let secrets: Api<Secret> = self.api(cluster);
        let found = secrets
            .get_opt(&name)
            .await
            .map_err(Error::api("reading the etcd CA"))?;
        let Some(secret) = found else {
            return Ok(Err(format!("Secret {name} does not exist")));
        };
        let ca = match crate::pki::state::ca(&name, &secret.data.unwrap_or_default()) {
            Ok(ca) => ca,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let own = self
            .own_certificate(OperatorIdentity::EtcdClient, &ca)
            .await?;
        let clients = Arc::new(EtcdClients::new(EtcdCredentials {
            ca_pem: ca.certificate_pem.clone(),
            certificate_pem: own.certificate_pem.clone(),
            key_pem: own.key_pem.clone(),
        }));
        self.etcd
            .put(uid, Arc::clone(&clients), self.clock.monotonic());
        Ok(Ok(clients))
    }

    /// The operator's identity towards a target's API server, in memory only.
    pub async fn target_identity(&self, uid: &str, ca: &KeyPair) -> Result<Arc<KeyPair>, Error> {
        if let Some(identity) = self.target.get(uid, self.clock.monotonic()) {
            return Ok(identity);
        }
        let own = Arc::new(
            self.own_certificate(OperatorIdentity::TargetAdmin, ca)
                .await?,
        );
        self.target
            .put(uid.to_owned(), Arc::clone(&own), self.clock.monotonic());
        Ok(own)
    }

    /// Forgets everything kept in memory for an object that is gone.
    pub fn forget(&self, uid: &str) {
        self.control_planes.forget(uid);
        self.etcd_machines.forget(uid);
        self.worker_configs.forget(uid);
        self.looks.forget(uid);
        self.targets.forget(uid);
        self.etcd.forget(uid);
        self.target.forget(uid);
        self.mirrors.forget(uid);
        self.memories.forget(uid);
        self.in_place.forget(uid);
        self.changes.forget(uid);
    }

    async fn own_certificate(
        &self,
        identity: OperatorIdentity,
        ca: &KeyPair,
    ) -> Result<KeyPair, Error> {
        let (ca, now) = (ca.clone(), self.clock.now());
        let algorithm = KeyAlgorithm::EcdsaP256;
        let issued = tokio::task::spawn_blocking(move || {
            let spec = operator_client(identity);
            issue::issue_leaf(&spec, &ca, algorithm, OWN_VALIDITY, now)
        });
        let issued = issued.await??;
        self.metrics.keys_generated(algorithm.as_str(), 1);
        Ok(issued)
    }
}

/// What is kept in memory for an object, by its UID, until it has to be made anew.
pub struct Pool<T> {
    entries: Mutex<HashMap<String, (Arc<T>, Duration)>>,
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self {
            entries: Mutex::default(),
        }
    }
}

impl<T> Pool<T> {
    /// The entry, unless it has to be made anew at `now`, on the monotonic clock.
    pub fn get(&self, uid: &str, now: Duration) -> Option<Arc<T>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let (entry, made) = entries.get(uid)?;
        (now.saturating_sub(*made) < OWN_RENEWAL).then(|| Arc::clone(entry))
    }

    /// Keeps an entry that was made at `now`.
    pub fn put(&self, uid: String, entry: Arc<T>, now: Duration) {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid, (entry, now));
    }

    fn forget(&self, uid: &str) {
        self.entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}

/// Remembers each cluster's ledger ConfigMap as it was last seen or written, so that a settled
/// cluster's is not read again every few seconds.
#[derive(Default)]
pub struct Mirrors(Mutex<HashMap<String, (Arc<MirrorRecord>, Duration)>>);

impl Mirrors {
    /// The record of this cluster, if it was seen lately.
    pub fn known(&self, cluster: &EtcdCluster, now: Duration) -> Option<Arc<MirrorRecord>> {
        let uid = cluster.uid().unwrap_or_default();
        let all = self.lock();
        let (record, seen) = all.get(&uid)?;
        (now.saturating_sub(*seen) < MIRROR_PERIOD).then(|| Arc::clone(record))
    }

    /// Remembers what it is now.
    pub fn note(&self, cluster: &EtcdCluster, record: Arc<MirrorRecord>, now: Duration) {
        let uid = cluster.uid().unwrap_or_default();
        self.lock().insert(uid, (record, now));
    }

    /// Forgets it: it has to be read again.
    pub fn forget(&self, uid: &str) {
        self.lock().remove(uid);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Arc<MirrorRecord>, Duration)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Remembers which targets' objects were seen in place and when, so that they are read every few
/// minutes and not on each look. A changed spec (another fingerprint) is looked at anew.
#[derive(Default)]
pub struct InPlace(Mutex<HashMap<String, (String, Duration)>>);

impl InPlace {
    /// Whether the objects of this fingerprint were seen in place within `period`.
    pub fn is_recent(&self, uid: &str, fingerprint: &str, now: Duration, period: Duration) -> bool {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(uid)
            .is_some_and(|(known, at)| known == fingerprint && now.saturating_sub(*at) < period)
    }

    /// Remembers that they are in place now.
    pub fn note(&self, uid: &str, fingerprint: &str, now: Duration) {
        let entry = (fingerprint.to_owned(), now);
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(uid.to_owned(), entry);
    }

    fn forget(&self, uid: &str) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(uid);
    }
}
