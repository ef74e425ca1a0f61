//! Reading what a spec refers to: keys of Secrets and ConfigMaps in its namespace.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::context::Context;
use super::error::Error;
use super::fields::{ContentKind, ContentRef, Contents};

/// The contents of `references`; what does not exist is left out, and resolving names it.
pub async fn contents(
    object: &impl ResourceExt,
    references: BTreeSet<ContentRef>,
    context: &Context,
) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    for reference in references {
        if let Some(content) = content(object, &reference, context).await? {
            contents.insert(reference, content);
        }
    }
    Ok(contents)
}

/// SHA-256 of references and contents.
pub fn digest(contents: &Contents) -> [u8; 32] {
    let mut hash = Sha256::new();
    for (reference, content) in contents {
        hash.update(reference.to_string());
        hash.update(Sha256::digest(content));
    }
    hash.finalize().into()
}

async fn content(
    object: &impl ResourceExt,
    reference: &ContentRef,
    context: &Context,
) -> Result<Option<Zeroizing<Vec<u8>>>, Error> {
    let key = &reference.key;
    match reference.kind {
        ContentKind::Secret => {
            let api: Api<Secret> = context.api(object);
            let secret = api.get_opt(&reference.name).await;
            let secret = secret.map_err(Error::api("reading a Secret that the spec refers to"))?;
            let mut data = secret.and_then(|secret| secret.data).unwrap_or_default();
            Ok(data.remove(key).map(|value| Zeroizing::new(value.0)))
        }
        ContentKind::ConfigMap => {
            let api: Api<ConfigMap> = context.api(object);
            let found = api.get_opt(&reference.name).await;
            let found = found.map_err(Error::api("reading a ConfigMap that the spec refers to"))?;
            let found = found.unwrap_or_default();
            let text = found.data.unwrap_or_default().remove(key);
            let binary = found.binary_data.unwrap_or_default().remove(key);
            Ok(text
                .map(String::into_bytes)
                .or_else(|| binary.map(|value| value.0))
                .map(Zeroizing::new))
        }
    }
}
