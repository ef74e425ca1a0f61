//! The client pair in the administrators' kubeconfig.

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use serde::Deserialize;

use super::{SecretData, Stored, problem, stored_pair, text};
use crate::pki::problem::{Defect, PkiProblem};
use crate::pki::secret_names::{CERTIFICATE, PRIVATE_KEY, VALUE};

/// The client pair of the first user in a kubeconfig Secret.
pub fn kubeconfig_client(secret: &str, data: &SecretData) -> Result<Stored, PkiProblem> {
    let at = |defect| problem(secret, VALUE, defect);
    let yaml = text(secret, data, VALUE, Defect::NotAKubeconfig)?;
    let kubeconfig: Kubeconfig =
        serde_saphyr::from_str(yaml).map_err(|_| at(Defect::NotAKubeconfig))?;
    let user = kubeconfig.users.into_iter().next();
    let user = user.ok_or_else(|| at(Defect::NotAKubeconfig))?.user;
    let data = BTreeMap::from([
        (CERTIFICATE.to_owned(), user.certificate),
        (PRIVATE_KEY.to_owned(), user.key),
    ]);
    let mut stored =
        stored_pair(secret, &data, CERTIFICATE, PRIVATE_KEY).map_err(|error| at(error.defect))?;
    VALUE.clone_into(&mut stored.key);
    Ok(stored)
}

/// The part of a kubeconfig that holds client certificates.
#[derive(Deserialize)]
struct Kubeconfig {
    users: Vec<NamedUser>,
}

#[derive(Deserialize)]
struct NamedUser {
    user: User,
}

#[derive(Deserialize)]
struct User {
    #[serde(rename = "client-certificate-data")]
    certificate: ByteString,
    #[serde(rename = "client-key-data")]
    key: ByteString,
}
