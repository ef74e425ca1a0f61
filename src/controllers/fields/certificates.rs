//! Keys and validities of certificates, and where they lie on the node.

use std::time::Duration;

use super::{Checker, Problem, ProblemReason, directory, duration};
use crate::crd;
use crate::pki::problem::PkiProblem;

/// Path of a [`Problem`] with a stored certificate or key.
pub const CERTIFICATES_PATH: &str = "spec.certificates";

impl From<&PkiProblem> for Problem {
    /// Only a person can bring back what is missing or put right what is defective.
    fn from(problem: &PkiProblem) -> Self {
        Self {
            path: CERTIFICATES_PATH.to_owned(),
            reason: ProblemReason::MissingInput,
            message: problem.to_string(),
        }
    }
}

/// The certificates' settings with their defaults applied.
pub struct CertificateFields {
    pub key_algorithm: crd::KeyAlgorithm,
    /// Of leaves and of CAs; `None` where one of them is wrong.
    pub validity: Option<(Duration, Duration)>,
    pub directory: String,
}

/// Checks `spec.certificates`, but which CA keys the machines hold.
pub fn certificates(checker: &mut Checker, given: Option<&crd::Certificates>) -> CertificateFields {
    let given = given.cloned().unwrap_or_default();
    let key_algorithm = given.key_algorithm.unwrap_or_else(|| {
        checker.note_default("spec.certificates.keyAlgorithm", &"ECDSA-P256");
        crd::KeyAlgorithm::EcdsaP256
    });
    let leaf = validity(checker, "leafValidity", given.leaf_validity, "8760h");
    let ca = validity(checker, "caValidity", given.ca_validity, "87600h");
    if let (Some(leaf), Some(ca)) = (leaf, ca)
        && leaf > ca
    {
        checker.invalid(
            "spec.certificates.leafValidity",
            "is longer than caValidity; a certificate cannot outlive the CA that signs it",
        );
    }
    let path = "spec.certificates.directory";
    let folder = checker.or_default(path, given.directory, "/etc/kubernetes/pki".to_owned());
    CertificateFields {
        key_algorithm,
        validity: leaf.zip(ca),
        directory: directory(checker, path, &folder),
    }
}

/// Ten minutes leave room for renewal before expiry; 100 years stay within X.509's four-digit years.
fn validity(
    checker: &mut Checker,
    field: &str,
    given: Option<String>,
    default: &str,
) -> Option<Duration> {
    let path = format!("spec.certificates.{field}");
    let text = checker.or_default(&path, given, default.to_owned());
    let (least, most) = (
        Duration::from_secs(10 * 60),
        Duration::from_secs(876_000 * 3600),
    );
    duration(checker, &path, &text, least, most)
}
