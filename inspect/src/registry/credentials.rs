//! Who one is, by docker's configuration.

use std::{fmt, fs::File, io::BufReader, path::Path, time::Duration};

use docker_credential::{
    CredentialRetrievalError as Error, DockerCredential, get_credential, get_credential_from_reader,
};
use oci_client::secrets::RegistryAuth;
use tokio::{task::spawn_blocking, time::timeout};

/// What is configured for a registry.
pub(super) struct Credentials {
    pub(super) auth: RegistryAuth,
    /// Why nothing is, although something should be.
    pub(super) problem: Option<&'static str>,
}

impl Credentials {
    /// Reads docker's configuration, in this file or where docker has it, and asks the
    /// credential helper that it names. A helper that hangs is not waited for.
    pub(super) async fn configured(registry: &str, file: Option<&Path>, limit: Duration) -> Self {
        let server = match registry {
            "docker.io" => "https://index.docker.io/v1/",
            other => other,
        };
        let (server, file) = (server.to_owned(), file.map(Path::to_owned));
        let asked = spawn_blocking(move || match file {
            None => get_credential(&server),
            Some(file) => {
                let file = File::open(file).map_err(|_| Error::ConfigReadError)?;
                get_credential_from_reader(BufReader::new(file), &server)
            }
        });
        match timeout(limit, asked).await {
            Ok(Ok(Ok(credential))) => Self::of(credential),
            Ok(Ok(Err(error))) => Self::none(problem(&error)),
            Ok(Err(_)) => Self::none(Some("docker's configuration could not be read")),
            Err(_) => Self::none(Some("docker's credential helper does not answer")),
        }
    }

    fn of(credential: DockerCredential) -> Self {
        match credential {
            DockerCredential::UsernamePassword(user, password) => {
                Self { auth: RegistryAuth::Basic(user, password), problem: None }
            }
            DockerCredential::IdentityToken(_) => {
                Self::none(Some("docker has an identity token, which is not supported"))
            }
        }
    }

    fn none(problem: Option<&'static str>) -> Self {
        Self { auth: RegistryAuth::Anonymous, problem }
    }
}

/// What a person has to know of it. What a helper printed may be a secret.
fn problem(error: &Error) -> Option<&'static str> {
    let says = "credentials not found";
    match error {
        Error::NoCredentialConfigured | Error::ConfigNotFound => None,
        // There is none, or it is no JSON; who needs none has none.
        Error::ConfigReadError => None,
        Error::HelperFailure { stdout, stderr, .. }
            if stdout.contains(says) || stderr.contains(says) =>
        {
            None
        }
        Error::HelperFailure { .. }
        | Error::HelperCommunicationError
        | Error::MalformedHelperResponse => Some("docker's credential helper failed"),
        Error::CredentialDecodingError | Error::CredentialMismatchError => {
            Some("what docker's configuration has for it cannot be read")
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("problem", &self.problem).finish_non_exhaustive()
    }
}
