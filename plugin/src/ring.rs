//! What follows from a ring's object: its versions, and which of them a change would end.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use signingkeyring_convert::state;
use signingkeyring_core::{
    condition::{Kind, Status},
    ledger::{State, window},
    names,
    policy_ref::PolicyKind,
};
use signingkeyring_crds::{SigningKeyRing, SigningKeyRingStatus, VersionStatus};

/// A change of a ring that may end versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The next version begins to sign.
    Rotate,
    /// A version is taken out.
    Revoke(u32),
    /// So many versions are accepted.
    Keep(u32),
}

/// A ring's condition.
pub fn condition(ring: &SigningKeyRing, kind: Kind) -> Option<&Condition> {
    let status = ring.status.as_ref()?;
    status.conditions.iter().find(|condition| condition.type_ == kind.as_str())
}

/// Whether it is said that all is well, of the ring as it is now.
pub fn is_ready(ring: &SigningKeyRing) -> bool {
    condition(ring, Kind::Ready).is_some_and(|ready| ready.status == Status::True.as_str())
        && is_observed(ring)
}

/// Whether the operator has looked at the ring since its spec was changed.
pub fn is_observed(ring: &SigningKeyRing) -> bool {
    let observed = ring.status.as_ref().and_then(|status| status.observed_generation);
    observed.is_some() && observed == ring.metadata.generation
}

/// The value of the annotation that asks for a rotation, if that is not done.
pub fn rotation_under_way(ring: &SigningKeyRing) -> Option<&str> {
    let asked = ring.annotations().get(names::ANNOTATION_ROTATE)?;
    let done = ring.status.as_ref().and_then(|status| status.observed_rotation.as_ref());
    (!asked.is_empty() && Some(asked) != done).then_some(asked)
}

/// The kind of policy that the ring's rule is in.
pub fn policy_kind(ring: &SigningKeyRing) -> PolicyKind {
    let policy = ring.status.as_ref().and_then(|status| status.policy.as_ref());
    let kind = policy.map(|policy| policy.kind.as_str());
    let known = PolicyKind::ALL.into_iter().find(|known| Some(known.as_str()) == kind);
    known.unwrap_or(PolicyKind::ClusterPolicy)
}

/// What a ring's status says of its versions, the newest first.
pub fn versions(ring: &SigningKeyRing) -> &[VersionStatus] {
    ring.status.as_ref().map_or(&[], |status: &SigningKeyRingStatus| &status.versions)
}

/// The version that a rotation would have sign: one that stands by, or another one.
pub fn next_version(ring: &SigningKeyRing) -> u32 {
    let versions = versions(ring);
    let is_waiting = |version: &&VersionStatus| {
        matches!(state(version.state), State::Standby)
            || (ring.spec.rotation.standby && state(version.state) == State::Pending)
    };
    let waiting = versions.iter().find(is_waiting).map(|version| version.version);
    let newest = versions.iter().map(|version| version.version).max().unwrap_or(0);
    waiting.unwrap_or(newest.saturating_add(1))
}

/// The versions whose signatures are accepted now and would not be any more, the oldest
/// first. A version that is on its way comes to sign before.
pub fn ended(ring: &SigningKeyRing, change: Change) -> Vec<u32> {
    let mut rows: Vec<(u32, State, bool)> = versions(ring)
        .iter()
        .map(|v| (v.version, state(v.state), v.activated_at.is_some()))
        .collect();
    rows.sort_by_key(|(number, ..)| *number);
    let before = rows.clone();
    let keep = match change {
        Change::Keep(keep) => keep,
        Change::Rotate | Change::Revoke(_) => ring.spec.keep_versions,
    };
    let spare = ring.spec.rotation.standby;
    if let Some((pending, ..)) =
        rows.iter().find(|(_, state, _)| *state == State::Pending && !spare)
    {
        let pending = *pending;
        sign(&mut rows, pending);
    }
    match change {
        Change::Keep(_) => {}
        Change::Rotate => sign(&mut rows, next_version(ring)),
        Change::Revoke(revoked) => {
            let mut signed = false;
            for (_, state, _) in rows.iter_mut().filter(|(number, ..)| *number == revoked) {
                signed = *state == State::Current;
                *state = State::Revoked;
            }
            if signed {
                sign(&mut rows, next_version(ring));
            }
        }
    }
    let after = window(rows.iter().map(|(_, state, has_signed)| (*state, *has_signed)), keep);
    let is_accepted = |number: u32| {
        let mut all = rows.iter().zip(&after);
        all.any(|((version, ..), state)| *version == number && state.is_accepted())
    };
    before
        .iter()
        .filter(|(number, state, _)| state.is_accepted() && !is_accepted(*number))
        .map(|(number, ..)| *number)
        .collect()
}

/// Has a version sign, in the place of the one that does.
fn sign(rows: &mut Vec<(u32, State, bool)>, number: u32) {
    for (_, state, _) in rows.iter_mut().filter(|(_, state, _)| *state == State::Current) {
        *state = State::Accepted;
    }
    match rows.iter_mut().find(|(version, ..)| *version == number) {
        Some(row) => *row = (number, State::Current, true),
        None => rows.push((number, State::Current, true)),
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::json;
    use signingkeyring_crds::VersionState;

    use super::*;

    /// A ring named `checkout` whose versions, from 1 on, have these states.
    pub fn ring(states: &[VersionState]) -> SigningKeyRing {
        let mut versions: Vec<_> = (1..)
            .zip(states)
            .map(|(number, state)| {
                let minted = format!("2026-11-{:02}T10:00:00Z", 10 + number);
                let signed = !matches!(state, VersionState::Pending | VersionState::Standby);
                json!({
                    "version": number, "state": state, "fingerprint": format!("SHA256:{number}"),
                    "publicKey": format!("key {number}\n"), "createdAt": minted,
                    "activatedAt": signed.then_some(&minted),
                })
            })
            .collect();
        versions.reverse();
        serde_json::from_value(json!({
            "apiVersion": "signing.odj.cloud/v1alpha1",
            "kind": "SigningKeyRing",
            "metadata": {"name": "checkout", "generation": 1},
            "spec": {},
            "status": {"observedGeneration": 1, "versions": versions},
        }))
        .unwrap()
    }

    use VersionState::{Accepted, Current, Pending, Retired, Revoked, Standby};

    #[test]
    fn a_rotation_ends_what_falls_out_of_the_window() {
        for (states, ended_by_it) in [
            (&[Current][..], &[][..]),
            (&[Accepted, Accepted, Current], &[1]),
            (&[Retired, Accepted, Accepted, Current], &[2]),
            // One that was revoked keeps its place.
            (&[Accepted, Revoked, Current], &[1]),
            // What is on its way goes first.
            (&[Accepted, Accepted, Current, Pending], &[1, 2]),
            (&[], &[]),
        ] {
            assert_eq!(ended(&ring(states), Change::Rotate), ended_by_it, "{states:?}");
        }
        let mut with_standby = ring(&[Accepted, Accepted, Current, Standby]);
        with_standby.spec.rotation.standby = true;
        assert_eq!(next_version(&with_standby), 4);
        assert_eq!(ended(&with_standby, Change::Rotate), [1]);
    }

    #[test]
    fn a_revocation_ends_its_version_and_what_the_next_one_pushes_out() {
        let three = ring(&[Accepted, Accepted, Current]);
        assert_eq!(ended(&three, Change::Revoke(2)), [2]);
        assert_eq!(ended(&three, Change::Revoke(3)), [1, 3]);
        assert_eq!(ended(&three, Change::Revoke(9)), [0; 0]);
    }

    #[test]
    fn a_narrower_window_ends_the_oldest() {
        let three = ring(&[Accepted, Accepted, Current]);
        assert_eq!(ended(&three, Change::Keep(1)), [1, 2]);
        assert_eq!(ended(&three, Change::Keep(4)), [0; 0]);
    }
}
