//! Carrying out one batch of writes, and taking the API server's answers into what was observed.

use std::collections::BTreeMap;

use futures::stream::{self, StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::observe::{Observed, etcd_cluster};
use super::plan::Write;
use super::release;
use super::secrets::{SecretMaker, data};
use crate::controllers::conditions::Reason;
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::{ledger, names};
use crate::crd::{ControlPlane as ControlPlaneObject, EtcdCluster};
use crate::domain::{ControlPlane, Machine, NodeName};
use crate::kube_ext::events::EventSpec;
use crate::kube_ext::owner;
use crate::manifests::{Kubeconfig, kubeconfig};
use crate::pki::inventory::cluster_admin;
use crate::pki::issue::{IssueError, issue_ca, issue_leaf, issue_service_account};
use crate::pki::state::{self, SecretData};
use crate::pki::{Ca, CertSpec, KeyPair, Leaf, MachinePki, secret_names};

/// Writes of one batch that are under way at the same time.
const WRITES_AT_ONCE: usize = 8;

/// What an API server answered to a write.
enum Written {
    Secret(Box<Secret>),
    Etcd(Box<EtcdCluster>),
}

/// Carries out the batch. The first failure ends it; what was written stays and is found again.
pub async fn act(
    writes: Vec<Write>,
    observed: &mut Observed,
    control_plane: &ControlPlane,
    owner: &OwnerReference,
    context: &Context,
) -> Result<(), Error> {
    let actor = Actor {
        observed,
        maker: SecretMaker {
            control_plane,
            owner,
        },
        secrets: context.api(&*observed.object),
        context,
        now: context.clock.now(),
    };
    let outcomes: Vec<Written> = stream::iter(writes)
        .map(|write| actor.carry_out(write))
        .buffer_unordered(WRITES_AT_ONCE)
        .try_collect()
        .await?;
    for written in outcomes {
        match written {
            Written::Secret(secret) => {
                observed.secrets.insert(secret.name_any(), *secret);
            }
            Written::Etcd(cluster) => observed.etcd = Some(*cluster),
        }
    }
    Ok(())
}

/// Pauses the EtcdCluster with its ControlPlane: the one write that a pause makes.
pub async fn pause_etcd(object: &ControlPlaneObject, context: &Context) -> Result<(), Error> {
    let Some(mut cluster) = etcd_cluster(object, context).await? else {
        return Ok(());
    };
    if cluster.spec.paused == Some(true) || !owner::is_controlled_by(&cluster.metadata, object) {
        return Ok(());
    }
    cluster.spec.paused = Some(true);
    let api: Api<EtcdCluster> = context.api(object);
    let paused = api
        .replace(&cluster.name_any(), &PostParams::default(), &cluster)
        .await;
    paused
        .map(drop)
        .map_err(Error::api("pausing the EtcdCluster"))
}

/// Empties the Secrets of machines that are let go, and says since when they are. Their member may
/// have come back while their Nodes were taken away: so the ledger is read once more.
pub async fn release(
    object: &ControlPlaneObject,
    machines: &[NodeName],
    context: &Context,
) -> Result<(), Error> {
    if machines.is_empty() {
        return Ok(());
    }
    let cluster = etcd_cluster(object, context).await?;
    let Some(recorded) = ledger::founded(cluster.as_ref()) else {
        return Ok(());
    };
    let api: Api<Secret> = context.api(object);
    let name = object.name_any();
    let gone = machines
        .iter()
        .filter(|machine| ledger::slot(recorded, machine.as_str()).is_none());
    for machine in gone {
        // The one that says so goes last.
        let certificates = secret_names::machine_certificates(&name, machine);
        if let Some(found) = owned(&api, &certificates, object).await? {
            put(
                &api,
                &Secret {
                    data: None,
                    ..found
                },
            )
            .await?;
        }
        let config = secret_names::machine_config(&name, machine);
        if let Some(found) = owned(&api, &config, object).await? {
            put(&api, &release::released(found, context.clock.now())).await?;
        }
        let event = EventSpec {
            warning: false,
            reason: Reason::MachineReleased.as_str(),
            action: "Releasing",
            note: format!("machine {machine} has no etcd member and no Node any more"),
        };
        context.events.publish(object, &event).await;
    }
    Ok(())
}

/// A Secret, if it is there and this object's own.
async fn owned(
    api: &Api<Secret>,
    name: &str,
    object: &ControlPlaneObject,
) -> Result<Option<Secret>, Error> {
    let found = api.get_opt(name).await;
    let found = found.map_err(Error::api("reading a Secret"))?;
    Ok(found.filter(|secret| owner::is_controlled_by(&secret.metadata, object)))
}

/// Replaces what was read, under its resourceVersion: a write in between is a conflict.
async fn put(api: &Api<Secret>, secret: &Secret) -> Result<Secret, Error> {
    let replaced = api
        .replace(&secret.name_any(), &PostParams::default(), secret)
        .await;
    replaced.map_err(Error::api("replacing a Secret"))
}

struct Actor<'a> {
    observed: &'a Observed,
    maker: SecretMaker<'a>,
    secrets: Api<Secret>,
    context: &'a Context,
    now: Timestamp,
}

impl Actor<'_> {
    async fn carry_out(&self, write: Write) -> Result<Written, Error> {
        let secret = match write {
            Write::Ca(ca) => self.create_ca(ca).await?,
            Write::ServiceAccount => self.create_service_account().await?,
            Write::Leaves {
                machine,
                leaves,
                stored,
            } => self.issue_leaves(&machine, leaves, stored).await?,
            Write::Kubeconfig { stored } => self.write_kubeconfig(stored).await?,
            Write::MachineConfig { desired, stored } => self.publish(desired, stored).await?,
            Write::CreateEtcd(cluster) => return self.create_etcd(&cluster).await,
            Write::RestoreEtcd(cluster) => return self.restore_etcd(&cluster).await,
        };
        Ok(Written::Secret(Box::new(secret)))
    }

    async fn create_ca(&self, ca: Ca) -> Result<Secret, Error> {
        let (algorithm, validity) = (
            self.maker.control_plane.key_algorithm,
            self.maker.control_plane.ca_validity,
        );
        let now = self.now;
        let pair = self
            .generate(1, move || issue_ca(ca, algorithm, validity, now))
            .await?;
        let name = secret_names::ca(&self.maker.control_plane.name, ca);
        self.create_or_adopt(self.maker.secret(name, None, "ca", state::ca_data(&pair)))
            .await
    }

    async fn create_service_account(&self) -> Result<Secret, Error> {
        let algorithm = self.maker.control_plane.key_algorithm;
        let keys = self
            .generate(1, move || issue_service_account(algorithm))
            .await?;
        let name = secret_names::service_account(&self.maker.control_plane.name);
        let data = state::service_account_data(&keys);
        self.create_or_adopt(self.maker.secret(name, None, "ca", data))
            .await
    }

    /// Create-only: whoever was first is right, and what the user brought is never overwritten.
    async fn create_or_adopt(&self, secret: Secret) -> Result<Secret, Error> {
        self.create(secret, |found| owner::controller_of(found).is_none())
            .await
    }

    /// Creates a Secret. One of that name that is there already is taken as it is if it is ours or
    /// `adoptable`; anybody else's is left alone.
    async fn create(
        &self,
        secret: Secret,
        adoptable: impl Fn(&ObjectMeta) -> bool,
    ) -> Result<Secret, Error> {
        match self.secrets.create(&PostParams::default(), &secret).await {
            Ok(created) => return Ok(created),
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(error) => return Err(Error::api("creating a Secret")(error)),
        }
        let name = secret.name_any();
        let found = self
            .secrets
            .get(&name)
            .await
            .map_err(Error::api("reading a Secret"))?;
        let object = &*self.observed.object;
        if owner::is_controlled_by(&found.metadata, object) || adoptable(&found.metadata) {
            Ok(found)
        } else {
            Err(Error::Occupied { secret: name })
        }
    }

    async fn issue_leaves(
        &self,
        machine: &Machine,
        leaves: BTreeMap<Leaf, CertSpec>,
        stored: Option<Box<Secret>>,
    ) -> Result<Secret, Error> {
        let control_plane = self.maker.control_plane;
        let signers = self.signers()?;
        let (algorithm, validity, now) = (
            control_plane.key_algorithm,
            control_plane.leaf_validity,
            self.now,
        );
        let issued = self.generate(leaves.len(), move || {
            let mut pki = MachinePki::new();
            for (leaf, spec) in leaves {
                if let Some(signer) = signers.get(&spec.signer) {
                    pki.insert(leaf, issue_leaf(&spec, signer, algorithm, validity, now)?);
                }
            }
            Ok(pki)
        });
        let issued = state::machine_data(&issued.await?);
        let name = secret_names::machine_certificates(&control_plane.name, &machine.name);
        match stored {
            None => {
                let machine = Some(machine.name.as_str());
                let secret = self.maker.secret(name, machine, "certificates", issued);
                self.create(secret, |_| false).await
            }
            Some(mut secret) => {
                secret.data.get_or_insert_default().extend(issued);
                put(&self.secrets, &secret).await
            }
        }
    }

    fn signers(&self) -> Result<BTreeMap<Ca, KeyPair>, Error> {
        let signer = |ca: Ca| {
            let name = secret_names::ca(&self.maker.control_plane.name, ca);
            let secret = self.observed.secrets.get(&name);
            let empty = SecretData::new();
            let data = secret
                .and_then(|secret| secret.data.as_ref())
                .unwrap_or(&empty);
            let pair = state::ca(&name, data).map_err(|error| Error::Bug(error.to_string()))?;
            Ok((ca, pair))
        };
        Ca::ALL.into_iter().map(signer).collect()
    }

    async fn write_kubeconfig(&self, stored: Option<Box<Secret>>) -> Result<Secret, Error> {
        let control_plane = self.maker.control_plane;
        let ca = self.signers()?.remove(&Ca::Cluster);
        let ca = ca.ok_or_else(|| Error::Bug("the cluster CA is not stored".to_owned()))?;
        let server = control_plane
            .public_endpoint()
            .ok_or_else(|| Error::Bug("no machine serves".to_owned()))?;
        let spec = cluster_admin();
        let (signer, algorithm, validity, now) = (
            ca.clone(),
            control_plane.key_algorithm,
            control_plane.leaf_validity,
            self.now,
        );
        let user = spec.subject.common_name.clone();
        let pair = self
            .generate(1, move || {
                issue_leaf(&spec, &signer, algorithm, validity, now)
            })
            .await?;
        let content = kubeconfig(&Kubeconfig {
            cluster: &control_plane.cluster_name,
            server: &format!("https://{server}"),
            ca_pem: &ca.certificate_pem,
            user: &user,
            client: &pair,
        });
        let content = content.map_err(|error| Error::Bug(error.to_string()))?;
        let name = secret_names::kubeconfig(&control_plane.name);
        let data = data([(secret_names::VALUE, content.as_bytes())]);
        match stored {
            None => {
                let secret = self.maker.secret(name, None, "kubeconfig", data);
                self.create(secret, |_| false).await
            }
            Some(secret) => {
                let secret = Secret {
                    data: Some(data),
                    ..*secret
                };
                put(&self.secrets, &secret).await
            }
        }
    }

    async fn publish(
        &self,
        desired: Box<Secret>,
        stored: Option<Box<Secret>>,
    ) -> Result<Secret, Error> {
        let Some(mut secret) = stored else {
            return self.create(*desired, |_| false).await;
        };
        secret.data = desired.data;
        let (metadata, wanted) = (&mut secret.metadata, desired.metadata);
        metadata
            .labels
            .get_or_insert_default()
            .extend(wanted.labels.unwrap_or_default());
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.extend(wanted.annotations.unwrap_or_default());
        // It is taken into service again.
        annotations.remove(names::ANNOTATION_RELEASED);
        put(&self.secrets, &secret).await
    }

    async fn create_etcd(&self, cluster: &EtcdCluster) -> Result<Written, Error> {
        let api: Api<EtcdCluster> = self.context.api(cluster);
        let created = api.create(&PostParams::default(), cluster).await;
        created
            .map(|cluster| Written::Etcd(Box::new(cluster)))
            .map_err(Error::api("creating the EtcdCluster"))
    }

    async fn restore_etcd(&self, cluster: &EtcdCluster) -> Result<Written, Error> {
        let api: Api<EtcdCluster> = self.context.api(cluster);
        let name = cluster.name_any();
        let restored = api.replace(&name, &PostParams::default(), cluster).await;
        let restored = restored.map_err(Error::api("putting the EtcdCluster back"))?;
        let event = EventSpec {
            warning: false,
            reason: "FollowsControlPlane",
            action: "Restoring",
            note: format!("the spec follows ControlPlane {name}; edit that one instead"),
        };
        self.context.events.publish(&restored, &event).await;
        Ok(Written::Etcd(Box::new(restored)))
    }

    /// Generates `count` keys. It takes up to seconds with RSA and never runs on the async threads.
    async fn generate<T: Send + 'static>(
        &self,
        count: usize,
        work: impl FnOnce() -> Result<T, IssueError> + Send + 'static,
    ) -> Result<T, Error> {
        let made = tokio::task::spawn_blocking(work).await??;
        let algorithm = self.maker.control_plane.key_algorithm.as_str();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.context.metrics.keys_generated(algorithm, count);
        Ok(made)
    }
}
