//! Stored Secrets as certificates and keys, and back.
//!
//! Reading checks what time and spec do not change: the halves of a pair, the chain to the CA.
//! Whether a certificate is still the right one is `policy`'s question.

mod kubeconfig;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::ByteString;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use zeroize::Zeroizing;

pub use self::kubeconfig::kubeconfig_client;
use super::certificate::{Certificate, is_public_half};
use super::key::{KeyError, PrivateKey};
use super::problem::{Defect, PkiProblem};
use super::secret_names::{self, CA_CERTIFICATE, CERTIFICATE, PRIVATE_KEY, VALUE};
use super::{Ca, ClusterPki, KeyPair, Leaf, MachinePki, ServiceAccountKeys};
use crate::domain::{Machine, NodeName};

/// Data of a Secret. Never print it.
pub type SecretData = BTreeMap<String, ByteString>;

/// CAs that sign.
pub type Signers = BTreeMap<Ca, KeyPair>;

/// Data of the Secrets that exist, as read live. A Secret that does not exist is left out.
#[derive(Clone, Default)]
pub struct Secrets {
    pub cas: BTreeMap<Ca, SecretData>,
    pub service_account: Option<SecretData>,
    /// By machine.
    pub machines: BTreeMap<NodeName, SecretData>,
    /// The administrators' kubeconfig.
    pub kubeconfig: Option<SecretData>,
    /// Secret of etcd's CA where that is another object's.
    pub etcd_ca_secret: Option<String>,
}

/// A pair and what its certificate says.
#[derive(Clone)]
pub struct Stored {
    pub pair: KeyPair,
    pub certificate: Certificate,
    /// The stored CAs that have signed it.
    pub(super) signers: Vec<Ca>,
    /// Secret and key of its data that hold the certificate.
    pub(super) secret: String,
    pub(super) key: String,
}

/// Everything stored for a control plane or an EtcdCluster. A missing entry is a missing Secret (CAs,
/// service-account keys) or a missing pair of keys in one (leaves).
#[derive(Clone, Debug)]
pub struct PkiState {
    /// Name of the object, the prefix of every Secret.
    pub name: String,
    etcd_ca_secret: Option<String>,
    pub cas: BTreeMap<Ca, Result<Stored, PkiProblem>>,
    pub service_account: Option<Result<ServiceAccountKeys, PkiProblem>>,
    pub leaves: BTreeMap<NodeName, BTreeMap<Leaf, Result<Stored, PkiProblem>>>,
    /// The client pair in the administrators' kubeconfig.
    pub cluster_admin: Option<Result<Stored, PkiProblem>>,
}

impl PkiState {
    /// Reads what is stored.
    pub fn read(control_plane: &str, secrets: &Secrets) -> Self {
        let etcd_ca_secret = secrets.etcd_ca_secret.clone();
        let secret_of = |id| ca_secret(control_plane, etcd_ca_secret.as_deref(), id);
        let cas: BTreeMap<_, _> = secrets
            .cas
            .iter()
            .map(|(id, data)| (*id, stored_ca(&secret_of(*id), data)))
            .collect();
        let leaves = secrets
            .machines
            .iter()
            .map(|(machine, data)| {
                let secret = secret_names::machine_certificates(control_plane, machine);
                (machine.clone(), stored_leaves(&secret, data, &cas))
            })
            .collect();
        let service_account = secrets
            .service_account
            .as_ref()
            .map(|data| self::service_account(&secret_names::service_account(control_plane), data));
        let cluster_admin = secrets
            .kubeconfig
            .as_ref()
            .map(|data| kubeconfig_client(&secret_names::kubeconfig(control_plane), data))
            .map(|stored| stored.map(|stored| stored.with_signers(&cas)));
        Self {
            name: control_plane.to_owned(),
            etcd_ca_secret,
            cas,
            service_account,
            leaves,
            cluster_admin,
        }
    }

    /// Secret of a CA.
    pub fn ca_secret(&self, ca: Ca) -> String {
        ca_secret(&self.name, self.etcd_ca_secret.as_deref(), ca)
    }

    /// The CAs that are stored and sound.
    pub fn signers(&self) -> Signers {
        let cas = self.cas.iter();
        cas.filter_map(|(ca, stored)| Some((*ca, stored.as_ref().ok()?.pair.clone())))
            .collect()
    }

    /// What all machines share; `None` while something is missing or defective. Whether an etcd CA
    /// has to be there is the plan's business.
    pub fn cluster(&self) -> Option<ClusterPki> {
        let ca = |id| Some(self.cas.get(&id)?.as_ref().ok()?.pair.clone());
        Some(ClusterPki {
            ca: ca(Ca::Cluster)?,
            etcd_ca: ca(Ca::Etcd),
            front_proxy_ca: ca(Ca::FrontProxy)?,
            service_account: self.service_account.as_ref()?.as_ref().ok()?.clone(),
        })
    }

    /// The leaves of `wanted` that a machine has; `None` while one is missing or defective. Leaves
    /// that are stored but not wanted (any more) are left out.
    pub fn machine<'a>(
        &self,
        machine: &NodeName,
        wanted: impl IntoIterator<Item = &'a Leaf>,
    ) -> Option<MachinePki> {
        let leaves = self.leaves.get(machine)?;
        wanted
            .into_iter()
            .map(|leaf| Some((*leaf, leaves.get(leaf)?.as_ref().ok()?.pair.clone())))
            .collect()
    }

    /// When each stored certificate expires, by `<Secret>/<key>`. Machines that no longer serve are
    /// left out.
    pub fn expiries(&self, machines: &[Machine]) -> BTreeMap<String, Timestamp> {
        let name = &self.name;
        let cas = self.cas.iter().filter_map(|(id, stored)| {
            let not_after = stored.as_ref().ok()?.certificate.not_after;
            let secret = self.ca_secret(*id);
            Some((format!("{secret}/{CERTIFICATE}"), not_after))
        });
        let leaves = machines
            .iter()
            .filter_map(|machine| self.leaves.get_key_value(&machine.name))
            .flat_map(|(machine, leaves)| {
                let secret = secret_names::machine_certificates(name, machine);
                leaves.iter().filter_map(move |(leaf, stored)| {
                    let not_after = stored.as_ref().ok()?.certificate.not_after;
                    let key = secret_names::leaf_certificate(*leaf);
                    Some((format!("{secret}/{key}"), not_after))
                })
            });
        let admin = self.cluster_admin.iter().filter_map(|stored| {
            let not_after = stored.as_ref().ok()?.certificate.not_after;
            let secret = secret_names::kubeconfig(name);
            Some((format!("{secret}/{VALUE}"), not_after))
        });
        cas.chain(leaves).chain(admin).collect()
    }
}

impl Stored {
    fn with_signers(self, cas: &BTreeMap<Ca, Result<Self, PkiProblem>>) -> Self {
        let signed = |ca: &&Result<Self, PkiProblem>| {
            let ca = ca.as_ref();
            ca.is_ok_and(|ca| self.certificate.is_signed_by(&ca.certificate))
        };
        let signers = cas.iter().filter(|(_, ca)| signed(ca));
        Self {
            signers: signers.map(|(id, _)| *id).collect(),
            ..self
        }
    }
}

fn ca_secret(name: &str, etcd: Option<&str>, ca: Ca) -> String {
    match (ca, etcd) {
        (Ca::Etcd, Some(secret)) => secret.to_owned(),
        _ => secret_names::ca(name, ca),
    }
}

/// What an API server shows to an etcd that Seedbed does not manage, as the user stored it: the CA's
/// certificate, and a client's pair of halves that belong together.
pub fn client_of_etcd(secret: &str, data: &SecretData) -> Result<(), PkiProblem> {
    let ca = text(secret, data, CA_CERTIFICATE, Defect::NotACertificate)?;
    if Certificate::bundle(ca.as_bytes()).is_none_or(|bundle| bundle.is_empty()) {
        return Err(problem(secret, CA_CERTIFICATE, Defect::NotACertificate));
    }
    stored_pair(secret, data, CERTIFICATE, PRIVATE_KEY).map(drop)
}

/// The CA of one Secret: ours, or one that a user brought, as a bundle or with a PKCS#8 key too.
/// The Secret may have any type, `kubernetes.io/tls` included.
pub fn ca(secret: &str, data: &SecretData) -> Result<KeyPair, PkiProblem> {
    stored_ca(secret, data).map(|stored| stored.pair)
}

fn stored_ca(secret: &str, data: &SecretData) -> Result<Stored, PkiProblem> {
    let at = |key: &str, defect| problem(secret, key, defect);
    if data.contains_key(CERTIFICATE) && !data.contains_key(PRIVATE_KEY) {
        return Err(at(PRIVATE_KEY, Defect::ExternalCa));
    }
    let stored = stored_pair(secret, data, CERTIFICATE, PRIVATE_KEY)?;
    if !stored.certificate.signs_certificates {
        return Err(at(CERTIFICATE, Defect::NotACa));
    }
    if !stored.certificate.subject_can_be_an_issuer() {
        return Err(at(CERTIFICATE, Defect::Subject));
    }
    Ok(stored)
}

/// The service-account keys of one Secret: `tls.crt` is the public key.
pub fn service_account(secret: &str, data: &SecretData) -> Result<ServiceAccountKeys, PkiProblem> {
    let at = |key: &str, defect| problem(secret, key, defect);
    let (private, private_pem) = private_key(secret, data, PRIVATE_KEY)?;
    let public = text(secret, data, CERTIFICATE, Defect::NotAPublicKey)?;
    let der = SubjectPublicKeyInfoDer::from_pem_slice(public.as_bytes())
        .map_err(|_| at(CERTIFICATE, Defect::NotAPublicKey))?;
    if !is_public_half(&der, &private) {
        return Err(at(CERTIFICATE, Defect::OtherPair(PRIVATE_KEY.to_owned())));
    }
    Ok(ServiceAccountKeys {
        public_pem: public.to_owned(),
        private_pem,
    })
}

fn stored_leaves(
    secret: &str,
    data: &SecretData,
    cas: &BTreeMap<Ca, Result<Stored, PkiProblem>>,
) -> BTreeMap<Leaf, Result<Stored, PkiProblem>> {
    Leaf::ALL
        .into_iter()
        .filter_map(|leaf| {
            let certificate = secret_names::leaf_certificate(leaf);
            let key = secret_names::leaf_key(leaf);
            (data.contains_key(&certificate) || data.contains_key(&key)).then(|| {
                let stored = stored_pair(secret, data, &certificate, &key);
                (leaf, stored.map(|stored| stored.with_signers(cas)))
            })
        })
        .collect()
}

fn stored_pair(
    secret: &str,
    data: &SecretData,
    certificate_key: &str,
    private_key_key: &str,
) -> Result<Stored, PkiProblem> {
    let at = |defect| problem(secret, certificate_key, defect);
    let pem = text(secret, data, certificate_key, Defect::NotACertificate)?;
    let bundle = Certificate::bundle(pem.as_bytes());
    let bundle = bundle.ok_or_else(|| at(Defect::NotACertificate))?;
    let (key, key_pem) = private_key(secret, data, private_key_key)?;
    let mut certificates = bundle.into_iter();
    let own = certificates.next();
    let certificate = own.ok_or_else(|| at(Defect::NotACertificate))?;
    if !certificate.belongs_to(&key) {
        let defect = if certificates.any(|other| other.belongs_to(&key)) {
            Defect::OwnCertificateNotFirst
        } else {
            Defect::OtherPair(private_key_key.to_owned())
        };
        return Err(at(defect));
    }
    Ok(Stored {
        pair: KeyPair {
            certificate_pem: pem.to_owned(),
            key_pem,
        },
        certificate,
        signers: Vec::new(),
        secret: secret.to_owned(),
        key: certificate_key.to_owned(),
    })
}

fn private_key(
    secret: &str,
    data: &SecretData,
    key: &str,
) -> Result<(PrivateKey, Zeroizing<String>), PkiProblem> {
    let pem = text(secret, data, key, KeyError::NotPem.into())?;
    let private =
        PrivateKey::from_pem(pem.as_bytes()).map_err(|error| problem(secret, key, error.into()))?;
    Ok((private, Zeroizing::new(pem.to_owned())))
}

fn text<'a>(
    secret: &str,
    data: &'a SecretData,
    key: &str,
    malformed: Defect,
) -> Result<&'a str, PkiProblem> {
    let bytes = data
        .get(key)
        .ok_or_else(|| problem(secret, key, Defect::MissingKey))?;
    std::str::from_utf8(&bytes.0).map_err(|_| problem(secret, key, malformed))
}

fn problem(secret: &str, key: &str, defect: Defect) -> PkiProblem {
    PkiProblem {
        secret: secret.to_owned(),
        key: key.to_owned(),
        defect,
    }
}

/// Data of a CA's Secret.
pub fn ca_data(pair: &KeyPair) -> SecretData {
    BTreeMap::from(pair_data(
        pair,
        CERTIFICATE.to_owned(),
        PRIVATE_KEY.to_owned(),
    ))
}

/// Data of the Secret of service-account keys.
pub fn service_account_data(keys: &ServiceAccountKeys) -> SecretData {
    let bytes = |pem: &str| ByteString(pem.as_bytes().to_vec());
    BTreeMap::from([
        (CERTIFICATE.to_owned(), bytes(&keys.public_pem)),
        (PRIVATE_KEY.to_owned(), bytes(&keys.private_pem)),
    ])
}

/// Data of the Secret of a machine's certificates.
pub fn machine_data(pki: &MachinePki) -> SecretData {
    pki.iter()
        .flat_map(|(leaf, pair)| {
            let certificate = secret_names::leaf_certificate(*leaf);
            pair_data(pair, certificate, secret_names::leaf_key(*leaf))
        })
        .collect()
}

fn pair_data(pair: &KeyPair, certificate: String, key: String) -> [(String, ByteString); 2] {
    let bytes = |pem: &str| ByteString(pem.as_bytes().to_vec());
    [
        (certificate, bytes(&pair.certificate_pem)),
        (key, bytes(&pair.key_pem)),
    ]
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(..)")
    }
}

impl fmt::Debug for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stored")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
