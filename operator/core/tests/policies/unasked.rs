//! No policy is written while the cluster does not serve the kind by which Kyverno
//! is asked about it; and one that Kyverno may have loaded without it is written anew.

use jiff::Timestamp;
use signingkeyring_core::{
    ledger::{Change, Ledger},
    names,
    policy::{
        Metadata, PolicySnapshot, Rendered, Step,
        cluster_policy::{ClusterPolicy, read},
        plan_policy,
        snapshot::{ObjectSeen, WrittenSeen},
    },
};

use crate::{
    KIND, fingerprint, ledger,
    urgent::{policy, revoked, ring, snapshot, write},
};

const UNSERVED: ClusterPolicy<'_> = ClusterPolicy { questions: None, ..KIND };

fn unserved(found: &Rendered, rotated: bool) -> PolicySnapshot {
    let versions = if rotated { 4 } else { 3 };
    let rings = ["pay", "shop"].map(|name| (name, ring(ledger(versions), Vec::new())));
    PolicySnapshot { can_be_asked: false, ..snapshot(found, rings.into()) }
}

#[test]
fn nothing_is_written_that_kyverno_could_not_be_asked_about() {
    let found = policy();
    for rotated in [false, true] {
        let seen = unserved(&found, rotated);
        assert_eq!(plan_policy(&seen, &UNSERVED).step, Step::Wait);
        let absent = PolicySnapshot { found: ObjectSeen::Absent, ..seen };
        assert_eq!(plan_policy(&absent, &UNSERVED).step, Step::Wait);
    }
}

#[test]
fn a_revoked_key_leaves_all_the_same() {
    let found = policy();
    let mut seen = unserved(&found, false);
    seen.rings.insert("shop".to_owned(), ring(revoked(3, 2), Vec::new()));
    let urgent = write(plan_policy(&seen, &UNSERVED));
    assert!(urgent.urgent_for.is_some());
    assert_eq!(urgent.content.rules["shop"].rule.public_keys().count(), 2);
}

#[test]
fn an_edit_is_undone_all_the_same() {
    let found = policy();
    let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
    let stored = read(metadata, &found.spec, fingerprint);
    let mut seen = unserved(&found, false);
    seen.written = Some(WrittenSeen { sent: stored.spec, stored, is_ahead: false });
    assert_eq!(plan_policy(&seen, &UNSERVED).step, Step::Wait);
    let mut edited = found.clone();
    edited.spec["rules"].as_array_mut().unwrap().pop();
    let metadata = Metadata { annotations: &edited.annotations, labels: &edited.labels };
    let edited = read(metadata, &edited.spec, fingerprint);
    for found in [ObjectSeen::Ours(edited), ObjectSeen::Absent] {
        let seen = PolicySnapshot { found, ..seen.clone() };
        assert!(write(plan_policy(&seen, &UNSERVED)).drifted);
    }
}

#[test]
fn a_ring_leaves_all_the_same() {
    let found = policy();
    let mut seen = unserved(&found, false);
    let rule = ledger(3).rule.settings;
    let removed = Change::Remove { rule, above: 0 };
    let removed = Ledger::apply(Some(&ledger(3)), &removed, Timestamp::UNIX_EPOCH).unwrap();
    seen.rings.insert("shop".to_owned(), ring(removed, Vec::new()));
    let content = write(plan_policy(&seen, &UNSERVED)).content;
    assert!(content.rules.keys().eq(["pay"]), "{content:?}");
}

/// An older Kyverno executes it in another way, and its CRD may have dropped a field.
#[test]
fn what_kyverno_is_too_old_for_is_only_taken_out() {
    let found = policy();
    let older = |rings: [Ledger; 2]| {
        let rings = ["pay", "shop"].into_iter().zip(rings);
        let rings = rings.map(|(name, table)| (name, ring(table, Vec::new()))).collect();
        PolicySnapshot { executed: false, ..snapshot(&found, rings) }
    };
    let same = older([ledger(3), ledger(3)]);
    let absent = PolicySnapshot { found: ObjectSeen::Absent, ..same.clone() };
    let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
    let stored = read(metadata, &found.spec, fingerprint);
    let mut dropped = found.clone();
    dropped.spec["rules"].as_array_mut().unwrap().pop();
    let metadata = Metadata { annotations: &dropped.annotations, labels: &dropped.labels };
    let dropped = PolicySnapshot {
        written: Some(WrittenSeen { sent: stored.spec, stored, is_ahead: false }),
        found: ObjectSeen::Ours(read(metadata, &dropped.spec, fingerprint)),
        ..same
    };
    for seen in [older([ledger(3), ledger(4)]), absent, dropped] {
        assert_eq!(plan_policy(&seen, &KIND).step, Step::Wait);
    }
    let urgent = write(plan_policy(&older([ledger(3), revoked(3, 2)]), &KIND));
    assert!(urgent.urgent_for.is_some() && !urgent.drifted);
    let rule = ledger(3).rule.settings;
    let removed = Change::Remove { rule, above: 0 };
    let removed = Ledger::apply(Some(&ledger(3)), &removed, Timestamp::UNIX_EPOCH).unwrap();
    let content = write(plan_policy(&older([ledger(3), removed]), &KIND)).content;
    assert!(content.rules.keys().eq(["pay"]), "{content:?}");
}

#[test]
fn the_last_ring_may_leave() {
    let found = policy();
    let mut seen = unserved(&found, false);
    seen.rings.clear();
    seen.found = ObjectSeen::Ours(read(
        Metadata { annotations: &[].into(), labels: &found.labels },
        &found.spec,
        fingerprint,
    ));
    assert_eq!(plan_policy(&seen, &UNSERVED).step, Step::Delete);
}

#[test]
fn a_policy_is_written_anew_when_the_kind_was_installed_anew() {
    let found = policy();
    let rings = ["pay", "shop"].map(|name| (name, ring(ledger(3), Vec::new())));
    let seen = snapshot(&found, rings.into());
    assert!(matches!(plan_policy(&seen, &KIND).step, Step::UpToDate(_)));
    let again = ClusterPolicy { questions: Some("crd-2"), ..KIND };
    let content = write(plan_policy(&seen, &again)).content;
    let written = again.compose(&content, |_, ring| {
        signingkeyring_core::policy::cluster_policy::rules_of(&found.spec, ring)
    });
    let written = written.unwrap();
    assert_eq!(written.spec, found.spec, "an annotation is enough for Kyverno to load it again");
    assert_eq!(written.annotations[names::ANNOTATION_QUESTIONS], "crd-2");
}
