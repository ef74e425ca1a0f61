//! The start-up check: are our kinds installed, and may we do what we are going to do?
//!
//! A missing CustomResourceDefinition or RBAC verb would otherwise show up as a watch that is
//! quietly retried for ever.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client, Resource};
use tokio_util::sync::CancellationToken;

use super::health::Gate;
use super::permissions::{PERMISSIONS, Permission, Place};
use super::settings::Settings;
use crate::crd::{ControlPlane, EtcdCluster, NodePool};

/// Longest pause between two checks.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How long one check may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Reviews that are asked for at the same time.
const CONCURRENT_REVIEWS: usize = 8;

/// Something that has to be put right before the operator can work.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// A CustomResourceDefinition is not installed, or not in the version we speak.
    Crd { name: String, group_version: String },
    /// Verbs on a resource are not granted.
    Verbs {
        namespace: String,
        group: &'static str,
        resource: &'static str,
        verbs: Vec<&'static str>,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Crd {
                name,
                group_version,
            } => write!(
                f,
                "CustomResourceDefinition {name} is not installed with version {group_version}: \
                 install it with the chart, or with `seedbed crds | kubectl apply -f -`"
            ),
            Self::Verbs {
                namespace,
                group,
                resource,
                verbs,
            } => {
                let dot = if group.is_empty() { "" } else { "." };
                let verbs = verbs.join(", ");
                write!(
                    f,
                    "RBAC does not allow {verbs} on {resource}{dot}{group} in namespace \
                     {namespace}: bind a Role that does (the chart makes one in each of \
                     watchNamespaces)"
                )
            }
        }
    }
}

/// Why the check itself could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PreflightError {
    #[error("cannot list the resources of {group_version}")]
    Discovery {
        group_version: String,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("cannot ask the API server about our own permissions")]
    Review(#[source] Box<kube::Error>),
    #[error("the check did not end within {0:?}")]
    TimedOut(Duration),
}

/// Checks until nothing is missing (true) or `shutdown` comes (false), and opens `gate`. Says at
/// each change what is missing.
pub async fn wait_until_met(
    client: &Client,
    settings: &Settings,
    gate: &Gate,
    shutdown: &CancellationToken,
) -> bool {
    let mut pause = Duration::from_secs(1);
    let mut reported = Vec::new();
    loop {
        let check = async {
            match tokio::time::timeout(DEADLINE, missing(client, settings)).await {
                Ok(found) => found,
                Err(_) => Err(PreflightError::TimedOut(DEADLINE)),
            }
        };
        let found = tokio::select! {
            () = shutdown.cancelled() => return false,
            found = check => found,
        };
        match found {
            Ok(missing) if missing.is_empty() => {
                tracing::info!("all kinds are installed and all permissions are granted");
                gate.set(true);
                return true;
            }
            Ok(missing) => {
                if missing != reported {
                    for one in &missing {
                        tracing::error!("cannot start: {one}");
                    }
                    reported = missing;
                }
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, cause, "cannot check the prerequisites");
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return false,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Everything that is missing now.
pub async fn missing(client: &Client, settings: &Settings) -> Result<Vec<Missing>, PreflightError> {
    let mut missing = missing_crds(client).await?;
    missing.extend(missing_verbs(client, settings).await?);
    Ok(missing)
}

async fn missing_crds(client: &Client) -> Result<Vec<Missing>, PreflightError> {
    let mut served: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut missing = Vec::new();
    for Kind {
        name,
        group_version,
        plural,
    } in kinds()
    {
        if !served.contains_key(&group_version) {
            let resources = served_resources(client, &group_version).await?;
            served.insert(group_version.clone(), resources);
        }
        if !served[&group_version].contains(&plural) {
            missing.push(Missing::Crd {
                name,
                group_version,
            });
        }
    }
    Ok(missing)
}

struct Kind {
    name: String,
    group_version: String,
    plural: String,
}

/// Our kinds, without generating their schemas, which takes memory for nothing.
fn kinds() -> [Kind; 3] {
    fn kind<K: Resource<DynamicType = ()>>() -> Kind {
        let plural = K::plural(&()).into_owned();
        Kind {
            name: format!("{plural}.{}", K::group(&())),
            group_version: format!("{}/{}", K::group(&()), K::version(&())),
            plural,
        }
    }
    [
        kind::<ControlPlane>(),
        kind::<EtcdCluster>(),
        kind::<NodePool>(),
    ]
}

/// Plural names of what is served under a group and version; none when it is unknown.
async fn served_resources(
    client: &Client,
    group_version: &str,
) -> Result<Vec<String>, PreflightError> {
    match client.list_api_group_resources(group_version).await {
        Ok(list) => Ok(list.resources.into_iter().map(|found| found.name).collect()),
        // Of an unknown group the API server says so in plain text, without a reason.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(source) => Err(PreflightError::Discovery {
            group_version: group_version.to_owned(),
            source: Box::new(source),
        }),
    }
}

async fn missing_verbs(
    client: &Client,
    settings: &Settings,
) -> Result<Vec<Missing>, PreflightError> {
    let watched = settings.watched();
    let needs = PERMISSIONS.iter().flat_map(|permission| {
        let namespaces = match permission.place {
            Place::Watched => watched.as_slice(),
            Place::Own => std::slice::from_ref(&settings.namespace),
        };
        namespaces
            .iter()
            .map(move |namespace| (namespace.clone(), permission))
    });
    let reviews: Vec<Option<Missing>> = futures::stream::iter(needs)
        .map(|(namespace, permission)| denied(client.clone(), namespace, permission))
        .buffered(CONCURRENT_REVIEWS)
        .try_collect()
        .await?;
    Ok(reviews.into_iter().flatten().collect())
}

/// The verbs of one permission that are not granted in a namespace.
async fn denied(
    client: Client,
    namespace: String,
    permission: &Permission,
) -> Result<Option<Missing>, PreflightError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(client);
    let mut verbs = Vec::new();
    for verb in permission.verbs {
        let review = review(&namespace, permission, verb);
        let answer = api
            .create(&PostParams::default(), &review)
            .await
            .map_err(|source| PreflightError::Review(Box::new(source)))?;
        if !answer.status.is_some_and(|status| status.allowed) {
            verbs.push(*verb);
        }
    }
    Ok((!verbs.is_empty()).then_some(Missing::Verbs {
        namespace,
        group: permission.group,
        resource: permission.resource,
        verbs,
    }))
}

fn review(namespace: &str, permission: &Permission, verb: &str) -> SelfSubjectAccessReview {
    let (resource, subresource) = match permission.resource.split_once('/') {
        Some((resource, subresource)) => (resource, Some(subresource)),
        None => (permission.resource, None),
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(namespace.to_owned()),
                group: Some(permission.group.to_owned()),
                resource: Some(resource.to_owned()),
                subresource: subresource.map(str::to_owned),
                verb: Some(verb.to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_ours_is_asked_for() {
        let names: Vec<_> = kinds().into_iter().map(|kind| Some(kind.name)).collect();
        let crds: Vec<_> = crate::crd::all_crds()
            .into_iter()
            .map(|crd| crd.metadata.name)
            .collect();
        assert_eq!(names, crds);
    }

    #[test]
    fn messages_name_the_thing_and_the_fix() {
        let crd = Missing::Crd {
            name: "nodepools.seedbed.dev".to_owned(),
            group_version: "seedbed.dev/v1alpha1".to_owned(),
        };
        assert!(
            crd.to_string()
                .contains("nodepools.seedbed.dev is not installed")
        );
        let verbs = |group| Missing::Verbs {
            namespace: "clusters".to_owned(),
            group,
            resource: "secrets",
            verbs: vec!["list", "watch"],
        };
        assert!(
            verbs("")
                .to_string()
                .starts_with("RBAC does not allow list, watch on secrets in namespace clusters:")
        );
        assert!(
            verbs("a.b")
                .to_string()
                .contains("secrets.a.b in namespace")
        );
    }

    #[test]
    fn a_subresource_is_asked_for_as_such() {
        let permission = PERMISSIONS
            .iter()
            .find(|permission| permission.resource == "controlplanes/status")
            .unwrap();
        let attributes = review("clusters", permission, "patch")
            .spec
            .resource_attributes
            .unwrap();
        assert_eq!(attributes.resource.as_deref(), Some("controlplanes"));
        assert_eq!(attributes.subresource.as_deref(), Some("status"));
    }
}
