//! Who remembers, outside a ring's ledger, how far the ring had come: its
//! annotation, its status, and the policies that hold its rule.

use kube::ResourceExt;
use signingkeyring_convert::{record, state};
use signingkeyring_core::{
    high_water::{HighWater, HighWaters, MOST_WITNESSED, short},
    ledger::KnownVersion,
    names,
    snapshot::Witness,
};
use signingkeyring_crds::{SigningKeyRing, SigningKeyRingStatus, VersionState};

use crate::{keys::fingerprint_of, kyverno::Object};

/// What an object's annotation remembers of a ring; nothing if that cannot be
/// read. One that names another ring was copied and does not count.
#[must_use]
pub fn recorded(annotation: Option<&String>, ring: &str) -> Option<HighWater> {
    let mut marks: HighWaters = annotation?.parse().ok()?;
    marks.0.remove(ring)
}

/// What a ring's own object remembers.
#[must_use]
pub fn of_ring(object: &SigningKeyRing) -> Vec<Witness> {
    let annotation = object.annotations().get(names::ANNOTATION_HIGH_WATER);
    let annotation = recorded(annotation, &object.name_any())
        .map(|high_water| witness("the ring's annotation".to_owned(), high_water));
    let status = object.status.as_ref().filter(|status| !status.versions.is_empty());
    let status = status.map(|status| witness("the ring's status".to_owned(), of_status(status)));
    annotation.into_iter().chain(status).collect()
}

fn of_status(status: &SigningKeyRingStatus) -> HighWater {
    let revoked = status.versions.iter().filter(|v| v.state == VersionState::Revoked);
    let numbers = status.versions.iter().map(|v| v.version);
    HighWater {
        version: numbers.filter(|number| *number < MOST_WITNESSED).max().unwrap_or(0),
        revoked: revoked.map(|v| short(&v.fingerprint)).collect(),
    }
}

/// What a policy remembers of a ring, if it holds its rule.
#[must_use]
pub fn of_policy(policy: &Object, ring: &str) -> Option<Witness> {
    let mark = policy.marks().0.get(ring)?;
    let annotation = policy.annotations().get(names::ANNOTATION_HIGH_WATER);
    let high_water = recorded(annotation, ring).unwrap_or_default();
    Some(Witness {
        who: format!("policy {}", policy.name_any()),
        policy: policy.name_any().parse().ok(),
        high_water,
        sequence: Some(mark.state.sequence),
    })
}

fn witness(who: String, high_water: HighWater) -> Witness {
    Witness { who, policy: None, high_water, sequence: None }
}

/// The versions that a status names, those whose public key has the
/// fingerprint that stands beside it.
#[must_use]
pub fn versions(status: &SigningKeyRingStatus) -> Vec<KnownVersion> {
    let numbered = status.versions.iter().rev().filter(|v| v.version < MOST_WITNESSED);
    let sound = numbered.filter_map(|v| {
        let real = fingerprint_of(&v.public_key).ok()?;
        (real.as_str() == v.fingerprint).then_some((v, real))
    });
    sound
        .map(|(v, fingerprint)| KnownVersion {
            number: v.version,
            state: state(v.state),
            public_key: v.public_key.clone(),
            fingerprint,
            created_at: v.created_at.0,
            activated_at: v.activated_at.as_ref().map(|time| time.0),
            record: record(v),
        })
        .filter(KnownVersion::is_sound)
        .collect()
}
