//! What the seed's API server was asked, and by whom, from its audit log
//! (`seed::Options::audit_log`).
#![allow(
    dead_code,
    reason = "every test that includes this module uses a part of it"
)]

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// A reader of one audit log.
#[derive(Clone)]
pub struct Audit(PathBuf);

/// One request that was answered; of a watch, that it began.
#[derive(Clone, Debug)]
pub struct Request {
    /// `system:serviceaccount:<namespace>:<name>` for a service account.
    pub user: String,
    pub user_agent: String,
    /// As RBAC spells it: `list`, `patch`, …
    pub verb: String,
    pub group: String,
    /// Plural, with the subresource after a slash.
    pub resource: String,
    pub namespace: String,
    /// Empty when the server chose it, or for a list.
    pub name: String,
    /// HTTP status of the answer.
    pub code: u16,
    pub received: Timestamp,
    pub answered: Timestamp,
}

impl Audit {
    pub fn new(file: &Path) -> Self {
        Self(file.to_owned())
    }

    /// Every request so far, in the order of their answers.
    pub fn requests(&self) -> Result<Vec<Request>> {
        let text = std::fs::read_to_string(&self.0)
            .with_context(|| format!("cannot read {}", self.0.display()))?;
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse = |line: &str| -> Result<Option<Request>> {
            let event: Event = serde_json::from_str(line).with_context(|| line.to_owned())?;
            Ok(event.request())
        };
        whole.lines().filter_map(|l| parse(l).transpose()).collect()
    }

    /// Those requests of a user in a namespace that change something there, refused ones included:
    /// without leases, and without questions asked by `create` (access reviews).
    pub fn writes(&self, user: &str, namespace: &str) -> Result<Vec<Request>> {
        let mut requests = self.requests()?;
        requests.retain(|r| r.user == user && r.namespace == namespace && r.changes());
        Ok(requests)
    }
}

impl Request {
    /// Whether it changes, or would have changed, something but a lease.
    pub fn changes(&self) -> bool {
        let writes = ["create", "update", "patch", "delete", "deletecollection"];
        let apart = ["authorization.k8s.io", "coordination.k8s.io"];
        writes.contains(&self.verb.as_str()) && !apart.contains(&self.group.as_str())
    }
}

// audit.k8s.io/v1 Event.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ObjectRef {
    resource: String,
    namespace: String,
    name: String,
    api_group: String,
    subresource: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl Event {
    /// `None` for the end of a watch, whose beginning has been told.
    fn request(self) -> Option<Request> {
        if self.verb == "watch" && self.stage != "ResponseStarted" {
            return None;
        }
        let object = self.object_ref.unwrap_or_default();
        let slash = if object.subresource.is_empty() {
            ""
        } else {
            "/"
        };
        Some(Request {
            user: self.user.username,
            user_agent: self.user_agent,
            verb: self.verb,
            group: object.api_group,
            resource: format!("{}{slash}{}", object.resource, object.subresource),
            namespace: object.namespace,
            name: object.name,
            code: self.response_status.map_or(0, |status| status.code),
            received: self.request_received_timestamp,
            answered: self.stage_timestamp,
        })
    }
}
