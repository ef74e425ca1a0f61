//! Carrying out one batch of writes, and taking the API server's answers into what was observed.

use futures::stream::{self, StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::PostParams;
use kube::{Api, ResourceExt};

use super::observe::{Observed, etcd_cluster};
use super::plan::{Write, maker};
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::release;
use crate::controllers::secret_writer::{KeySettings, SecretWriter, let_go, put};
use crate::controllers::secrets::data;
use crate::crd::{ControlPlane as ControlPlaneObject, EtcdCluster};
use crate::domain::{ControlPlane, NodeName};
use crate::kube_ext::events::EventSpec;
use crate::kube_ext::owner;
use crate::manifests::{Kubeconfig, kubeconfig};
use crate::pki::inventory::cluster_admin;
use crate::pki::issue::{issue_leaf, issue_service_account};
use crate::pki::state::{self, Signers};
use crate::pki::{Ca, secret_names};

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
        control_plane,
        writer: SecretWriter {
            maker: maker(control_plane, owner),
            keys: KeySettings {
                algorithm: control_plane.key_algorithm,
                leaf_validity: control_plane.leaf_validity,
                ca_validity: control_plane.ca_validity,
            },
            secrets: context.api(&*observed.object),
            context,
            now: context.clock.now(),
        },
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
    // Members of an EtcdCluster that is referred to are on other machines.
    let cluster = etcd_cluster(object, context).await?;
    let cluster = cluster.filter(|found| owner::is_controlled_by(&found.metadata, object));
    let is_member = |machine: &NodeName| {
        let cluster = cluster.as_ref();
        cluster.is_some_and(|cluster| release::has_member(cluster, machine))
    };
    let gone = machines.iter().filter(|machine| !is_member(machine));
    for machine in gone {
        let note = format!("machine {machine} has no etcd member and no Node any more");
        let_go(object, machine, note, context).await?;
    }
    Ok(())
}

struct Actor<'a> {
    control_plane: &'a ControlPlane,
    writer: SecretWriter<'a>,
}

impl Actor<'_> {
    async fn carry_out(&self, write: Write) -> Result<Written, Error> {
        let writer = &self.writer;
        let secret = match write {
            Write::Ca(ca) => writer.create_ca(ca).await?,
            Write::ServiceAccount => self.create_service_account().await?,
            Write::Leaves {
                machine,
                leaves,
                signers,
                stored,
            } => {
                writer
                    .issue_leaves(&machine, leaves, stored, signers)
                    .await?
            }
            Write::Kubeconfig { signers, stored } => {
                self.write_kubeconfig(&signers, stored).await?
            }
            Write::MachineConfig { desired, stored } => writer.publish(desired, stored).await?,
            Write::CreateEtcd(cluster) => return self.create_etcd(&cluster).await,
            Write::RestoreEtcd(cluster) => return self.restore_etcd(&cluster).await,
        };
        Ok(Written::Secret(Box::new(secret)))
    }

    async fn create_service_account(&self) -> Result<Secret, Error> {
        let algorithm = self.control_plane.key_algorithm;
        let writer = &self.writer;
        let keys = writer
            .generate(1, move || issue_service_account(algorithm))
            .await?;
        let name = secret_names::service_account(&self.control_plane.name);
        let data = state::service_account_data(&keys);
        writer
            .create_or_adopt(writer.maker.secret(name, None, "ca", data))
            .await
    }

    async fn write_kubeconfig(
        &self,
        signers: &Signers,
        stored: Option<Box<Secret>>,
    ) -> Result<Secret, Error> {
        let control_plane = self.control_plane;
        let ca = signers.get(&Ca::Cluster);
        let ca = ca.ok_or_else(|| Error::Bug("the cluster CA is not stored".to_owned()))?;
        let server = control_plane
            .public_endpoint()
            .ok_or_else(|| Error::Bug("no machine serves".to_owned()))?;
        let spec = cluster_admin();
        let (signer, algorithm, validity, now) = (
            ca.clone(),
            control_plane.key_algorithm,
            control_plane.leaf_validity,
            self.writer.now,
        );
        let user = spec.subject.common_name.clone();
        let writer = &self.writer;
        let pair = writer
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
                let secret = writer.maker.secret(name, None, "kubeconfig", data);
                writer.create(secret, |_| false).await
            }
            Some(secret) => {
                let secret = Secret {
                    data: Some(data),
                    ..*secret
                };
                put(&writer.secrets, &secret).await
            }
        }
    }

    async fn create_etcd(&self, cluster: &EtcdCluster) -> Result<Written, Error> {
        let api: Api<EtcdCluster> = self.writer.context.api(cluster);
        let created = api.create(&PostParams::default(), cluster).await;
        created
            .map(|cluster| Written::Etcd(Box::new(cluster)))
            .map_err(Error::api("creating the EtcdCluster"))
    }

    async fn restore_etcd(&self, cluster: &EtcdCluster) -> Result<Written, Error> {
        let api: Api<EtcdCluster> = self.writer.context.api(cluster);
        let name = cluster.name_any();
        let restored = api.replace(&name, &PostParams::default(), cluster).await;
        let restored = restored.map_err(Error::api("putting the EtcdCluster back"))?;
        let event = EventSpec {
            warning: false,
            reason: "FollowsControlPlane",
            action: "Restoring",
            note: format!("the spec follows ControlPlane {name}; edit that one instead"),
        };
        self.writer.context.events.publish(&restored, &event).await;
        Ok(Written::Etcd(Box::new(restored)))
    }
}
