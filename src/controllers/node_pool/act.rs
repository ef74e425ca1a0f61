//! Carrying out one batch, in the seed or in the target.

use std::time::Duration;

use futures::stream::{self, StreamExt};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use super::observe::Observed;
use super::plan::{Answer, Change, Publication};
use super::secrets::SecretMaker;
use super::target::{Target, description, purpose};
use crate::controllers::context::Context;
use crate::controllers::error::Error;
use crate::controllers::names;
use crate::crd::NodePool as NodePoolObject;
use crate::domain::NodePool;
use crate::kube_ext::apply::CallError;
use crate::kube_ext::delete::delete;
use crate::kube_ext::events::EventSpec;
use crate::kube_ext::owner;
use crate::target;
use crate::tokens::format::{self, Live};
use crate::tokens::issue::issue;
use crate::tokens::plan::{Ensure, renew};
use crate::tokens::request::Request;
use crate::tokens::{Approval, SHARED, Stored};

/// Writes of one batch that are under way at the same time.
const WRITES_AT_ONCE: usize = 8;
/// A Node that was let in is awaited for no longer.
const LONGEST_WAY: SignedDuration = SignedDuration::from_hours(24);
/// Longest time of one delete in the seed.
const DELETE_DEADLINE: Duration = Duration::from_secs(20);

/// What acts for one pool.
pub struct Actor<'a> {
    pub observed: &'a mut Observed,
    pub target: &'a mut Target,
    pub pool: &'a NodePool,
    pub owner: &'a OwnerReference,
    pub context: &'a Context,
    pub now: Timestamp,
}

impl Actor<'_> {
    fn maker(&self) -> SecretMaker<'_> {
        SecretMaker {
            pool: self.pool,
            owner: self.owner,
        }
    }

    fn secrets(&self) -> Api<Secret> {
        self.context.api(&*self.observed.object)
    }

    /// Stores new tokens, made here, and what is granted.
    pub async fn store(&mut self, stored: &Stored, change: Change) -> Result<Stored, Error> {
        let mut next = stored.clone();
        for (slot, renewal) in change.renew {
            let token = issue().map_err(|error| Error::Bug(error.to_string()))?;
            renew(&mut next, &slot, renewal, token, self.now);
        }
        for (name, node, approval) in change.granted {
            let Some(slot) = next.0.get_mut(&name) else {
                continue;
            };
            if name == SHARED {
                slot.admitted.insert(node, approval);
            } else {
                slot.approval = Some(approval);
            }
        }
        self.labelled_are_no_longer_awaited(&mut next);
        self.write_stored(&next).await?;
        Ok(next)
    }

    /// A Node that has its label needs no other record; one that has not come for a day, neither.
    fn labelled_are_no_longer_awaited(&self, stored: &mut Stored) {
        let pool = self.pool.name.as_str();
        let awaited = |name: &String, approval: &Approval| {
            let node = self.target.nodes.get(name);
            let labelled = node.is_some_and(|node| super::plan::pool_of(node) == Some(pool));
            !labelled && self.now.duration_since(approval.at) < LONGEST_WAY
        };
        for slot in stored.0.values_mut() {
            slot.admitted
                .retain(|name, approval| awaited(name, approval));
        }
    }

    /// Writes the Secret with the tokens, as it was read or anew.
    pub async fn write_stored(&mut self, stored: &Stored) -> Result<(), Error> {
        let bug = |error: crate::tokens::stored::StoredError| Error::Bug(error.to_string());
        let desired = self.maker().tokens(stored).map_err(bug)?;
        let name = self.maker().tokens_name();
        let before = self.observed.secrets.get(&name).cloned();
        let written = self
            .write(Publication {
                desired,
                stored: before,
            })
            .await?;
        self.observed.secrets.insert(name, written);
        Ok(())
    }

    /// Makes or extends tokens in the target. The first failure ends it.
    pub async fn ensure(&mut self, tokens: Vec<Ensure>) -> Result<(), CallError> {
        let text = description(self.pool);
        let client = self.target.client.clone();
        let calls: Vec<_> = tokens
            .into_iter()
            .map(|ensure| {
                let secret = format::secret(&ensure.token, ensure.expires, purpose(&text));
                let client = client.clone();
                async move {
                    target::put_token(&client, &secret, ensure.exists).await?;
                    Ok::<_, CallError>((ensure.token.id().to_owned(), ensure.expires))
                }
            })
            .collect();
        let mut answers = stream::iter(calls).buffer_unordered(WRITES_AT_ONCE);
        while let Some(made) = answers.next().await {
            let (id, expires) = made?;
            let live = Live {
                expires: Some(expires),
                intact: true,
            };
            self.target.live.insert(id, live);
        }
        Ok(())
    }

    /// Writes machine configs and deletes those that nothing needs.
    pub async fn publish(
        &mut self,
        publications: Vec<Publication>,
        purge: Vec<Secret>,
    ) -> Result<(), Error> {
        let this = &*self;
        let mut answers = stream::iter(publications)
            .map(|publication| this.write(publication))
            .buffer_unordered(WRITES_AT_ONCE);
        let mut written = Vec::new();
        while let Some(secret) = answers.next().await {
            written.push(secret);
        }
        drop(answers);
        let mut failed = None;
        for secret in written {
            match secret {
                Ok(secret) => {
                    self.observed.secrets.insert(secret.name_any(), secret);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            return Err(error);
        }
        let api = self.secrets();
        for secret in purge {
            if owner::is_controlled_by(&secret.metadata, &*self.observed.object) {
                delete(&api, &secret, DELETE_DEADLINE)
                    .await
                    .map_err(seed_error)?;
            }
            self.observed.secrets.remove(&secret.name_any());
        }
        Ok(())
    }

    async fn write(&self, publication: Publication) -> Result<Secret, Error> {
        let api = self.secrets();
        let Publication { desired, stored } = publication;
        let name = desired.name_any();
        let Some(mut secret) = stored else {
            return match api.create(&PostParams::default(), &desired).await {
                Err(kube::Error::Api(status)) if status.is_already_exists() => {
                    Err(Error::Occupied {
                        secret: name,
                        kind: "NodePool".to_owned(),
                    })
                }
                created => created.map_err(Error::api("creating a Secret of a pool")),
            };
        };
        secret.data = desired.data;
        let wanted = desired.metadata;
        let labels = secret.metadata.labels.get_or_insert_default();
        labels.extend(wanted.labels.unwrap_or_default());
        let annotations = secret.metadata.annotations.get_or_insert_default();
        annotations.extend(wanted.annotations.unwrap_or_default());
        // Under its resourceVersion: a write in between is a conflict.
        let replaced = api.replace(&name, &PostParams::default(), &secret).await;
        replaced.map_err(Error::api("replacing a Secret of a pool"))
    }

    /// Answers requests, and tells in the seed what was answered.
    pub async fn answer(&mut self, answers: Vec<Answer>) -> Result<(), CallError> {
        for Answer { request, answer } in answers {
            let words = answer.as_deref().map_err(|refusal| *refusal);
            let answered = target::answer_request(&self.target.client, &request, words).await;
            // Answered by now, or no longer as it was read.
            let now = self.context.clock.monotonic();
            self.context.targets.answered(&self.target.uid, now);
            answered?;
            self.target
                .requests
                .retain(|other| other.uid != request.uid);
            let event = match words {
                Ok(text) => EventSpec {
                    warning: false,
                    reason: "JoinGranted",
                    action: "Approving",
                    note: format!("CertificateSigningRequest {}: {text}", request.name),
                },
                Err(refusal) => EventSpec {
                    warning: true,
                    reason: "JoinRefused",
                    action: "Denying",
                    note: format!(
                        "CertificateSigningRequest {}: {}: {}",
                        request.name,
                        refusal.as_str(),
                        refusal.text()
                    ),
                },
            };
            let object = &*self.observed.object;
            let events = &self.context.events;
            let about = Some(reference_to(&request));
            events.publish_about(object, about, &event).await;
        }
        Ok(())
    }

    /// Takes tokens away from the target.
    pub async fn revoke(&mut self, ids: Vec<String>) -> Result<(), CallError> {
        for id in ids {
            target::revoke_token(&self.target.client, &id).await?;
            self.target.live.remove(&id);
        }
        Ok(())
    }
}

fn reference_to(request: &Request) -> ObjectReference {
    ObjectReference {
        api_version: Some("certificates.k8s.io/v1".to_owned()),
        kind: Some("CertificateSigningRequest".to_owned()),
        name: Some(request.name.clone()),
        uid: Some(request.uid.clone()),
        ..ObjectReference::default()
    }
}

fn seed_error(error: CallError) -> Error {
    match error {
        CallError::Api(source) => Error::Api {
            doing: "deleting a machine config",
            source,
        },
        CallError::Deadline(limit) => Error::Deadline(limit),
    }
}

/// Whether the object is still there and shall stay, asked once more. The API server lets an object
/// go that gets its first finalizer while it is being deleted.
pub async fn is_still_wanted(object: &NodePoolObject, context: &Context) -> Result<bool, Error> {
    let api: Api<NodePoolObject> = context.api(object);
    let found = api.get_metadata_opt(&object.name_any()).await;
    let found = found.map_err(Error::api("reading the pool again"))?;
    Ok(found.is_some_and(|found| {
        found.uid() == object.uid() && found.metadata.deletion_timestamp.is_none()
    }))
}

/// Adds or takes away the finalizer, exactly on the object that was read.
pub async fn set_finalizer(
    object: &NodePoolObject,
    wanted: bool,
    context: &Context,
) -> Result<(), Error> {
    let mut finalizers = object.finalizers().to_vec();
    if finalizers
        .iter()
        .any(|one| one == names::NODE_POOL_FINALIZER)
        == wanted
    {
        return Ok(());
    }
    if wanted {
        finalizers.push(names::NODE_POOL_FINALIZER.to_owned());
    } else {
        finalizers.retain(|one| one != names::NODE_POOL_FINALIZER);
    }
    let patch = json!({"metadata": {
        "uid": object.uid(),
        "resourceVersion": object.resource_version(),
        "finalizers": finalizers,
    }});
    let api: Api<NodePoolObject> = context.api(object);
    let patched = api
        .patch(
            &object.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await;
    match patched {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        Err(error) => Err(Error::api("keeping the finalizer of a pool")(error)),
    }
}
