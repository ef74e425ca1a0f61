//! The Secrets of a pool, as objects. Pure.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::controllers::names;
use crate::domain::NodePool;
use crate::machine_config::MachineConfig;
use crate::pki::secret_names::VALUE;
use crate::pki::state::SecretData;
use crate::tokens::stored::StoredError;
use crate::tokens::{SHARED, Stored, Token};

/// Type of every Secret of the Cluster API contract.
const SECRET_TYPE: &str = "cluster.x-k8s.io/secret";

/// What all Secrets of one pool share.
#[derive(Clone, Copy)]
pub struct SecretMaker<'a> {
    pub pool: &'a NodePool,
    pub owner: &'a OwnerReference,
}

impl SecretMaker<'_> {
    /// Name of the Secret that the machines of a slot boot from.
    pub fn config_name(&self, slot: &str) -> String {
        let machine = if slot == SHARED {
            &self.pool.name
        } else {
            slot
        };
        names::worker_config(&self.pool.cluster.name, machine)
    }

    /// Name of the Secret with the tokens.
    pub fn tokens_name(&self) -> String {
        names::pool_tokens(&self.pool.cluster.name, &self.pool.name)
    }

    /// The Secret with the tokens.
    pub fn tokens(&self, stored: &Stored) -> Result<Secret, StoredError> {
        let text = stored.write()?;
        let data = BTreeMap::from([(names::TOKENS_KEY.to_owned(), ByteString(text.to_vec()))]);
        Ok(self.secret(self.tokens_name(), None, names::CONTENT_TOKENS, data))
    }

    /// The Secret that machines of a slot boot from; `token` is the one that its user data names.
    pub fn config(&self, slot: &str, config: &MachineConfig, token: Option<&Token>) -> Secret {
        let data = [
            (VALUE, config.user_data.to_vec()),
            ("format", config.format.as_bytes().to_vec()),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value)));
        let machine = (slot != SHARED).then_some(slot);
        let name = self.config_name(slot);
        let mut secret = self.secret(name, machine, names::CONTENT_MACHINE_CONFIG, data.into());
        let files = serde_json::Value::from_iter(config.files.clone()).to_string();
        secret.metadata.annotations = Some(BTreeMap::from([
            (
                names::ANNOTATION_REVISION.to_owned(),
                config.revision.clone(),
            ),
            (names::ANNOTATION_FILES.to_owned(), files),
            (
                names::ANNOTATION_TOKEN_ID.to_owned(),
                token.map(Token::id).unwrap_or_default().to_owned(),
            ),
        ]));
        secret
    }

    fn secret(
        &self,
        name: String,
        machine: Option<&str>,
        content: &str,
        data: SecretData,
    ) -> Secret {
        let pool = self.pool;
        Secret {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: Some(pool.namespace.clone()),
                labels: Some(names::pool_labels(
                    &pool.cluster.name,
                    &pool.name,
                    machine,
                    content,
                )),
                owner_references: Some(vec![self.owner.clone()]),
                ..ObjectMeta::default()
            },
            type_: Some(SECRET_TYPE.to_owned()),
            data: Some(data),
            ..Secret::default()
        }
    }
}

/// The tokens in a Secret; `None` when they cannot be read.
pub fn read_stored(secret: &Secret) -> Option<Stored> {
    let data = secret.data.as_ref()?.get(names::TOKENS_KEY)?;
    Stored::read(&data.0).ok()
}

/// The public id of the token that stored user data names.
pub fn token_id(secret: &Secret) -> Option<&str> {
    let annotations = secret.metadata.annotations.as_ref()?;
    let id = annotations.get(names::ANNOTATION_TOKEN_ID)?;
    (!id.is_empty()).then_some(id)
}

/// The machine that a machine-config Secret is for.
pub fn machine_of(secret: &Secret) -> Option<&str> {
    let labels = secret.metadata.labels.as_ref()?;
    (labels.get(names::LABEL_CONTENT)? == names::CONTENT_MACHINE_CONFIG).then_some(())?;
    labels.get(names::LABEL_MACHINE).map(String::as_str)
}
