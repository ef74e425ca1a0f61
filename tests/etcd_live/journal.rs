//! Every version of the EtcdCluster of a scenario, written into its timeline.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use kube::Api;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::Value;

use crate::sight::Sight;

#[derive(Default)]
struct Noted {
    latest: Value,
    operations: Vec<Value>,
    decisions: Vec<String>,
}

/// A running watch; it ends when this is dropped.
pub struct Journal {
    noted: Arc<Mutex<Noted>>,
    task: tokio::task::JoinHandle<()>,
}

impl Journal {
    pub fn start(etcds: Api<DynamicObject>, sight: &Sight) -> Self {
        let noted = Arc::<Mutex<Noted>>::default();
        let (to, sight) = (Arc::clone(&noted), sight.clone());
        let task = tokio::spawn(async move {
            let watch = watcher(etcds, watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(watch);
            while let Some(event) = events.next().await {
                // After an error it begins again by itself.
                if let Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) = event
                {
                    let mut noted = to.lock().unwrap_or_else(PoisonError::into_inner);
                    noted.take_in(object.data["status"].clone(), &sight);
                }
            }
        });
        Self { noted, task }
    }

    fn lock(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The newest status.
    pub fn latest(&self) -> Value {
        self.lock().latest.clone()
    }

    /// Every operation that was ever recorded, each once.
    pub fn operations(&self) -> Vec<Value> {
        self.lock().operations.clone()
    }

    /// Those of a kind.
    pub fn operations_of(&self, kind: &str) -> usize {
        let operations = self.operations();
        operations
            .iter()
            .filter(|operation| operation["kind"] == kind)
            .count()
    }

    /// Status of a condition, and its reason and message.
    pub fn condition(&self, kind: &str) -> Option<(String, String)> {
        let noted = self.lock();
        let conditions = noted.latest["conditions"].as_array()?;
        let found = conditions
            .iter()
            .find(|condition| condition["type"] == kind)?;
        let text = |field: &str| found[field].as_str().unwrap_or_default();
        Some((
            text("status").to_owned(),
            format!("{}: {}", text("reason"), text("message")),
        ))
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Noted {
    fn take_in(&mut self, status: Value, sight: &Sight) {
        let before = std::mem::replace(&mut self.latest, status);
        let status = &self.latest;
        let operation = &status["pendingOperation"];
        if *operation != before["pendingOperation"] {
            sight.note(format!("operator: pending {operation}"));
        }
        let same = |old: &Value| {
            ["kind", "machine", "memberID", "startedAt"]
                .iter()
                .all(|field| old[*field] == operation[*field])
        };
        if !operation.is_null() && !self.operations.iter().any(same) {
            self.operations.push(operation.clone());
        }
        for condition in status["conditions"].as_array().into_iter().flatten() {
            let text = |condition: &Value| {
                format!(
                    "{}={} {}: {}",
                    condition["type"].as_str().unwrap_or_default(),
                    condition["status"].as_str().unwrap_or_default(),
                    condition["reason"].as_str().unwrap_or_default(),
                    condition["message"].as_str().unwrap_or_default()
                )
            };
            let old = before["conditions"].as_array().into_iter().flatten();
            let old = old.into_iter().find(|old| old["type"] == condition["type"]);
            if old.map(text).as_ref() != Some(&text(condition)) {
                sight.note(format!("operator: {}", text(condition)));
            }
        }
        for decision in status["decisions"].as_array().into_iter().flatten() {
            let text = decision.to_string();
            if !self.decisions.contains(&text) {
                sight.note(format!("operator: decision {text}"));
                self.decisions.push(text);
            }
        }
    }
}
