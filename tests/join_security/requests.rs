//! Certificate signing requests, as kubelets and others write them.

use anyhow::{Context, Result, bail};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::api::PostParams;
use kube::{Api, Client, ResourceExt};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
use serde_json::json;

use super::field::Field;
use super::operator_ground::until_or;

/// What is asked for. `Default`-like: [`Ask::kubelet`].
#[derive(Clone)]
pub struct Ask {
    pub signer: String,
    pub usages: Vec<&'static str>,
    pub subject: Vec<(DnType, String)>,
    pub names: Vec<SanType>,
    /// Instead of a well-formed request.
    pub pem: Option<Vec<u8>>,
}

impl Ask {
    /// What a kubelet of this Node asks for.
    pub fn kubelet(node: &str) -> Self {
        Self {
            signer: "kubernetes.io/kube-apiserver-client-kubelet".to_owned(),
            usages: vec!["digital signature", "client auth"],
            subject: vec![
                (DnType::OrganizationName, "system:nodes".to_owned()),
                (DnType::CommonName, format!("system:node:{node}")),
            ],
            names: Vec::new(),
            pem: None,
        }
    }

    /// Sends it; returns the name of the request.
    pub async fn send(&self, client: &Client) -> Result<String> {
        let mut request: CertificateSigningRequest = serde_json::from_value(json!({
            "metadata": {"generateName": "csr-"},
            "spec": {"signerName": self.signer, "usages": self.usages, "request": ""},
        }))?;
        request.spec.request = ByteString(match &self.pem {
            Some(pem) => pem.clone(),
            None => self.encoded()?,
        });
        let api: Api<CertificateSigningRequest> = Api::all(client.clone());
        let made = api.create(&PostParams::default(), &request).await?;
        Ok(made.name_any())
    }

    fn encoded(&self) -> Result<Vec<u8>> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in &self.subject {
            params.distinguished_name.push(kind.clone(), value.clone());
        }
        params.subject_alt_names = self.names.clone();
        let request = params.serialize_request(&KeyPair::generate()?)?;
        Ok(request.pem()?.into_bytes())
    }
}

/// How a request was answered.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Approved, and the certificate is there.
    Issued,
    Denied {
        reason: String,
        message: String,
    },
}

/// Waits for the answer to a request.
pub async fn answer(field: &Field<'_>, name: &str) -> Result<Answer> {
    let api: Api<CertificateSigningRequest> = Api::all(field.space.client.clone());
    until_or(
        &format!("the answer to {name}"),
        async || {
            let status = api.get(name).await?.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            if let Some(denied) = conditions.iter().find(|c| c.type_ == "Denied") {
                return Ok(Some(Answer::Denied {
                    reason: denied.reason.clone().unwrap_or_default(),
                    message: denied.message.clone().unwrap_or_default(),
                }));
            }
            Ok(status.certificate.map(|_| Answer::Issued))
        },
        async || Ok(format!("{:#?}", api.get(name).await?.status)),
    )
    .await
}

/// Asks as the kubelet of a machine does, with its token, and gets its certificate.
pub async fn join(field: &Field<'_>, node: &str, token: &str) -> Result<()> {
    let client = field.client_with(token).await?;
    let name = Ask::kubelet(node).send(&client).await?;
    match answer(field, &name).await? {
        Answer::Issued => field.register(node).await,
        Answer::Denied { reason, message } => bail!("{node} is refused: {reason}: {message}"),
    }
}

/// Whether the API server knows nobody with this token.
pub async fn is_unauthorized(field: &Field<'_>, token: &str) -> Result<bool> {
    let client = field.client_with(token).await?;
    let error = Ask::kubelet("replayed").send(&client).await.err();
    let error = error.context("a request was taken")?;
    let unauthorized = error.chain().any(|cause| {
        let error = cause.downcast_ref::<kube::Error>();
        error.is_some_and(|error| matches!(error, kube::Error::Api(status) if status.code == 401))
    });
    Ok(unauthorized)
}
