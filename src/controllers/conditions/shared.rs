//! What conditions of several kinds say in the same words.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};

use super::{
    CERTIFICATES_VALID, Conditions, MACHINE_CONFIGS_PUBLISHED, RECONCILING, Reason, STALLED, State,
};
use crate::controllers::fields::{CERTIFICATES_PATH, Problem, ProblemReason};

/// Certificates that expire sooner are reported.
const EXPIRY_NOTICE: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Conditions {
    /// Only a person can help.
    pub fn set_stalled(&mut self, problems: &[Problem]) {
        let reason = match problems.first().map(|problem| problem.reason) {
            Some(ProblemReason::NotYetSupported) => Reason::NotYetSupported,
            Some(ProblemReason::MissingInput) => Reason::MissingInput,
            Some(ProblemReason::FoundingHalted) => Reason::FoundingHalted,
            Some(ProblemReason::InvalidSpec) | None => Reason::InvalidSpec,
        };
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        let text = texts.join("; ");
        self.set(STALLED, true, reason, text.clone());
        self.set(RECONCILING, false, Reason::Blocked, "");
        let mut paths = problems.iter().map(|problem| &problem.path);
        if paths.any(|path| path == CERTIFICATES_PATH) {
            self.set(CERTIFICATES_VALID, false, reason, text.clone());
        }
        self.set_unless_published(reason, text);
    }

    /// Why machine configs are not published, if they are not.
    pub fn set_unless_published(&mut self, reason: Reason, text: String) {
        if self.state(MACHINE_CONFIGS_PUBLISHED) != Some(State::True) {
            self.set(MACHINE_CONFIGS_PUBLISHED, false, reason, text);
        }
    }

    /// Whether the certificate that expires first is valid; nothing where there is none.
    pub fn set_certificates(&mut self, expiries: &BTreeMap<String, Timestamp>, now: Timestamp) {
        let Some((name, expiry)) = first_to_expire(expiries) else {
            return;
        };
        let left = expiry.duration_since(now);
        let (valid, reason, text) = if left > EXPIRY_NOTICE {
            (true, Reason::AsDesired, String::new())
        } else if left.is_positive() {
            let text = format!("{name} expires at {expiry}");
            (true, Reason::CertificatesExpiring, text)
        } else {
            let text = format!("{name} expired at {expiry}");
            (false, Reason::CertificatesExpiring, text)
        };
        self.set(CERTIFICATES_VALID, valid, reason, text);
    }
}

/// The certificate that expires first.
pub fn first_to_expire(expiries: &BTreeMap<String, Timestamp>) -> Option<(&String, &Timestamp)> {
    expiries.iter().min_by_key(|(_, expiry)| **expiry)
}
