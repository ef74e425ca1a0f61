//! Looks for tokens and private keys in everything but the Secrets that hold them: every object of
//! the seed and of the target, and the operator's logs.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::site::tell;
use crate::testbed::process;
use crate::user_data;

/// Characters of a key that are looked for.
const PIECE: usize = 40;

/// The secret halves of tokens, and pieces of keys.
#[derive(Default)]
pub struct Needles(BTreeSet<String>);

impl Needles {
    /// Remembers every token and key that is stored now, in the seed and in the target, and checks
    /// what workers are given. A credential is gone after its use: so this is asked more than once.
    pub fn gather(&mut self, cluster: &Cluster<'_>) -> Result<()> {
        let get = ["get", "secrets", "-A", "-o", "json"];
        for list in [cluster.site.stage.kubectl(&get)?, cluster.kubectl(&get)?] {
            let list: Value = serde_json::from_str(&list)?;
            for secret in list["items"].as_array().into_iter().flatten() {
                self.secret(secret)?;
            }
        }
        Ok(())
    }

    fn secret(&mut self, secret: &Value) -> Result<()> {
        let name = &secret["metadata"]["name"];
        let of_worker = secret["metadata"]["labels"]["seedbed.dev/node-pool"].is_string();
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default())?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            match key.as_str() {
                "token-secret" => {
                    self.0.insert(text);
                }
                "value" if of_worker => {
                    let text = user_data::document(&bytes);
                    // No CA's key and no other: the one credential is the token.
                    ensure!(!text.contains("PRIVATE KEY"), "{name} holds a private key");
                    let known = self.0.iter().find(|needle| text.contains(*needle));
                    let token = text.contains("token:");
                    ensure!(token || known.is_none(), "{name} holds a key or a token");
                }
                _ => self.keys(&text),
            }
        }
        Ok(())
    }

    fn keys(&mut self, text: &str) {
        if !text.contains("PRIVATE KEY") {
            return;
        }
        let long = text.lines().filter(|line| line.len() > PIECE);
        self.0.extend(long.map(|line| line[..PIECE].to_owned()));
        let encoded = STANDARD.encode(text);
        let middle = encoded.len() / 2;
        let piece = encoded.get(middle..middle + PIECE);
        self.0.extend(piece.map(str::to_owned));
    }

    /// Searches all of it.
    pub fn check(&self, cluster: &Cluster<'_>) -> Result<()> {
        ensure!(self.0.len() > 10, "only {} needles", self.0.len());
        let stage = &cluster.site.stage;
        let all = |kubectl: &dyn Fn(&[&str]) -> Result<String>| -> Result<String> {
            let kinds = kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
            let kinds: Vec<&str> = kinds.lines().filter(|kind| *kind != "secrets").collect();
            ensure!(kinds.contains(&"configmaps"), "{kinds:?}");
            kubectl(&["get", &kinds.join(","), "-A", "-o", "json"])
        };
        let secrets = "jsonpath={.items[*].metadata}";
        let mut places = vec![
            ("the seed", all(&|arguments| stage.kubectl(arguments))?),
            ("the target", all(&|arguments| cluster.kubectl(arguments))?),
            (
                "the metadata of Secrets",
                stage.kubectl(&["get", "secrets", "-A", "-o", secrets])?,
            ),
        ];
        for process in process::recorded(&stage.state)? {
            if process.name.starts_with("seedbed-") {
                let log = std::fs::read(stage.state.log(&process.name))?;
                places.push(("an operator's log", String::from_utf8_lossy(&log).into()));
            }
        }
        ensure!(places.len() > 3, "no operator's log");
        for (place, text) in &places {
            ensure!(text.len() > 100, "{place} is empty: nothing was looked at");
            ensure!(!text.contains("PRIVATE KEY"), "{place} tells a key");
            // Not the text itself: this goes to logs as well.
            let told = self.0.iter().any(|needle| text.contains(needle));
            ensure!(!told, "{place} tells a token or a key");
        }
        let bytes: usize = places.iter().map(|(_, text)| text.len()).sum();
        let found = format!(
            "{} needles in {} places of {bytes} bytes: none found",
            self.0.len(),
            places.len()
        );
        tell(&cluster.name, &found);
        Ok(())
    }
}
