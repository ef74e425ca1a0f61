//! Bootstrap tokens in the target: read, made, extended, taken away.

use std::collections::BTreeMap;

use futures::{StreamExt as _, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, ResourceExt as _};

use super::FIELD_MANAGER;
use super::apply::CALLS_AT_ONCE;
use super::client::CALL_DEADLINE;
use crate::kube_ext::apply::{CallError, within};
use crate::tokens::format::{NAMESPACE, secret_name};

fn api(client: &Client) -> Api<Secret> {
    Api::namespaced(client.clone(), NAMESPACE)
}

fn params() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PostParams::default()
    }
}

/// The Secrets of the tokens with these ids that exist, by id. One request a token: a target may
/// hold the tokens of many pools.
pub async fn tokens(
    client: &Client,
    ids: impl IntoIterator<Item = String>,
) -> Result<BTreeMap<String, Secret>, CallError> {
    let api = api(client);
    let calls: Vec<_> = ids
        .into_iter()
        .map(|id| {
            let api = api.clone();
            async move {
                let found = within(CALL_DEADLINE, api.get_opt(&secret_name(&id))).await?;
                Ok::<_, CallError>(found.map(|secret| (id, secret)))
            }
        })
        .collect();
    let mut answers = stream::iter(calls).buffer_unordered(CALLS_AT_ONCE);
    let mut found = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        found.extend(answer?);
    }
    Ok(found)
}

/// Makes a token, or puts back what somebody has made of it.
pub async fn put_token(
    client: &Client,
    secret: &Secret,
    exists: bool,
) -> Result<Secret, CallError> {
    let api = api(client);
    if !exists {
        return within(CALL_DEADLINE, api.create(&params(), secret)).await;
    }
    let name = secret.name_any();
    within(CALL_DEADLINE, api.replace(&name, &params(), secret)).await
}

/// Takes a token away; one that is gone already is as good.
pub async fn revoke_token(client: &Client, id: &str) -> Result<(), CallError> {
    let name = secret_name(id);
    let deleted = within(
        CALL_DEADLINE,
        api(client).delete(&name, &DeleteParams::default()),
    )
    .await;
    match deleted {
        Ok(_) => Ok(()),
        Err(CallError::Api(error)) if is_gone(&error) => Ok(()),
        Err(error) => Err(error),
    }
}

fn is_gone(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.is_not_found())
}
