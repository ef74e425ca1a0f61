//! The verdict of kstatus (cli-utils `pkg/kstatus/status/generic.go`), by which Flux, Argo CD's
//! generic checks, `kubectl wait` scripts and Helm's `--wait` judge custom resources.

use serde_json::Value;

/// What such a tool says of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Terminating,
    InProgress,
    Failed,
    Current,
}

/// The rule, in its order.
pub fn verdict(object: &Value) -> Verdict {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Verdict::Terminating;
    }
    let status = &object["status"];
    if let Some(observed) = status["observedGeneration"].as_i64()
        && Some(observed) != object["metadata"]["generation"].as_i64()
    {
        return Verdict::InProgress;
    }
    let state = |wanted: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions
            .filter(|condition| condition["type"] == wanted)
            .find_map(|condition| condition["status"].as_str())
    };
    match (state("Reconciling"), state("Stalled"), state("Ready")) {
        (Some("True"), _, _) => Verdict::InProgress,
        (_, Some("True"), _) => Verdict::Failed,
        (_, _, Some("False" | "Unknown")) => Verdict::InProgress,
        _ => Verdict::Current,
    }
}
