//! Whether the request of a machine that wants to join is granted. Pure.
//!
//! The checks are those of Kubernetes' own approver for kubelets' client certificates
//! (`ValidateKubeletClientCSR`), the name of the machine that the token was made for, and a few
//! that keep a certificate from saying more than it should.

use std::collections::BTreeSet;
use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rustls::pki_types::CertificateSigningRequestDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension};
use x509_parser::public_key::PublicKey;
use x509_parser::x509::AttributeTypeAndValue;

use super::format::{NODE_POOL_GROUP, id_of_user};
use super::refusal::Refusal;

/// Signer of kubelets' client certificates.
pub const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client-kubelet";
/// Organization of kubelets' certificates, and their group.
pub const NODES: &str = "system:nodes";
const NODE_USER: &str = "system:node:";
const BOOTSTRAPPERS: &str = "system:bootstrappers";
pub(super) const AUTHENTICATED: &str = "system:authenticated";

/// A request as the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub name: String,
    pub uid: String,
    pub resource_version: String,
    pub signer: String,
    pub username: String,
    pub groups: BTreeSet<String>,
    pub usages: BTreeSet<String>,
    /// PEM.
    pub request: Vec<u8>,
    /// Approved, denied or failed.
    pub decided: bool,
}

impl From<CertificateSigningRequest> for Request {
    fn from(found: CertificateSigningRequest) -> Self {
        let spec = found.spec;
        let conditions = found.status.and_then(|status| status.conditions);
        let decisions = ["Approved", "Denied", "Failed"];
        Self {
            name: found.metadata.name.unwrap_or_default(),
            uid: found.metadata.uid.unwrap_or_default(),
            resource_version: found.metadata.resource_version.unwrap_or_default(),
            signer: spec.signer_name,
            username: spec.username.unwrap_or_default(),
            groups: spec.groups.into_iter().flatten().collect(),
            usages: spec.usages.into_iter().flatten().collect(),
            request: spec.request.0,
            decided: conditions
                .into_iter()
                .flatten()
                .any(|condition| decisions.contains(&condition.type_.as_str())),
        }
    }
}

impl Request {
    /// The id of the bootstrap token that it was made with.
    pub fn token_id(&self) -> Option<&str> {
        id_of_user(&self.username)
    }

    /// Whether a node pool's token made it, by its groups.
    pub fn is_of_node_pools(&self) -> bool {
        self.groups.contains(NODE_POOL_GROUP)
    }
}

/// The name of the Node that a request asks for, if everything but the name is as it has to be.
///
/// # Errors
/// The first thing that is wrong.
pub fn node_asked_for(request: &Request) -> Result<String, Refusal> {
    if request.signer != CLIENT_SIGNER {
        return Err(Refusal::WrongSigner);
    }
    let groups = [AUTHENTICATED, BOOTSTRAPPERS, NODE_POOL_GROUP];
    if !request.groups.iter().eq(groups) {
        return Err(Refusal::WrongGroups);
    }
    usages(request, "client auth")?;
    let content = content(&request.request)?;
    if content.alternative_names {
        return Err(Refusal::AlternativeNames);
    }
    if content.other_extensions {
        return Err(Refusal::Extensions);
    }
    Ok(content.node)
}

/// `digital signature` and `usage`, with `key encipherment` or without, as kubelets ask for RSA and
/// other keys.
pub(super) fn usages(request: &Request, usage: &str) -> Result<(), Refusal> {
    let without: BTreeSet<&str> = BTreeSet::from(["digital signature", usage]);
    let mut asked: BTreeSet<&str> = request.usages.iter().map(String::as_str).collect();
    asked.remove("key encipherment");
    if asked == without {
        Ok(())
    } else {
        Err(Refusal::WrongUsages)
    }
}

/// What a PKCS#10 request says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Content {
    pub node: String,
    pub alternative_names: bool,
    pub dns_names: Vec<String>,
    pub addresses: Vec<IpAddr>,
    /// Alternative names that are neither, or extensions beside them.
    pub other_extensions: bool,
}

/// Parses a request and checks its signature, its key and the form of its subject.
pub(super) fn content(pem: &[u8]) -> Result<Content, Refusal> {
    let mut all = CertificateSigningRequestDer::pem_slice_iter(pem);
    let (Some(Ok(der)), None) = (all.next(), all.next()) else {
        return Err(Refusal::Unreadable);
    };
    let (rest, parsed) =
        X509CertificationRequest::from_der(&der).map_err(|_| Refusal::Unreadable)?;
    if !rest.is_empty() {
        return Err(Refusal::Unreadable);
    }
    key(&parsed)?;
    parsed
        .verify_signature()
        .map_err(|_| Refusal::WrongSignature)?;
    let mut content = Content {
        node: node(&parsed)?,
        ..Content::default()
    };
    for attribute in parsed.certification_request_info.iter_attributes() {
        match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(asked) => {
                for extension in &asked.extensions {
                    names(extension.parsed_extension(), &mut content);
                }
            }
            _ => content.other_extensions = true,
        }
    }
    Ok(content)
}

fn names(extension: &ParsedExtension<'_>, content: &mut Content) {
    let ParsedExtension::SubjectAlternativeName(names) = extension else {
        content.other_extensions = true;
        return;
    };
    content.alternative_names = true;
    for name in &names.general_names {
        match name {
            GeneralName::DNSName(name) => content.dns_names.push((*name).to_owned()),
            GeneralName::IPAddress(bytes) => match address(bytes) {
                Some(address) => content.addresses.push(address),
                None => content.other_extensions = true,
            },
            _ => content.other_extensions = true,
        }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes)
        .map(IpAddr::from)
        .or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from))
        .ok()
}

fn key(request: &X509CertificationRequest<'_>) -> Result<(), Refusal> {
    let key = &request.certification_request_info.subject_pki;
    let good = match key.parsed() {
        Ok(PublicKey::RSA(key)) => (2048..=8192).contains(&key.key_size()),
        Ok(PublicKey::EC(point)) => [256, 384].contains(&point.key_size()),
        _ => false,
    };
    good.then_some(()).ok_or(Refusal::WrongKey)
}

/// `O=system:nodes, CN=system:node:<name>` and nothing else.
fn node(request: &X509CertificationRequest<'_>) -> Result<String, Refusal> {
    let subject = &request.certification_request_info.subject;
    let organizations = texts(subject.iter_organization())?;
    let common_names = texts(subject.iter_common_name())?;
    let ([NODES], [name], 2) = (
        &organizations[..],
        &common_names[..],
        subject.iter_attributes().count(),
    ) else {
        return Err(Refusal::WrongSubject);
    };
    let name = name.strip_prefix(NODE_USER).ok_or(Refusal::WrongSubject)?;
    name.parse::<crate::domain::NodeName>()
        .map(|name| name.to_string())
        .map_err(|_| Refusal::WrongSubject)
}

fn texts<'a>(
    attributes: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>,
) -> Result<Vec<&'a str>, Refusal> {
    attributes
        .map(|attribute| attribute.as_str().map_err(|_| Refusal::WrongSubject))
        .collect()
}

/// What is known of the token of a request, for [`judge_listed`] and [`judge_open`].
#[derive(Clone, Copy, Debug)]
pub struct Bearer<'a> {
    /// When the target's token expires; `None`: it is not there.
    pub expires: Option<Timestamp>,
    pub now: Timestamp,
    /// The request that this token, or this name, was granted.
    pub granted: Option<&'a super::Approval>,
}

impl Bearer<'_> {
    fn check(&self, request: &Request) -> Result<(), Refusal> {
        if self.expires.is_none_or(|expires| expires <= self.now) {
            return Err(Refusal::TokenExpired);
        }
        match self.granted {
            Some(granted) if granted.uid != request.uid => Err(Refusal::SecondUse),
            _ => Ok(()),
        }
    }
}

/// Judges a request that was made with the token of a listed machine.
pub fn judge_listed(
    request: &Request,
    bearer: Bearer<'_>,
    machine: &str,
    node_exists: bool,
    wanted: bool,
) -> Result<String, Refusal> {
    let node = node_asked_for(request)?;
    if node != machine {
        return Err(Refusal::OtherMachine);
    }
    if !wanted {
        return Err(Refusal::NotWanted);
    }
    bearer.check(request)?;
    if node_exists {
        return Err(Refusal::NodeExists);
    }
    Ok(node)
}

/// What an open pool knows of the Node that a request asks for.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenPlace {
    pub node_exists: bool,
    /// A control-plane machine or a listed machine has this name.
    pub name_taken: bool,
    /// Nodes that the pool may still take in.
    pub free: usize,
    /// The pool goes away.
    pub closed: bool,
}

/// Judges a request that was made with the shared token of an open pool; `node` is what
/// [`node_asked_for`] found.
pub fn judge_open(
    request: &Request,
    bearer: Bearer<'_>,
    place: OpenPlace,
) -> Result<String, Refusal> {
    let node = node_asked_for(request)?;
    if place.closed {
        return Err(Refusal::NotWanted);
    }
    if place.name_taken {
        return Err(Refusal::NameTaken);
    }
    // Before the token: what was granted to a Node is forgotten some time after it has come.
    if place.node_exists {
        return Err(Refusal::NodeExists);
    }
    bearer.check(request)?;
    if place.free == 0 && bearer.granted.is_none() {
        return Err(Refusal::PoolFull);
    }
    Ok(node)
}

#[cfg(test)]
mod tests;
