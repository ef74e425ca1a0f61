//! Kubernetes versions.

use std::fmt;
use std::str::FromStr;

/// An exact Kubernetes release: `v1.37.1`. Pre-releases and build metadata are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KubeVersion {
    pub major: u32,
    pub minor: u32,
    pub patch: u32,
}

/// Why a text is not an exact release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an exact release; write it as v1.37.1")]
pub struct VersionError(pub String);

impl FromStr for KubeVersion {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        let wrong = || VersionError(text.to_owned());
        let version = semver::Version::parse(text.strip_prefix('v').ok_or_else(wrong)?)
            .map_err(|_| wrong())?;
        if !version.pre.is_empty() || !version.build.is_empty() {
            return Err(wrong());
        }
        let small = |part: u64| u32::try_from(part).map_err(|_| wrong());
        Ok(Self {
            major: small(version.major)?,
            minor: small(version.minor)?,
            patch: small(version.patch)?,
        })
    }
}

impl fmt::Display for KubeVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "v{}.{}.{}", self.major, self.minor, self.patch)
    }
}
