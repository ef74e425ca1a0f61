//! When a stored certificate is still the right one.
//!
//! A leaf is issued anew only when what the machine should be has changed, or when it is of no use
//! to anybody. Renewal ahead of expiry and rotation belong here too once the operator can bring new
//! files to running machines.

use jiff::Timestamp;

use super::CertSpec;
use super::problem::{Defect, PkiProblem};
use super::state::Stored;

/// Why a leaf is issued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// None is stored.
    Missing,
    /// The stored one has another subject, other alternative names or other usages.
    Changed,
    /// The stored one has expired.
    Expired,
    /// The stored one is defective, and no machine has booted from it yet.
    Defective,
}

/// What to do about one leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Keep,
    Issue(Why),
    /// Only a person can decide: a machine may be running with the other half of it.
    Refuse(PkiProblem),
}

/// What to do about a leaf. `ca_secret` holds its signer; `ca_stored`: else that is about to be
/// issued. `founded`: see [`super::plan::plan`].
pub fn leaf_verdict(
    ca_secret: &str,
    stored: Option<&Result<Stored, PkiProblem>>,
    spec: &CertSpec,
    ca_stored: bool,
    founded: bool,
    now: Timestamp,
) -> Verdict {
    let defective = |problem: &PkiProblem| {
        if founded {
            Verdict::Refuse(problem.clone())
        } else {
            Verdict::Issue(Why::Defective)
        }
    };
    let stored = match stored {
        None => return Verdict::Issue(Why::Missing),
        Some(Err(problem)) => return defective(problem),
        Some(Ok(stored)) => stored,
    };
    if !ca_stored {
        return Verdict::Issue(Why::Defective);
    }
    if !stored.certificate.says(spec) {
        return Verdict::Issue(Why::Changed);
    }
    if stored.certificate.not_after <= now {
        return Verdict::Issue(Why::Expired);
    }
    if !stored.signers.contains(&spec.signer) {
        return defective(&PkiProblem {
            secret: stored.secret.clone(),
            key: stored.key.clone(),
            defect: Defect::OtherCa(ca_secret.to_owned()),
        });
    }
    Verdict::Keep
}

/// What is wrong with a CA at this time.
pub fn ca_defect(ca: &Stored, now: Timestamp) -> Option<Defect> {
    let certificate = &ca.certificate;
    if certificate.not_after <= now {
        Some(Defect::Expired(certificate.not_after))
    } else if certificate.not_before > now {
        Some(Defect::NotYetValid(certificate.not_before))
    } else {
        None
    }
}
