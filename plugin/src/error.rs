//! What can go wrong, and what the process ends with.

use std::process::ExitCode;

/// Why a command did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was called wrongly; the text says what to write.
    #[error("{0}")]
    Usage(String),
    /// The API server refused, or did not answer.
    #[error("{what}: {}", brief(.source))]
    Api {
        /// What was attempted, on which object.
        what: String,
        /// Its answer.
        source: Box<kube::Error>,
    },
    /// Something else; the text says what to do.
    #[error("{0}")]
    Failed(String),
    /// What was to be shown could not be written.
    #[error("the output cannot be written: {0}")]
    Output(#[from] std::io::Error),
}

impl Error {
    /// Wraps a failed call.
    pub fn api(what: impl Into<String>, source: kube::Error) -> Self {
        Self::Api { what: what.into(), source: Box::new(source) }
    }

    /// Whether the API server answered with this status code.
    pub fn is_code(&self, code: u16) -> bool {
        matches!(self, Self::Api { source, .. } if is_code(source, code))
    }

    /// What to do about it, where its own text does not say that.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::Api { source, .. } if is_code(source, 403) => Some(
                "kubectl signing doctor shows which rights commands take; README.md, Who may do \
                 what, has the roles",
            ),
            Self::Api { source, .. } if is_code(source, 404) && !names_an_object(source) => Some(
                "kubectl signing doctor shows whether the CRDs are installed (kubectl apply -k \
                 manifests)",
            ),
            _ => None,
        }
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Usage(_) => 2,
            Self::Api { .. } | Self::Failed(_) | Self::Output(_) => 1,
        })
    }
}

/// What a command that did what it was asked has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All is fine.
    Fine,
    /// Something would break, or is open.
    Open,
}

impl Outcome {
    /// Fine unless something is open.
    pub const fn open_if(open: bool) -> Self {
        if open { Self::Open } else { Self::Fine }
    }
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        Self::from(match outcome {
            Outcome::Fine => 0,
            Outcome::Open => 3,
        })
    }
}

/// Whether the API server answered with this status code.
pub fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

/// Whether the API server's answer is about one object, and not about its kind.
fn names_an_object(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    status.details.as_ref().is_some_and(|details| !details.name.is_empty())
}

/// The part of an API error that a person reads.
pub fn brief(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => chain(other),
    }
}

/// An error with what caused it. Some repeat their cause themselves.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
