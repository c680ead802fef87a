//! What the API server says of a request.

use std::fmt;

use anyhow::{Result, bail};

/// What the API server said of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// It was done, or would be.
    Yes,
    /// The guard refused it.
    Guard,
    /// The user has no such right at all.
    Rbac,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Yes => "yes",
            Self::Guard => "guard",
            Self::Rbac => "-",
        })
    }
}

impl Said {
    /// Reads an answer.
    pub fn of<T>(answer: Result<T, kube::Error>) -> Result<Self> {
        match answer {
            Ok(_) => Ok(Self::Yes),
            Err(kube::Error::Api(status)) => Self::of_words(&status.message),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads why a request was refused.
    pub fn of_words(words: &str) -> Result<Self> {
        if words.contains("ValidatingAdmissionPolicy 'signingkeyring-guard-") {
            // What was meant, not an expression that could not be evaluated.
            if words.contains("resulted in error") || words.contains("failed to configure") {
                bail!("the guard failed: {words}");
            }
            return Ok(Self::Guard);
        }
        if words.contains(" cannot ") && words.contains("User \"") {
            return Ok(Self::Rbac);
        }
        bail!("refused by neither guard nor RBAC: {words}")
    }
}
