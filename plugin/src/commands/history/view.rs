//! What is remembered of a ring's versions.

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;
use signingkeyring_crds::{Revocation, SigningKeyRing, VersionCause, VersionEnd, VersionState};

use crate::ring::versions;

/// A ring's versions.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    pub ring: String,
    /// The newest first.
    pub versions: Vec<Version>,
    /// How many there were that nobody remembers.
    pub forgotten: u32,
}

/// A version.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    pub version: u32,
    pub state: VersionState,
    pub fingerprint: String,
    pub minted: Timestamp,
    /// What called for it; nothing where that was not recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<VersionCause>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub acknowledged: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub activated: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_by: Option<VersionEnd>,
    /// What was written beside its revocation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked_because: Option<String>,
}

/// Makes it. Numbers are given out one after the other, so those that are missing were
/// there.
pub fn of(ring: &SigningKeyRing) -> View {
    let reason = |version: u32, fingerprint: &str| {
        let is_meant = |entry: &&Revocation| {
            entry.version == Some(version) || entry.fingerprint.as_deref() == Some(fingerprint)
        };
        ring.spec.revoked.iter().find(is_meant).map(|entry| entry.reason.clone())
    };
    let mut all: Vec<Version> = versions(ring)
        .iter()
        .map(|version| Version {
            version: version.version,
            state: version.state,
            fingerprint: version.fingerprint.clone(),
            minted: version.created_at.0,
            cause: version.cause,
            acknowledged: version.acknowledged_at.as_ref().map(|time| time.0),
            ended: version.ended_at.as_ref().map(|time| time.0),
            ended_by: version.ended_by,
            activated: version.activated_at.as_ref().map(|time| time.0),
            revoked_because: reason(version.version, &version.fingerprint),
        })
        .collect();
    all.sort_by_key(|version| std::cmp::Reverse(version.version));
    let newest = all.first().map_or(0, |version| version.version);
    let remembered = u32::try_from(all.len()).unwrap_or(u32::MAX);
    View { ring: ring.name_any(), versions: all, forgotten: newest.saturating_sub(remembered) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ring::tests::ring, text::plain};

    use VersionState::{Accepted, Current, Revoked};

    #[test]
    fn what_is_not_remembered_is_counted_and_not_invented() {
        let mut ring = ring(&[Accepted, Accepted, Revoked, Current]);
        ring.status.as_mut().unwrap().versions.retain(|version| version.version > 2);
        let versions = &mut ring.status.as_mut().unwrap().versions;
        versions[1].ended_by = Some(VersionEnd::Revocation);
        versions[0].cause = Some(VersionCause::Token);
        ring.spec.revoked = vec![Revocation {
            version: Some(3),
            fingerprint: None,
            reason: "in a build log".into(),
        }];
        let view = of(&ring);
        insta::assert_snapshot!(plain(&super::super::print::lines(&view, false)));
    }
}
