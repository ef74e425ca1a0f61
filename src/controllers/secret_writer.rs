//! Writing the Secrets of a control plane or an EtcdCluster: create-only where what was first is
//! right, conditional everywhere else, and never over anybody else's.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Resource, ResourceExt};

use super::conditions::Reason;
use super::context::Context;
use super::error::Error;
use super::secrets::SecretMaker;
use super::{names, release};
use crate::crd::KeyAlgorithm;
use crate::domain::NodeName;
use crate::kube_ext::events::EventSpec;
use crate::kube_ext::owner;
use crate::pki::issue::{IssueError, issue_ca, issue_leaf};
use crate::pki::state::{self, Signers};
use crate::pki::{Ca, CertSpec, Leaf, MachinePki, secret_names};

/// How keys and certificates are made.
#[derive(Clone, Copy, Debug)]
pub struct KeySettings {
    pub algorithm: KeyAlgorithm,
    pub leaf_validity: Duration,
    pub ca_validity: Duration,
}

/// Writes the Secrets of one object.
pub struct SecretWriter<'a> {
    pub maker: SecretMaker<'a>,
    pub keys: KeySettings,
    pub secrets: Api<Secret>,
    pub context: &'a Context,
    pub now: Timestamp,
}

impl SecretWriter<'_> {
    /// Makes a CA and creates its Secret, or takes the one that is there.
    pub async fn create_ca(&self, ca: Ca) -> Result<Secret, Error> {
        let (algorithm, validity, now) = (self.keys.algorithm, self.keys.ca_validity, self.now);
        let pair = self
            .generate(1, move || issue_ca(ca, algorithm, validity, now))
            .await?;
        let name = secret_names::ca(self.maker.name, ca);
        let secret = self.maker.secret(name, None, "ca", state::ca_data(&pair));
        self.create_or_adopt(secret).await
    }

    /// Create-only: whoever was first is right, and what the user brought is never overwritten.
    pub async fn create_or_adopt(&self, secret: Secret) -> Result<Secret, Error> {
        self.create(secret, |found| owner::controller_of(found).is_none())
            .await
    }

    /// Creates a Secret. One of that name that is there already is taken as it is if it is ours or
    /// `adoptable`; anybody else's is left alone.
    pub async fn create(
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
        let owner = self.maker.owner;
        let ours = |found: &ObjectMeta| {
            owner::controller_of(found).is_some_and(|controller| controller.uid == owner.uid)
        };
        if ours(&found.metadata) || adoptable(&found.metadata) {
            Ok(found)
        } else {
            Err(Error::Occupied {
                secret: name,
                kind: owner.kind.clone(),
            })
        }
    }

    /// Issues leaves with the CAs that are stored, and puts them beside those that the machine has.
    pub async fn issue_leaves(
        &self,
        machine: &NodeName,
        leaves: BTreeMap<Leaf, CertSpec>,
        stored: Option<Box<Secret>>,
        signers: Arc<Signers>,
    ) -> Result<Secret, Error> {
        let (algorithm, validity, now) = (self.keys.algorithm, self.keys.leaf_validity, self.now);
        let issued = self.generate(leaves.len(), move || {
            let mut pki = MachinePki::new();
            for (leaf, spec) in leaves {
                let signer = signers.get(&spec.signer).ok_or(IssueError::NoSigner)?;
                pki.insert(leaf, issue_leaf(&spec, signer, algorithm, validity, now)?);
            }
            Ok(pki)
        });
        let issued = state::machine_data(&issued.await?);
        let name = secret_names::machine_certificates(self.maker.name, machine);
        match stored {
            None => {
                let machine = Some(machine.as_str());
                let secret = self.maker.secret(name, machine, "certificates", issued);
                self.create(secret, |_| false).await
            }
            Some(mut secret) => {
                secret.data.get_or_insert_default().extend(issued);
                put(&self.secrets, &secret).await
            }
        }
    }

    /// Creates or changes a machine config.
    pub async fn publish(
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

    /// Generates `count` keys. It takes up to seconds with RSA and never runs on the async threads.
    pub async fn generate<T: Send + 'static>(
        &self,
        count: usize,
        work: impl FnOnce() -> Result<T, IssueError> + Send + 'static,
    ) -> Result<T, Error> {
        let made = tokio::task::spawn_blocking(work).await??;
        let algorithm = self.keys.algorithm.as_str();
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        self.context.metrics.keys_generated(algorithm, count);
        Ok(made)
    }
}

/// Empties the Secrets of a machine that is let go, and says since when it is.
pub async fn let_go<K>(
    object: &K,
    machine: &NodeName,
    note: String,
    context: &Context,
) -> Result<(), Error>
where
    K: Resource<DynamicType = ()> + ResourceExt,
{
    let api: Api<Secret> = context.api(object);
    let owned = async |name: String| -> Result<Option<Secret>, Error> {
        let found = api.get_opt(&name).await;
        let found = found.map_err(Error::api("reading a Secret"))?;
        Ok(found.filter(|secret| owner::is_controlled_by(&secret.metadata, object)))
    };
    let name = object.name_any();
    // The one that says so goes last.
    if let Some(mut found) = owned(secret_names::machine_certificates(&name, machine)).await? {
        found.data = None;
        put(&api, &found).await?;
    }
    if let Some(found) = owned(secret_names::machine_config(&name, machine)).await? {
        put(&api, &release::released(found, context.clock.now())).await?;
    }
    let event = EventSpec {
        warning: false,
        reason: Reason::MachineReleased.as_str(),
        action: "Releasing",
        note,
    };
    context.events.publish(object, &event).await;
    Ok(())
}

/// Replaces what was read, under its resourceVersion: a write in between is a conflict.
pub async fn put(api: &Api<Secret>, secret: &Secret) -> Result<Secret, Error> {
    let replaced = api
        .replace(&secret.name_any(), &PostParams::default(), secret)
        .await;
    replaced.map_err(Error::api("replacing a Secret"))
}
