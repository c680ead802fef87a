//! Which keys are shown.

use kube::ResourceExt;
use serde::Serialize;
use signingkeyring_convert::state;
use signingkeyring_core::public_key::PublicKey;
use signingkeyring_crds::{SigningKeyRing, VersionState};

use crate::{error::Error, ring::versions};

/// The keys of a ring.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Keys {
    /// The newest first.
    pub keys: Vec<Key>,
    /// Versions whose key is not what it should be: a status is written by others, too.
    pub left_out: Vec<u32>,
}

/// A key.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Key {
    pub version: u32,
    pub state: VersionState,
    pub fingerprint: String,
    pub public_key: String,
}

/// Selects them.
///
/// # Errors
/// If the ring has no version of the number that is asked for.
pub fn of(ring: &SigningKeyRing, only: Option<u32>) -> Result<Keys, Error> {
    let mut view = Keys { keys: Vec::new(), left_out: Vec::new() };
    let is_meant = |version: u32, is_accepted: bool| match only {
        Some(number) => number == version,
        None => is_accepted,
    };
    let meant = versions(ring).iter().filter(|v| is_meant(v.version, state(v.state).is_accepted()));
    for version in meant {
        let key = PublicKey::from(&*version.public_key);
        match key.fingerprint() {
            Some(fingerprint) if fingerprint.as_str() == version.fingerprint => {
                view.keys.push(Key {
                    version: version.version,
                    state: version.state,
                    fingerprint: version.fingerprint.clone(),
                    public_key: key.to_string(),
                });
            }
            _ => view.left_out.push(version.version),
        }
    }
    match only {
        Some(number) if view.keys.is_empty() && view.left_out.is_empty() => {
            Err(Error::Failed(format!(
                "ring {} has no version {number}: kubectl signing history {0} lists those it has",
                ring.name_any()
            )))
        }
        _ => Ok(view),
    }
}

impl Keys {
    /// All of them as PEM, each with a line that says which it is.
    pub fn pem(&self, ring: &str) -> String {
        let one = |key: &Key| {
            let Key { version, state, fingerprint, public_key } = key;
            format!("# {ring} version {version} ({state:?}) {fingerprint}\n{public_key}")
        };
        self.keys.iter().map(one).collect()
    }
}

#[cfg(test)]
mod tests {
    use signingkeyring_core::policy::NOBODYS_KEY;

    use super::*;
    use crate::ring::tests::ring;

    use VersionState::{Accepted, Current, Retired};

    fn with_keys(states: &[VersionState]) -> SigningKeyRing {
        let mut ring = ring(states);
        for version in &mut ring.status.as_mut().unwrap().versions {
            version.public_key = NOBODYS_KEY.to_owned();
            version.fingerprint = PublicKey::from(NOBODYS_KEY).fingerprint().unwrap().to_string();
        }
        ring
    }

    #[test]
    fn a_bundle_has_what_is_accepted() {
        let ring = with_keys(&[Retired, Accepted, Current]);
        let numbers = |only| {
            let view = of(&ring, only).unwrap();
            view.keys.iter().map(|key| key.version).collect::<Vec<_>>()
        };
        assert_eq!(numbers(None), [3, 2]);
        assert_eq!(numbers(Some(1)), [1]);
        assert!(of(&ring, Some(4)).is_err());
        let pem = of(&ring, Some(3)).unwrap().pem("checkout");
        assert!(pem.starts_with("# checkout version 3 (Current) SHA256:"), "{pem}");
        assert!(pem.ends_with(NOBODYS_KEY), "{pem}");
    }

    #[test]
    fn a_key_that_somebody_put_there_is_left_out() {
        let mut ring = with_keys(&[Accepted, Current]);
        let versions = &mut ring.status.as_mut().unwrap().versions;
        versions[0].fingerprint = "SHA256:other".into();
        versions[1].public_key = "\x1b[2J".into();
        let view = of(&ring, None).unwrap();
        assert!(view.keys.is_empty());
        assert_eq!(view.left_out, [2, 1]);
    }
}
