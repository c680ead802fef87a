//! What can go wrong in a pass, to which object, and what becomes of it.

use signingkeyring_core::ledger::ChangeError;

use crate::keys::KeyError;

/// An error of one pass over one object. Its text never holds key material.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the API server failed.
    #[error("{what}: {}", brief(.source))]
    Api {
        /// What was attempted, on which object.
        what: String,
        /// The API server's answer.
        source: Box<kube::Error>,
    },
    /// Somebody else wrote the object since it was observed; the next pass
    /// starts from what they wrote.
    #[error("{0} changed since it was observed")]
    Conflict(String),
    /// The ring's object is newer than what the watch has brought, or others have taken up
    /// what was free: ledger and pipelines are as they were observed.
    #[error("{0} changed since it was observed")]
    Overtaken(String),
    /// An object has the name of one of the operator's.
    #[error("{0} exists and is not the operator's, so it is left alone. Rename or delete it")]
    Foreign(String),
    /// The planned change does not fit the ledger.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// A key pair could not be generated.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// A pass ended in a panic, in these words.
    #[error("a panic, which is a defect of the operator; report it: {0}")]
    Panic(String),
    /// There is no thread to seal or open a key on.
    #[error("no thread for sealing a key could be started: {0}; it is tried again")]
    NoThread(#[source] std::io::Error),
    /// A background computation was cut off by the shutdown.
    #[error("interrupted by the shutdown")]
    Interrupted,
}

impl Error {
    /// Wraps a failed call, telling a conflict from the rest.
    pub fn api(what: impl Into<String>, source: kube::Error) -> Self {
        match &source {
            kube::Error::Api(status) if status.code == 409 => Self::Conflict(what.into()),
            _ => Self::Api { what: what.into(), source: Box::new(source) },
        }
    }

    /// A word for metrics.
    #[must_use]
    pub fn category(&self) -> &'static str {
        match self {
            Self::Api { .. } => "api_error",
            Self::Conflict(_) | Self::Overtaken(_) | Self::Foreign(_) => "conflict",
            Self::Change(_) => "stale_plan",
            Self::Key(_) => "key_error",
            Self::Panic(_) => "panic",
            Self::NoThread(_) => "no_thread",
            Self::Interrupted => "interrupted",
        }
    }

    /// Whether a write that failed so may have been stored all the same: its
    /// answer was lost, or the API server failed after it.
    #[must_use]
    pub fn is_uncertain(&self) -> bool {
        match self {
            Self::Api { source, .. } => match &**source {
                kube::Error::Api(status) => status.code >= 500,
                _ => true,
            },
            _ => false,
        }
    }

    /// Whether it is about this object.
    #[must_use]
    pub fn is_about(&self, object: &str) -> bool {
        match self {
            Self::Api { what, .. } | Self::Conflict(what) => what == object,
            _ => false,
        }
    }

    /// Whether the object or the subject does not exist (any more).
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Api { source, .. } if is_code(source, 404))
    }
}

/// Whether the API server answered with this status code.
#[must_use]
pub fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// The part of an API error that a person reads.
#[must_use]
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => {
            let mut text = other.to_string();
            let mut source = std::error::Error::source(other);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        }
    }
}
