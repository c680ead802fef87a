//! Each check is shown a history that it must object to.

use base64ct::{Base64, Encoding};
use serde_json::json;
use tokio::time::Instant;

use super::*;
use crate::{
    fixtures::{self, KINDS},
    history::Id,
};

/// Builds a history, one state after the other, with policies of one kind.
struct Story {
    policies: Kind,
    events: Vec<Event>,
}

impl Story {
    fn of(policies: Kind) -> Self {
        Self { policies, events: Vec::new() }
    }

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
        let policy = fixtures::policy(self.policies, "x01", keys, "x01=1.aa.bb");
        self.pin(Some(fixtures::pin("x01"))).policy_as(Some(policy))
    }

    fn no_policy(self) -> Self {
        self.policy_as(None).pin(None)
    }

    fn policy_as(self, policy: Option<Value>) -> Self {
        let kind = self.policies;
        self.then(kind, "", "x01.enforce-0001", policy)
    }

    /// What ClusterPolicies do without.
    fn pin(self, pin: Option<Value>) -> Self {
        match self.policies {
            Kind::ClusterPolicy => self,
            _ => self.then(Kind::MutatingPolicy, "", "x01.pin-0001", pin),
        }
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
        // What is wrong is said of each state in which it is.
        let is_it =
            |text: &String| text.starts_with(&format!("{invariant}: ")) && text.contains(words);
        assert!(!objections.is_empty() && objections.iter().all(is_it), "{objections:?}");
    }
}

/// Version 1 is minted, accepted and published.
fn born(kind: Kind) -> Story {
    Story::of(kind)
        .enrolled()
        .ring(2)
        .ledger(&[(1, "Pending", "A")])
        .policy(&["A"])
        .pipeline("A")
        .ledger(&[(1, "Current", "A")])
}

fn rotated(kind: Kind) -> Story {
    born(kind)
        .ledger(&[(1, "Current", "A"), (2, "Pending", "B")])
        .policy(&["B", "A"])
        .pipeline("B")
        .ledger(&[(1, "Accepted", "A"), (2, "Current", "B")])
}

#[test]
fn a_good_history_is_not_objected_to() {
    for kind in KINDS {
        assert_eq!(born(kind).objections(1), [] as [&str; 0]);
        assert_eq!(rotated(kind).objections(2), [] as [&str; 0]);
    }
}

#[test]
fn no_gap_a_key_before_its_policy() {
    for kind in KINDS {
        let early = born(kind)
            .ledger(&[(1, "Current", "A"), (2, "Pending", "B")])
            .pipeline("B")
            .policy(&["B", "A"])
            .ledger(&[(1, "Accepted", "A"), (2, "Current", "B")]);
        early.objected(2, "no-gap", "version 2");
    }
}

#[test]
fn no_gap_a_key_that_a_pipeline_holds_leaves() {
    for kind in KINDS {
        let left = born(kind)
            .ledger(&[(1, "Accepted", "A"), (2, "Current", "B")])
            .policy(&["B"])
            .policy(&["B", "A"]);
        left.objected(2, "no-gap", "version 1 left a policy and x01-ci holds it");
    }
}

#[test]
fn window_too_much_or_too_little_is_accepted() {
    for kind in KINDS {
        let third = rotated(kind)
            .ledger(&[(1, "Accepted", "A"), (2, "Accepted", "B"), (3, "Pending", "C")])
            .policy(&["C", "B", "A"])
            .pipeline("C")
            .ledger(&[(1, "Retired", "A"), (2, "Accepted", "B"), (3, "Current", "C")]);
        third.objected(3, "window", "accepts {1, 2, 3}, the window is {2, 3}");
        rotated(kind).policy(&["B"]).objected(2, "window", "accepts {2}, the window is {1, 2}");
    }
}

#[test]
fn exactly_once_a_request_mints_two_keys() {
    for kind in KINDS {
        rotated(kind).objected(1, "exactly-once", "1 keys were asked for, 2 minted");
    }
}

#[test]
fn no_mint_over_a_loss_a_number_is_given_twice() {
    for kind in KINDS {
        let twice = born(kind).ledger(&[(1, "Current", "B")]);
        assert!(twice.objections(1)[0].contains("version 1 has two keys"));
        let back = rotated(kind).ledger(&[(1, "Current", "A")]);
        assert!(back.objections(2)[0].contains("after version 2 the newest is version 1"));
        let one_key = born(kind).ledger(&[(1, "Accepted", "A"), (2, "Current", "A")]);
        assert!(one_key.objections(2)[0].contains("versions 1 and 2 have one key"));
    }
}

#[test]
fn revoked_stays_revoked_a_revoked_version_returns() {
    for kind in KINDS {
        let revoked =
            || rotated(kind).ledger(&[(1, "Revoked", "A"), (2, "Current", "B")]).policy(&["B"]);
        assert_eq!(revoked().objections(2), [] as [&str; 0]);
        let again = revoked().policy(&["B", "A"]).policy(&["B"]);
        again.objected(2, "revoked-stays-revoked", "revoked version 1 is accepted again");
        let state = revoked().ledger(&[(1, "Accepted", "A"), (2, "Current", "B")]);
        assert!(state.objections(2)[0].contains("version 1 was revoked and is Accepted"));
        let published = revoked().pipeline("A").pipeline("B");
        assert!(
            published.objections(2).iter().any(|o| o.contains("revoked version 1 was published"))
        );
    }
}

#[test]
fn closed_not_open_the_rule_goes_or_is_empty() {
    for kind in KINDS {
        born(kind).no_policy().policy(&["A"]).objected(
            1,
            "closed-not-open",
            "the rule is in no policy",
        );
        let empty = born(kind).policy(&[]).policy(&["A"]);
        assert!(empty.objections(1)[0].contains("verifies nothing"));
        // Deleted, but a namespace is still enrolled.
        born(kind).deleting().no_policy().objected(
            1,
            "closed-not-open",
            "the rule is in no policy",
        );
        let gone = born(kind).deleting().then(Kind::Namespace, "", "x01-dev", None).no_policy();
        assert_eq!(gone.objections(1), [] as [&str; 0]);
    }
}

#[test]
fn not_ours_not_touched_a_foreign_object_is_touched() {
    for kind in KINDS {
        let theirs = || born(kind).foreign(Some(json!({"data": {}})));
        assert_eq!(theirs().objections(1), [] as [&str; 0]);
        theirs().foreign(Some(json!({"data": {"a": "b"}}))).objected(
            1,
            "not-ours-not-touched",
            "was written",
        );
        theirs().foreign(None).objected(1, "not-ours-not-touched", "was deleted");
    }
}

#[test]
fn closed_not_open_a_ring_that_may_leave_enrolled_namespaces() {
    for kind in KINDS {
        let annotations = json!({"signing.odj.cloud/allow-unenforced-deletion": "true"});
        let ring = json!({
            "kind": "SigningKeyRing",
            "metadata": {
                "name": "x01", "annotations": annotations, "deletionTimestamp": "2026-01-01T00:00:00Z",
            },
        });
        let gone = |story: Story| story.no_policy().then(Kind::Ring, "", "x01", None);
        let released = born(kind).then(Kind::Ring, "", "x01", Some(ring));
        assert_eq!(gone(released).objections(1), [] as [&str; 0]);
        gone(born(kind).deleting()).objected(1, "closed-not-open", "the rule is in no policy");
    }
}

#[test]
fn known_keys_only_a_removed_ring_comes_back() {
    for kind in KINDS {
        let removed = || {
            born(kind).then(Kind::Namespace, "", "x01-dev", None).deleting().removed().no_policy()
        };
        let gone = |story: Story| story.then(Kind::Ring, "", "x01", None);
        assert_eq!(gone(removed()).objections(1), [] as [&str; 0]);
        let back = removed().policy(&["A"]).no_policy();
        gone(back).objected(1, "known-keys-only", "is back in x01.enforce-0001");
        let stays = born(kind).then(Kind::Namespace, "", "x01-dev", None).deleting().removed();
        gone(stays).objected(1, "known-keys-only", "the ring is gone and its rule is in");
    }
}

#[test]
fn another_ring_of_the_view_is_another_matter() {
    for kind in KINDS {
        let theirs = |name: &str| json!({"metadata": {"name": name}, "spec": {"keepVersions": 1}});
        let text = json!({"ledger": {}}).to_string();
        let ledger = json!({
            "type": "signing.odj.cloud/key-ring",
            "metadata": {"annotations": {"signing.odj.cloud/ledger": text}},
        });
        // Before this one's in the order of names.
        let story = rotated(kind).then(Kind::Ring, "", "a", Some(theirs("a"))).then(
            Kind::Secret,
            "x01-system",
            "ring-a",
            Some(ledger),
        );
        assert_eq!(story.objections(2), [] as [&str; 0]);
    }
}

/// A ring in an ImageValidatingPolicy, changed by somebody's mistake.
fn mistaken(mistake: impl Fn(&mut Value)) -> Story {
    let kind = Kind::ImageValidatingPolicy;
    let mut policy = fixtures::policy(kind, "x01", &["A"], "x01=1.aa.bb");
    mistake(&mut policy["spec"]);
    born(kind).policy_as(Some(policy)).policy(&["A"])
}

#[test]
fn closed_not_open_what_stands_around_the_rings_verifies_less() {
    let mistakes: [fn(&mut Value); 14] = [
        |spec| spec["matchConstraints"]["namespaceSelector"] = json!({}),
        |spec| spec["matchConstraints"]["resourceRules"][0]["operations"] = json!(["CREATE"]),
        |spec| spec["matchConstraints"]["resourceRules"][0]["resources"] = json!(["pods"]),
        |spec| spec["matchConditions"] = json!([{"name": "never", "expression": "false"}]),
        |spec| spec["matchConditions"][1]["expression"] = json!("false"),
        |spec| spec["validationActions"] = json!(["Deny", "Audit"]),
        |spec| spec["failurePolicy"] = json!("Ignore"),
        |spec| spec["validationConfigurations"]["required"] = json!(false),
        |spec| spec["validationConfigurations"]["verifyDigest"] = json!(false),
        |spec| spec["images"][0]["expression"] = json!("[]"),
        |spec| spec["validations"][1]["expression"] = json!("true"),
        |spec| {
            let nobody = r#"{"x01":[]}[?variables.ring].orValue([])"#;
            spec["variables"][0]["expression"] = json!(nobody);
        },
        |spec| spec["attestors"][0]["cosign"]["ctlog"] = json!({}),
        |spec| spec["attestors"][1]["cosign"]["annotations"] = json!({}),
    ];
    for (number, mistake) in mistakes.into_iter().enumerate() {
        let objections = mistaken(mistake).objections(1);
        let is_open = |text: &String| text.starts_with("closed-not-open: ");
        assert!(objections.iter().any(is_open), "mistake {number}: {objections:?}");
    }
}

#[test]
fn window_a_key_of_nobodys_stands_beside_an_accepted_one() {
    let kind = Kind::ImageValidatingPolicy;
    let mut policy = fixtures::policy(kind, "x01", &["A"], "x01=1.aa.bb");
    policy["spec"]["attestors"][1]["cosign"]["key"]["data"] = json!("STRANGER");
    let objections = born(kind).policy_as(Some(policy)).objections(1);
    assert!(objections.iter().any(|text| text.starts_with("window: ")), "{objections:?}");
}

#[test]
fn no_gap_tags_are_refused_and_not_pinned() {
    let kind = Kind::ImageValidatingPolicy;
    let policy = || Some(fixtures::policy(kind, "x01", &["A"], "x01=1.aa.bb"));
    let late =
        Story::of(kind).enrolled().ring(2).ledger(&[(1, "Pending", "A")]).policy_as(policy());
    let late = late.pin(Some(fixtures::pin("x01"))).pipeline("A").ledger(&[(1, "Current", "A")]);
    late.objected(1, "no-gap", "tags are refused by x01.enforce-0001 and not pinned");
    let early = born(kind).pin(None).pin(Some(fixtures::pin("x01")));
    early.objected(1, "no-gap", "tags are refused by x01.enforce-0001 and not pinned");
    let other = born(kind).pin(Some(fixtures::pin("x02"))).pin(Some(fixtures::pin("x01")));
    other.objected(1, "no-gap", "tags are refused by x01.enforce-0001 and not pinned");
}

#[test]
fn settles_a_pin_is_not_its_policys_in_the_end() {
    let kind = Kind::ImageValidatingPolicy;
    let mut pin = fixtures::pin("x01");
    pin["spec"]["variables"][0]["expression"] = json!("cel.bind(excluded, {}, x)");
    born(kind).pin(Some(pin)).objected(1, "settles", "pins other images than are verified");
    let left = born(kind).then(Kind::Namespace, "", "x01-dev", None).deleting().removed();
    let left = left.policy_as(None).then(Kind::Ring, "", "x01", None);
    left.objected(1, "settles", "pins other images than are verified");
}

#[test]
fn a_pin_is_not_a_policy_that_holds_keys() {
    let pin_alone = Story::of(Kind::ImageValidatingPolicy)
        .enrolled()
        .ring(2)
        .ledger(&[(1, "Pending", "A")])
        .pin(Some(fixtures::pin("x01")))
        .pipeline("A")
        .policy(&["A"])
        .ledger(&[(1, "Current", "A")]);
    pin_alone.objected(1, "no-gap", "got version 1, which is not accepted");
}

#[test]
fn a_move_to_the_other_kind_adds_before_it_leaves() {
    let (old, new) = (Kind::ClusterPolicy, Kind::ImageValidatingPolicy);
    let policy = || fixtures::policy(old, "x01", &["A"], "x01=1.aa.bb");
    let add = |mut story: Story| {
        story.policies = new;
        story.policy(&["A"])
    };
    let leave = |story: Story, policy| story.then(old, "", "x01.enforce-0001", policy);
    assert_eq!(leave(add(born(old)), None).objections(1), [] as [&str; 0]);
    let gap = add(leave(born(old), None));
    gap.objected(1, "closed-not-open", "the rule is in no policy");
    leave(add(born(old)), Some(policy())).objected(1, "window", "the rule is in 2 policies");
}
