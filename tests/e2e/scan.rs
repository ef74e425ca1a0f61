//! Looks for tokens and private keys in everything but the Secrets that hold them: every object of
//! the seed and of the target, every log, and what lies on the workers' disks.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::site::tell;
use crate::testbed::machine::Machine;
use crate::user_data;

/// Characters of a key that are looked for.
const PIECE: usize = 40;
/// Characters of a token's secret half in base64 that do not depend on what follows.
const ENCODED_TOKEN: usize = 20;
/// Where a worker's files may come to lie: what is rendered, and what is written by those that read
/// it.
const WORKER_FOLDERS: &[&str] = &[
    "/etc",
    "/root",
    "/tmp",
    "/var/lib/cloud",
    "/var/lib/kubelet",
];
/// cloud-init keeps the user data that it was given, token included, for root alone.
const OF_CLOUD_INIT: &str = "/var/lib/cloud/";
/// Written by the testbed, as by a provider.
const SEED_OF_CLOUD_INIT: &str = "/var/lib/cloud/seed/";
/// The kubelet's own keys, which it made itself.
const OF_KUBELET: &str = "/var/lib/kubelet/pki/";
/// The one file that has a token, until the kubelet has its certificate.
const BOOTSTRAP: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
/// Units whose journals are read as text: a journal's file may be compressed.
const UNITS: &[&str] = &[
    "cloud-init-local",
    "cloud-init",
    "cloud-config",
    "cloud-final",
    "kubelet",
    "containerd",
];

/// The secret halves of tokens, and pieces of keys.
#[derive(Default)]
pub struct Needles {
    tokens: BTreeSet<String>,
    keys: BTreeSet<String>,
}

/// What was looked at.
#[derive(Default)]
struct Seen {
    places: usize,
    bytes: usize,
}

impl Needles {
    /// Remembers every token and key that is stored now, in the seed and in the target, and checks
    /// what workers are given. A credential is gone after its use: so this is asked more than once.
    pub fn gather(&mut self, cluster: &Cluster<'_>) -> Result<()> {
        let get = ["get", "secrets", "-A", "-o", "json"];
        for list in [cluster.site.stage.kubectl(&get)?, cluster.kubectl(&get)?] {
            let list: Value = serde_json::from_str(&list)?;
            let secrets = list["items"].as_array().context("no list of Secrets")?;
            for secret in secrets {
                self.secret(secret)?;
            }
            for secret in secrets {
                self.given_to_a_worker(secret)?;
            }
        }
        Ok(())
    }

    fn secret(&mut self, secret: &Value) -> Result<()> {
        for (key, value) in secret["data"].as_object().into_iter().flatten() {
            let bytes = STANDARD.decode(value.as_str().unwrap_or_default())?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if key == "token-secret" {
                let encoded = STANDARD.encode(&text);
                self.tokens
                    .extend(encoded.get(..ENCODED_TOKEN).map(str::to_owned));
                self.tokens.insert(text);
            } else if text.contains("PRIVATE KEY") {
                let long = text.lines().filter(|line| line.len() > PIECE);
                self.keys.extend(long.map(|line| line[..PIECE].to_owned()));
                let encoded = STANDARD.encode(text);
                let middle = encoded.len() / 2;
                let piece = encoded.get(middle..middle + PIECE);
                self.keys.extend(piece.map(str::to_owned));
            }
        }
        Ok(())
    }

    /// No CA's key and no other: the one credential is the token, in the one file that is for it.
    fn given_to_a_worker(&self, secret: &Value) -> Result<()> {
        let name = &secret["metadata"]["name"];
        if !secret["metadata"]["labels"]["seedbed.dev/node-pool"].is_string() {
            return Ok(());
        }
        let Some(value) = secret["data"]["value"].as_str() else {
            return Ok(());
        };
        let given = user_data::parse(&STANDARD.decode(value)?);
        for file in &given.write_files {
            let text = String::from_utf8_lossy(&file.bytes()).into_owned();
            let path = &file.path;
            ensure!(
                !self.has_key(&text),
                "{name} gives a worker a key in {path}"
            );
            let token = path != BOOTSTRAP && self.has_token(&text);
            ensure!(!token, "{name} gives a worker a token in {path}");
        }
        let commands = format!("{:?} {:?}", given.bootcmd, given.runcmd);
        let told = self.has_key(&commands) || self.has_token(&commands);
        ensure!(!told, "{name} has a credential in a command");
        Ok(())
    }

    fn has_key(&self, text: &str) -> bool {
        text.contains("PRIVATE KEY") || self.keys.iter().any(|needle| text.contains(needle))
    }

    fn has_token(&self, text: &str) -> bool {
        self.tokens.iter().any(|needle| text.contains(needle))
    }

    /// Searches all of it.
    pub fn check(
        &self,
        cluster: &Cluster<'_>,
        control_plane: &[Arc<Machine>],
        workers: &[&Arc<Machine>],
    ) -> Result<()> {
        ensure!(self.tokens.len() > 8, "only {} tokens", self.tokens.len());
        ensure!(self.keys.len() > 20, "only {} keys", self.keys.len());
        let mut seen = Seen::default();
        self.objects(cluster, &mut seen)?;
        let logs = cluster.site.stage.state.join("logs");
        let operators = seen.places;
        self.folder(&logs, &mut seen, &|_, text| self.told(text))?;
        ensure!(seen.places > operators, "no logs");
        for machine in control_plane.iter().chain(workers.iter().copied()) {
            let name = machine.name();
            let of_this = seen.bytes;
            let about = || format!("on {name}");
            let log = machine.file("/var/log");
            self.folder(&log, &mut seen, &|_, text| self.told(text))
                .with_context(about)?;
            for unit in UNITS {
                self.place(
                    &format!("journal of {unit}"),
                    &machine.journal(unit)?,
                    &mut seen,
                )
                .with_context(about)?;
            }
            ensure!(seen.bytes > of_this, "nothing was looked at on {name}");
        }
        for worker in workers {
            self.disk(worker, &mut seen)
                .with_context(|| format!("on {}", worker.name()))?;
        }
        let found = format!(
            "{} tokens and {} pieces of keys in {} places of {} bytes: none found",
            self.tokens.len(),
            self.keys.len(),
            seen.places,
            seen.bytes
        );
        tell(&cluster.name, &found);
        Ok(())
    }

    /// Every object that is not a Secret, and the metadata of those.
    fn objects(&self, cluster: &Cluster<'_>, seen: &mut Seen) -> Result<()> {
        let stage = &cluster.site.stage;
        let all = |kubectl: &dyn Fn(&[&str]) -> Result<String>| -> Result<String> {
            let kinds = kubectl(&["api-resources", "--verbs=list", "-o", "name"])?;
            let kinds: Vec<&str> = kinds.lines().filter(|kind| *kind != "secrets").collect();
            ensure!(kinds.contains(&"configmaps"), "{kinds:?}");
            kubectl(&["get", &kinds.join(","), "-A", "-o", "json"])
        };
        let secrets = "jsonpath={.items[*].metadata}";
        let secrets = ["get", "secrets", "-A", "-o", secrets];
        for (place, text) in [
            ("the seed", all(&|arguments| stage.kubectl(arguments))?),
            ("the target", all(&|arguments| cluster.kubectl(arguments))?),
            ("Secrets' metadata in the seed", stage.kubectl(&secrets)?),
            (
                "Secrets' metadata in the target",
                cluster.kubectl(&secrets)?,
            ),
        ] {
            ensure!(text.len() > 100, "{place} is empty: nothing was looked at");
            self.place(place, &text, seen)?;
        }
        Ok(())
    }

    fn place(&self, place: &str, text: &str, seen: &mut Seen) -> Result<()> {
        seen.places += 1;
        seen.bytes += text.len();
        // Not the text itself: this goes to logs as well.
        self.told(text).with_context(|| place.to_owned())
    }

    fn told(&self, text: &str) -> Result<()> {
        ensure!(!self.has_key(text), "tells a key");
        ensure!(!self.has_token(text), "tells a token");
        Ok(())
    }

    /// What was rendered to a worker, and whatever was made of it there.
    fn disk(&self, worker: &Machine, seen: &mut Seen) -> Result<()> {
        let root = worker.file("/");
        for folder in WORKER_FOLDERS {
            self.folder(&worker.file(folder), seen, &|file, text| {
                let path = Path::new("/").join(file.strip_prefix(&root)?);
                let path = path.to_string_lossy();
                let stored = self.keys.iter().any(|needle| text.contains(needle));
                ensure!(!stored, "holds a key that is stored elsewhere");
                let own = path.starts_with(OF_KUBELET);
                ensure!(own || !text.contains("PRIVATE KEY"), "holds a key");
                if self.has_token(text) {
                    ensure!(path.starts_with(OF_CLOUD_INIT), "holds a token");
                    let mode = fs::metadata(file)?.permissions().mode();
                    let closed = mode & 0o077 == 0 || path.starts_with(SEED_OF_CLOUD_INIT);
                    ensure!(closed, "lets others read a token: mode {mode:o}");
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Every file below a folder; links are not followed.
    fn folder(
        &self,
        folder: &Path,
        seen: &mut Seen,
        check: &dyn Fn(&Path, &str) -> Result<()>,
    ) -> Result<()> {
        for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                self.folder(&path, seen, check)?;
            } else if kind.is_file() {
                // One that goes while it is looked for is nobody's to read any more.
                let Ok(bytes) = fs::read(&path) else { continue };
                seen.places += 1;
                seen.bytes += bytes.len();
                check(&path, &String::from_utf8_lossy(&bytes))
                    .with_context(|| path.display().to_string())?;
            }
        }
        Ok(())
    }
}
