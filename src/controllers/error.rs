//! Why a reconcile failed. Waiting is not among it: that is a value of the plan.

use std::time::Duration;

/// A failed reconcile.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the seed's API server failed.
    #[error("{doing}: {source}")]
    Api {
        doing: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    /// A whole reconcile took too long.
    #[error("the reconcile took longer than {} s", .0.as_secs())]
    Deadline(Duration),
    /// A key or certificate could not be made.
    #[error("issuing a certificate: {0}")]
    Issue(#[from] crate::pki::issue::IssueError),
    /// A blocking task ended without a result.
    #[error("a background task ended early: {0}")]
    Task(#[from] tokio::task::JoinError),
    /// A Secret's name is taken by somebody else's.
    #[error(
        "Secret {secret} exists and does not belong to this {kind}; delete or rename it, or \
         give the {kind} or the machine another name"
    )]
    Occupied { secret: String, kind: String },
    /// Something that can only be wrong in the code.
    #[error("{0}")]
    Bug(String),
}

/// How a failure is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Somebody else was faster: look again soon, say nothing.
    Conflict,
    /// The operator lacks a right.
    Forbidden,
    /// May pass by itself.
    Transient,
    /// The API server refuses what was sent, or the code is wrong.
    Bug,
}

impl Error {
    /// Names what was being done when the API server refused.
    pub fn api(doing: &'static str) -> impl FnOnce(kube::Error) -> Self {
        move |source| Self::Api {
            doing,
            source: Box::new(source),
        }
    }

    /// How this failure is treated.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Api { source, .. } => match source.as_ref() {
                kube::Error::Api(status) if status.code == 409 => ErrorClass::Conflict,
                kube::Error::Api(status) if status.code == 403 => ErrorClass::Forbidden,
                kube::Error::Api(status) if matches!(status.code, 400 | 422) => ErrorClass::Bug,
                _ => ErrorClass::Transient,
            },
            Self::Deadline(_) | Self::Task(_) => ErrorClass::Transient,
            Self::Issue(_) | Self::Occupied { .. } | Self::Bug(_) => ErrorClass::Bug,
        }
    }
}

impl Error {
    /// What was being done, as a metric label.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Api { doing, .. } => doing,
            Self::Deadline(_) => "deadline",
            Self::Issue(_) => "issuing a certificate",
            Self::Task(_) => "background task",
            Self::Occupied { .. } => "occupied name",
            Self::Bug(_) => "bug",
        }
    }
}

impl ErrorClass {
    /// The metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Conflict => "conflict",
            Self::Forbidden => "forbidden",
            Self::Transient => "transient",
            Self::Bug => "bug",
        }
    }
}
