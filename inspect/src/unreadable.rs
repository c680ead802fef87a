//! What a registry does not say, and why.

use std::time::Duration;

/// Why something could not be read from a registry. It says nothing of signatures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// There is no such image.
    #[error("registry {registry} has no {what}: push it, or correct its name")]
    NotFound {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
    },
    /// One may not read it.
    #[error(
        "registry {registry} does not let you read {what}: docker login {registry}{}",
        .helper.map(|helper| format!(" ({helper})")).unwrap_or_default()
    )]
    Denied {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What is wrong with the credentials that are configured.
        helper: Option<&'static str>,
    },
    /// Nobody answers.
    #[error("registry {registry} cannot be reached: {why}")]
    Unreachable {
        /// The registry.
        registry: String,
        /// What the attempt came to.
        why: String,
    },
    /// It took too long.
    #[error("registry {registry} did not give {what} within {} s: try again", .limit.as_secs())]
    Slow {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// How long it was waited for.
        limit: Duration,
    },
    /// It answered with an error.
    #[error("registry {registry} answered {status} to a request for {what}: try again")]
    Failed {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// The HTTP status.
        status: u16,
    },
    /// There is more than is read.
    #[error("{what} in registry {registry} is more than {limit}, which is not read")]
    TooLarge {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What is read at most.
        limit: String,
    },
    /// What it gave is not what was asked for.
    #[error("registry {registry} gave something for {what} that is no such thing: {why}")]
    Malformed {
        /// The registry.
        registry: String,
        /// What was asked for.
        what: String,
        /// What is wrong with it.
        why: String,
    },
}
