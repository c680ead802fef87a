//! Whether the key pair of `spec.importFrom` is there, from its Secret's
//! metadata, and whether another ring has it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use signingkeyring_core::{
    fingerprint::Fingerprint,
    high_water::short,
    ledger::{Hold, Ledger, PipelineRef},
    names::{self, RingName},
    snapshot::{Import, ImportFound, LedgerFound},
};
use signingkeyring_crds::{SigningKeyRing, SigningKeyRingSpec};

use super::{is_rights_problem, witness};
use crate::{context::Context, error::brief};

/// Looks only while the ring has no version but those that it gave up.
pub(super) async fn look(
    context: &Context,
    spec: &SigningKeyRingSpec,
    ledger: &LedgerFound,
) -> Option<Import> {
    let has_none = match ledger {
        LedgerFound::Absent => true,
        LedgerFound::Present(ledger) => ledger.awaits_its_first(),
        LedgerFound::Damaged(_) | LedgerFound::Foreign => false,
    };
    let asked = spec.import_from.as_ref().filter(|_| has_none)?;
    let from =
        PipelineRef { namespace: asked.secret.namespace.clone(), name: asked.secret.name.clone() };
    let namespaces = &context.cache.namespaces;
    if !namespaces.exists(&from.namespace) {
        return Some(Import { from, found: ImportFound::Absent });
    }
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &from.namespace);
    let found = match api.get_metadata_opt(&from.name).await {
        Ok(Some(secret)) => match belongs_to_a_ring(secret.annotations()) {
            Some(why) => ImportFound::Failed(why),
            None => ImportFound::Present,
        },
        Ok(None) => ImportFound::Absent,
        // No access can be granted there any more.
        Err(error) if is_rights_problem(&error) && namespaces.is_ending(&from.namespace) => {
            ImportFound::Failed("its namespace is being deleted".to_owned())
        }
        Err(error) if is_rights_problem(&error) => ImportFound::Forbidden,
        Err(error) => ImportFound::Failed(brief(&error)),
    };
    Some(Import { from, found })
}

/// Why a Secret with these annotations is not taken over, if it is a ring's: who
/// may name a Secret may not thereby have another ring's key.
#[must_use]
pub(crate) fn belongs_to_a_ring(annotations: &BTreeMap<String, String>) -> Option<String> {
    let annotation = names::ANNOTATION_RING;
    let ring = annotations.get(annotation)?;
    // Whatever else stands there is not repeated.
    let whose = match ring.parse::<RingName>() {
        Ok(ring) => format!("ring {ring}"),
        Err(_) => "a ring".to_owned(),
    };
    Some(format!(
        "its annotation {annotation} says that it is a pipeline's Secret of {whose}, and a key \
         belongs to one ring. Have spec.importFrom name a key pair of this ring's own, or take it \
         out, and one is generated"
    ))
}

/// The ring that has the key pair first which this one has just taken over. Two
/// rings that did so at once see each other's ledgers here: before that, neither
/// could know.
pub(super) fn shares_key_with(
    context: &Context,
    ring: &RingName,
    spec: &SigningKeyRingSpec,
    ledger: &LedgerFound,
) -> Option<RingName> {
    spec.import_from.as_ref()?;
    let LedgerFound::Present(ledger) = ledger else { return None };
    let fingerprint = &ledger.tentative()?.fingerprint;
    other_holder(context, ring, fingerprint, Hold::goes_first)
}

/// Another ring that keeps this one from taking a key over: its ledger knows it,
/// in whatever state, or, where that cannot be read, the ring's object does.
#[must_use]
pub(crate) fn known_to(
    context: &Context,
    ring: &RingName,
    fingerprint: &Fingerprint,
) -> Option<RingName> {
    other_holder(context, ring, fingerprint, Hold::forbids_import)
        .or_else(|| remembered_by(context, ring, fingerprint))
}

/// Looks into the ledgers that may know the key: imports are rare.
fn other_holder(
    context: &Context,
    ring: &RingName,
    fingerprint: &Fingerprint,
    counts: impl Fn(Hold, bool) -> bool,
) -> Option<RingName> {
    let ledgers = &context.cache.ledgers;
    let seniority = |ring: &RingName| (created(context, ring), ring.clone());
    let own = seniority(ring);
    ledgers.that_may_know(fingerprint).into_iter().filter(|other| other != ring).find(|other| {
        let row = ledgers.get(other.as_str());
        let hold = row.as_ref().and_then(|row| row.table()).map(|table| table.hold(fingerprint));
        hold.is_some_and(|hold| counts(hold, seniority(other) < own))
    })
}

/// When a ring's object was created. A ring without one is older than any other.
fn created(context: &Context, ring: &RingName) -> Option<Timestamp> {
    context.cache.rings.created(ring.as_str())
}

/// Another ring whose ledger cannot be read, and whose object says that it had
/// the key.
fn remembered_by(
    context: &Context,
    ring: &RingName,
    fingerprint: &Fingerprint,
) -> Option<RingName> {
    let names = context.cache.rings.names().into_iter();
    let unknown =
        names.filter(|name| name != ring.as_str() && context.cache.ledgers.outline(name).is_none());
    let mut unknown = unknown.filter(|name| {
        let object = context.cache.ring(name);
        let object = object.as_deref().and_then(|object| object.0.as_ref().ok());
        object.is_some_and(|object| remembers(object, fingerprint))
    });
    unknown.next()?.parse().ok()
}

fn remembers(object: &SigningKeyRing, fingerprint: &Fingerprint) -> bool {
    let versions = object.status.as_ref().map(witness::versions).unwrap_or_default();
    let revoked = short(fingerprint.as_str());
    versions.iter().any(|version| version.fingerprint == *fingerprint)
        || witness::of_ring(object).iter().any(|w| w.high_water.revoked.contains(&revoked))
}

/// Whether a ring's own ledger knows a key that it would take over once more.
#[must_use]
pub(crate) fn is_known(ledger: Option<&Ledger>, fingerprint: &Fingerprint) -> bool {
    ledger.is_some_and(|ledger| ledger.hold(fingerprint) != Hold::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_rings_whatever_its_annotation_says() {
        let annotated = |ring: &str| [(names::ANNOTATION_RING.to_owned(), ring.to_owned())].into();
        let why = belongs_to_a_ring(&annotated("shop")).unwrap();
        assert!(why.contains("a pipeline's Secret of ring shop,"), "{why}");
        for ring in ["", "Not a name", &"x".repeat(100_000)] {
            let why = belongs_to_a_ring(&annotated(ring)).unwrap();
            assert!(why.contains("a pipeline's Secret of a ring,"), "{why}");
        }
        let other = [("example.org/ring".to_owned(), "shop".to_owned())].into();
        assert_eq!(belongs_to_a_ring(&other), None);
        assert_eq!(belongs_to_a_ring(&BTreeMap::new()), None);
    }
}
