//! Certificate signing requests in the target: seen and answered.

use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::FIELD_MANAGER;
use super::client::CALL_DEADLINE;
use crate::kube_ext::apply::{CallError, within};
use crate::tokens::Refusal;
use crate::tokens::request::Request;

/// Reason of the `Approved` condition.
pub const APPROVED: &str = "NodePoolMachine";

/// Every request that is not decided yet.
pub async fn undecided_requests(client: &Client) -> Result<Vec<Request>, CallError> {
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let all = within(CALL_DEADLINE, api.list(&ListParams::default())).await?;
    let requests = all.items.into_iter().map(Request::from);
    Ok(requests.filter(|request| !request.decided).collect())
}

/// Approves a request (`Ok`, with a sentence for people) or denies it, exactly as it was read.
pub async fn answer_request(
    client: &Client,
    request: &Request,
    answer: Result<&str, Refusal>,
) -> Result<(), CallError> {
    let (kind, reason, message) = match answer {
        Ok(text) => ("Approved", APPROVED, text),
        Err(refusal) => ("Denied", refusal.as_str(), refusal.text()),
    };
    let patch = json!({
        "metadata": {"resourceVersion": request.resource_version, "uid": request.uid},
        "status": {"conditions": [{
            "type": kind, "status": "True", "reason": reason, "message": message,
        }]},
    });
    let params = PatchParams {
        field_manager: Some(FIELD_MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let api: Api<CertificateSigningRequest> = Api::all(client.clone());
    let patch = Patch::Merge(patch);
    let patched = api.patch_approval(&request.name, &params, &patch);
    within(CALL_DEADLINE, patched).await.map(drop)
}
