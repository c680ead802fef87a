//! Each check is shown a history that it must object to.

use base64ct::{Base64, Encoding};
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::history::Id;

/// Builds a history, one state after the other.
#[derive(Default)]
struct Story {
    events: Vec<Event>,
}

impl Story {
    fn then(mut self, kind: Kind, namespace: &str, name: &str, object: Option<Value>) -> Self {
        let version = self.events.len() as u64 + 1;
        let id = Id { kind, namespace: namespace.to_owned(), name: name.to_owned() };
        self.events.push(Event { version, at: Instant::now(), id, object });
        self
    }

    fn ring(self, keep: u32) -> Self {
        let ring = json!({
            "kind": "SigningKeyRing",
            "metadata": {"name": "x01"},
            "spec": {"keepVersions": keep, "pipelines": [{"namespace": "x01-ci"}]},
        });
        self.then(Kind::Ring, "", "x01", Some(ring))
    }

    fn deleting(self) -> Self {
        let ring = json!({
            "kind": "SigningKeyRing",
            "metadata": {"name": "x01", "deletionTimestamp": "2026-01-01T00:00:00Z"},
        });
        self.then(Kind::Ring, "", "x01", Some(ring))
    }

    fn enrolled(self) -> Self {
        let namespace = json!({"metadata": {"labels": {"signing.odj.cloud/ring": "x01"}}});
        self.then(Kind::Namespace, "", "x01-dev", Some(namespace))
    }

    fn ledger(self, rows: &[(u64, &str, &str)]) -> Self {
        self.ledger_that(rows, false)
    }

    fn removed(self) -> Self {
        self.ledger_that(&[(1, "Current", "A")], true)
    }

    fn ledger_that(self, rows: &[(u64, &str, &str)], removed: bool) -> Self {
        let versions: Vec<Value> = rows
            .iter()
            .map(|(number, state, key)| {
                json!({"number": number, "state": state, "publicKey": key, "fingerprint": key})
            })
            .collect();
        let rule = json!({"sequence": 1, "settings": {"action": "Enforce", "policy": "p"}});
        let ledger = json!({
            "versions": versions, "tokens": [], "publications": [], "rule": rule, "removed": removed,
        });
        let text = json!({"format": 2, "digest": "", "ledger": ledger}).to_string();
        let ledger = json!({
            "type": "signing.odj.cloud/key-ring",
            "metadata": {"annotations": {"signing.odj.cloud/ledger": text}},
        });
        self.then(Kind::Secret, "x01-system", "ring-x01", Some(ledger))
    }

    fn policy(self, keys: &[&str]) -> Self {
        let entries: Vec<Value> =
            keys.iter().map(|key| json!({"keys": {"publicKeys": key}})).collect();
        let policy = json!({"spec": {"rules": [{"name": "x01", "verifyImages": [
            {"failureAction": "Enforce", "attestors": [{"count": 1, "entries": entries}]},
        ]}]}});
        self.then(Kind::Policy, "", "x01-enforce-0001", Some(policy))
    }

    fn no_policy(self) -> Self {
        self.then(Kind::Policy, "", "x01-enforce-0001", None)
    }

    fn pipeline(self, key: &str) -> Self {
        let secret = json!({
            "metadata": {"annotations": {"signing.odj.cloud/ring": "x01"}},
            "data": {"cosign.pub": Base64::encode_string(key.as_bytes())},
        });
        self.then(Kind::Secret, "x01-ci", "image-signing", Some(secret))
    }

    fn foreign(self, object: Option<Value>) -> Self {
        self.then(Kind::Secret, "x01-foreign", "image-signing", object)
    }

    /// What the checks object to; `minted` keys were asked for.
    fn objections(&self, minted: usize) -> Vec<String> {
        let foreign = [Id {
            kind: Kind::Secret,
            namespace: "x01-foreign".into(),
            name: "image-signing".into(),
        }];
        check(&self.events, &Expected { ring: "x01", minted, foreign: &foreign })
    }

    #[track_caller]
    fn objected(&self, minted: usize, invariant: &str, words: &str) {
        let objections = self.objections(minted);
        assert!(
            objections.len() == 1
                && objections[0].starts_with(&format!("{invariant}: "))
                && objections[0].contains(words),
            "{objections:?}"
        );
    }
}

/// Version 1 is minted, accepted and published.
fn born() -> Story {
    Story::default()
        .enrolled()
        .ring(2)
        .ledger(&[(1, "Pending", "A")])
        .policy(&["A"])
        .pipeline("A")
        .ledger(&[(1, "Current", "A")])
}

fn rotated() -> Story {
    born()
        .ledger(&[(1, "Current", "A"), (2, "Pending", "B")])
        .policy(&["B", "A"])
        .pipeline("B")
        .ledger(&[(1, "Accepted", "A"), (2, "Current", "B")])
}

#[test]
fn a_good_history_is_not_objected_to() {
    assert_eq!(born().objections(1), [] as [&str; 0]);
    assert_eq!(rotated().objections(2), [] as [&str; 0]);
}

#[test]
fn no_gap_a_key_before_its_policy() {
    let early = born()
        .ledger(&[(1, "Current", "A"), (2, "Pending", "B")])
        .pipeline("B")
        .policy(&["B", "A"])
        .ledger(&[(1, "Accepted", "A"), (2, "Current", "B")]);
    early.objected(2, "no-gap", "got version 2, which is not accepted");
}

#[test]
fn no_gap_a_key_that_a_pipeline_holds_leaves() {
    let left = born()
        .ledger(&[(1, "Accepted", "A"), (2, "Current", "B")])
        .policy(&["B"])
        .policy(&["B", "A"]);
    left.objected(2, "no-gap", "version 1 left a policy and x01-ci holds it");
}

#[test]
fn window_too_much_or_too_little_is_accepted() {
    let third = rotated()
        .ledger(&[(1, "Accepted", "A"), (2, "Accepted", "B"), (3, "Pending", "C")])
        .policy(&["C", "B", "A"])
        .pipeline("C")
        .ledger(&[(1, "Retired", "A"), (2, "Accepted", "B"), (3, "Current", "C")]);
    third.objected(3, "window", "accepts {1, 2, 3}, the window is {2, 3}");
    rotated().policy(&["B"]).objected(2, "window", "accepts {2}, the window is {1, 2}");
}

#[test]
fn exactly_once_a_request_mints_two_keys() {
    rotated().objected(1, "exactly-once", "1 keys were asked for, 2 minted");
}

#[test]
fn no_mint_over_a_loss_a_number_is_given_twice() {
    let twice = born().ledger(&[(1, "Current", "B")]);
    assert!(twice.objections(1)[0].contains("version 1 has two keys"));
    let back = rotated().ledger(&[(1, "Current", "A")]);
    assert!(back.objections(2)[0].contains("after version 2 the newest is version 1"));
    let one_key = born().ledger(&[(1, "Accepted", "A"), (2, "Current", "A")]);
    assert!(one_key.objections(2)[0].contains("versions 1 and 2 have one key"));
}

#[test]
fn revoked_stays_revoked_a_revoked_version_returns() {
    let revoked = || rotated().ledger(&[(1, "Revoked", "A"), (2, "Current", "B")]).policy(&["B"]);
    assert_eq!(revoked().objections(2), [] as [&str; 0]);
    let again = revoked().policy(&["B", "A"]).policy(&["B"]);
    again.objected(2, "revoked-stays-revoked", "revoked version 1 is accepted again");
    let state = revoked().ledger(&[(1, "Accepted", "A"), (2, "Current", "B")]);
    assert!(state.objections(2)[0].contains("version 1 was revoked and is Accepted"));
    let published = revoked().pipeline("A").pipeline("B");
    assert!(published.objections(2).iter().any(|o| o.contains("revoked version 1 was published")));
}

#[test]
fn closed_not_open_the_rule_goes_or_is_empty() {
    born().no_policy().policy(&["A"]).objected(1, "closed-not-open", "the rule is in no policy");
    let empty = born().policy(&[]).policy(&["A"]);
    assert!(empty.objections(1)[0].contains("verifies nothing"));
    // Deleted, but a namespace is still enrolled.
    born().deleting().no_policy().objected(1, "closed-not-open", "the rule is in no policy");
    let gone = born().deleting().then(Kind::Namespace, "", "x01-dev", None).no_policy();
    assert_eq!(gone.objections(1), [] as [&str; 0]);
}

#[test]
fn not_ours_not_touched_a_foreign_object_is_touched() {
    let theirs = || born().foreign(Some(json!({"data": {}})));
    assert_eq!(theirs().objections(1), [] as [&str; 0]);
    theirs().foreign(Some(json!({"data": {"a": "b"}}))).objected(
        1,
        "not-ours-not-touched",
        "was written",
    );
    theirs().foreign(None).objected(1, "not-ours-not-touched", "was deleted");
}

#[test]
fn closed_not_open_a_ring_that_may_leave_enrolled_namespaces() {
    let annotations = json!({"signing.odj.cloud/allow-unenforced-deletion": "true"});
    let ring = json!({
        "kind": "SigningKeyRing",
        "metadata": {
            "name": "x01", "annotations": annotations, "deletionTimestamp": "2026-01-01T00:00:00Z",
        },
    });
    let gone = |story: Story| story.no_policy().then(Kind::Ring, "", "x01", None);
    let released = born().then(Kind::Ring, "", "x01", Some(ring));
    assert_eq!(gone(released).objections(1), [] as [&str; 0]);
    gone(born().deleting()).objected(1, "closed-not-open", "the rule is in no policy");
}

#[test]
fn known_keys_only_a_removed_ring_comes_back() {
    let removed =
        || born().then(Kind::Namespace, "", "x01-dev", None).deleting().removed().no_policy();
    let gone = |story: Story| story.then(Kind::Ring, "", "x01", None);
    assert_eq!(gone(removed()).objections(1), [] as [&str; 0]);
    let back = removed().policy(&["A"]).no_policy();
    gone(back).objected(1, "known-keys-only", "is back in x01-enforce-0001");
    let stays = born().then(Kind::Namespace, "", "x01-dev", None).deleting().removed();
    gone(stays).objected(1, "known-keys-only", "the ring is gone and its rule is in");
}

#[test]
fn another_ring_of_the_view_is_another_matter() {
    let theirs = |name: &str| json!({"metadata": {"name": name}, "spec": {"keepVersions": 1}});
    let text = json!({"ledger": {}}).to_string();
    let ledger = json!({
        "type": "signing.odj.cloud/key-ring",
        "metadata": {"annotations": {"signing.odj.cloud/ledger": text}},
    });
    // Before this one's in the order of names.
    let story = rotated().then(Kind::Ring, "", "a", Some(theirs("a"))).then(
        Kind::Secret,
        "x01-system",
        "ring-a",
        Some(ledger),
    );
    assert_eq!(story.objections(2), [] as [&str; 0]);
}
