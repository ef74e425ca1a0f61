//! Every version of the objects of one kind, as a watch sees them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::StreamExt;
use kube::Api;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::site::Site;
use crate::testbed::netns;
use crate::testbed::stage::{NAMESPACE, wait};

/// A watch on a thread of its own, until it is dropped.
pub struct Watch {
    versions: Arc<Mutex<Vec<Value>>>,
    stop: CancellationToken,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    /// Begins; returns once the watch stands.
    pub fn begin(site: &Site, group: &str, version: &str, kind: &str) -> Result<Self> {
        let gvk = kube::core::GroupVersionKind::gvk(group, version, kind);
        let (versions, stop) = (
            Arc::<Mutex<Vec<Value>>>::default(),
            CancellationToken::new(),
        );
        let standing = CancellationToken::new();
        let access = (*site.stage.seed).clone();
        let netns = access.netns().context("the seed has a netns")?.to_owned();
        let (noted, until, up) = (Arc::clone(&versions), stop.clone(), standing.clone());
        let thread = std::thread::spawn(move || {
            let ended = netns::inside(&netns, || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()?;
                runtime.block_on(async {
                    let client = access.client().await?;
                    let resource = ApiResource::from_gvk(&gvk);
                    let api: Api<DynamicObject> =
                        Api::namespaced_with(client, NAMESPACE, &resource);
                    let mut events =
                        std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
                    while let Some(Some(event)) = until.run_until_cancelled(events.next()).await {
                        match event {
                            Ok(watcher::Event::InitDone) => up.cancel(),
                            Ok(
                                watcher::Event::Apply(object) | watcher::Event::InitApply(object),
                            ) => noted
                                .lock()
                                .unwrap_or_else(PoisonError::into_inner)
                                .push(serde_json::to_value(object)?),
                            // It begins again by itself.
                            Ok(_) | Err(_) => {}
                        }
                    }
                    Ok(())
                })
            });
            if let Err(error) = ended {
                crate::testbed::progress::say(&format!("a watch ended: {error:#}"));
            }
        });
        let watch = Self {
            versions,
            stop,
            thread: Some(thread),
        };
        wait(Duration::from_secs(60), || {
            if !standing.is_cancelled() {
                bail!("the watch of {kind} does not begin");
            }
            Ok(())
        })?;
        Ok(watch)
    }

    /// The newest that it has seen of an object.
    pub fn newest(&self, name: &str) -> Option<Value> {
        let all = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = all.iter().rev();
        found
            .find(|object| object["metadata"]["name"] == name)
            .cloned()
    }

    /// What it has seen of an object, each version once.
    pub fn versions_of(&self, name: &str) -> Vec<Value> {
        let all = self.versions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found: Vec<Value> = Vec::new();
        for version in all
            .iter()
            .filter(|object| object["metadata"]["name"] == name)
        {
            // After an interruption, the first answer repeats what is known.
            let number = &version["metadata"]["resourceVersion"];
            if !found
                .iter()
                .any(|seen| &seen["metadata"]["resourceVersion"] == number)
            {
                found.push(version.clone());
            }
        }
        found
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.thread.take() {
            // Its panic has been printed.
            let _ = thread.join();
        }
    }
}
