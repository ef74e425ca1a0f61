//! Looks for tokens and private keys in everything but the Secrets that hold them.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::api::ListParams;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, ResourceExt};

use super::field::{Field, token_in};

/// The secret halves of tokens that a test has seen, and what else must not be told.
#[derive(Default)]
pub struct Needles(BTreeSet<String>);

impl Needles {
    /// Remembers a token.
    pub fn token(&mut self, token: &str) {
        self.0.extend(token.split('.').nth(1).map(str::to_owned));
    }

    /// Remembers every token and key that is stored now, and checks what machines are given.
    pub async fn gather(&mut self, field: &Field<'_>) -> Result<()> {
        for secret in field
            .space
            .api::<Secret>()
            .list(&ListParams::default())
            .await?
        {
            let data = secret.data.clone().unwrap_or_default();
            for value in data.values() {
                let text = String::from_utf8_lossy(&value.0);
                let lines = text.lines().filter(|_| text.contains("PRIVATE KEY"));
                self.0.extend(
                    lines
                        .filter(|line| line.len() > 50)
                        .map(|line| line[..40].to_owned()),
                );
            }
            let labels = secret.metadata.labels.clone().unwrap_or_default();
            if labels.contains_key("seedbed.dev/node-pool") {
                let name = secret.name_any();
                if let Some(value) = data.get("value") {
                    let text = super::user_data::document(&value.0);
                    // No CA key and no other: the one credential is the token.
                    ensure!(!text.contains("PRIVATE KEY"), "{name} holds a private key");
                }
                if let Some(token) = token_in(&secret) {
                    self.token(&token);
                }
            }
        }
        Ok(())
    }

    /// Searches every object that is not a Secret, and every log.
    pub async fn check(&self, field: &Field<'_>) -> Result<()> {
        ensure!(
            self.0.len() > 10,
            "only {} things to look for",
            self.0.len()
        );
        let mut places = vec![("the operator's log".to_owned(), field.operator().log()?)];
        let audit = field.space.ground.seed.audit_log();
        places.push(("the audit log".to_owned(), std::fs::read_to_string(audit)?));
        places.push((
            "metrics".to_owned(),
            field.operator().get("/metrics").await?.1,
        ));
        for (group, version, kind) in [
            ("seedbed.dev", "v1alpha1", "ControlPlane"),
            ("seedbed.dev", "v1alpha1", "EtcdCluster"),
            ("seedbed.dev", "v1alpha1", "NodePool"),
            ("events.k8s.io", "v1", "Event"),
            ("", "v1", "ConfigMap"),
            ("", "v1", "Node"),
            ("certificates.k8s.io", "v1", "CertificateSigningRequest"),
        ] {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(field.space.client.clone(), &resource);
            let list = api.list(&ListParams::default()).await?;
            places.push((kind.to_owned(), serde_json::to_string(&list)?));
        }
        let secrets = field
            .space
            .api::<Secret>()
            .list(&ListParams::default())
            .await?;
        let metadata: Vec<_> = secrets.items.into_iter().map(|s| s.metadata).collect();
        places.push((
            "metadata of Secrets".to_owned(),
            serde_json::to_string(&metadata)?,
        ));
        for (place, text) in &places {
            ensure!(text.len() > 2, "{place} is empty: nothing was looked at");
            // Not the text itself: this goes to logs as well.
            let told = self.0.iter().position(|needle| text.contains(needle));
            ensure!(told.is_none(), "{place} tells a token or a key");
        }
        println!(
            "{} needles in {} places: none found",
            self.0.len(),
            places.len()
        );
        Ok(())
    }
}
