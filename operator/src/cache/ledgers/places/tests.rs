//! Room in the policies, observed and claimed.

use jiff::Timestamp;
use kube::core::DynamicObject;
use serde_json::json;
use signingkeyring_core::{
    ledger::{Cause, Ledger, Mint, NewKey, PrivateKeyRef, RuleSettings},
    names,
    policy_ref::{Action, PolicyKind},
};

use super::{super::LedgerRow, *};
use crate::kyverno;

/// No registry credentials.
static NONE: BTreeSet<String> = BTreeSet::new();

const LIMIT: Occupancy = Occupancy { rings: 2, bytes: 1000 };

fn enforce(number: u32) -> PolicyRef {
    PolicyRef::new(Action::Enforce, number)
}

fn row(policy: PolicyRef) -> LedgerRow {
    let rule = RuleSettings::of(policy);
    let key = NewKey {
        public_key: "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n".to_owned(),
        fingerprint: "SHA256:x".parse().unwrap(),
        private_key: PrivateKeyRef { digest: String::new(), secret: None },
    };
    let mint = Mint::New { version: 1, token: None, cause: Cause::First, rule };
    let ledger = Ledger::mint(None, &mint, key, Timestamp::UNIX_EPOCH).unwrap();
    LedgerRow::sound("1".to_owned(), ledger)
}

fn name(ring: &str) -> RingName {
    ring.parse().unwrap()
}

const KIND: (PolicyKind, Action) = (PolicyKind::ClusterPolicy, Action::Enforce);

fn free_place(ledgers: &Ledgers, ring: &RingName) -> PolicyRef {
    ledgers.free_place(ring, KIND, &NONE, (|_| None, |_| 0), LIMIT)
}

fn held(ledgers: &Ledgers, ring: &str, policy: PolicyRef, bytes: usize) -> Occupancy {
    ledgers.0.read().held(policy, None, &name(ring), bytes)
}

#[test]
fn rings_born_at_once_fill_a_policy_and_no_more() {
    let ledgers = Ledgers::default();
    let rings = ["a", "b", "c"].map(name);
    // All have observed before one of them commits.
    let places = rings.each_ref().map(|ring| free_place(&ledgers, ring));
    assert_eq!(places, [enforce(1); 3]);
    let claims =
        rings.each_ref().map(|ring| ledgers.claim(ring, (places[0], &NONE), None, 0, Some(LIMIT)));
    assert_eq!(claims.each_ref().map(Option::is_some), [true, true, false]);
    // The one that starts over sees the claims of the others.
    assert_eq!(free_place(&ledgers, &name("c")), enforce(2));
    let _c = ledgers.claim(&name("c"), (enforce(2), &NONE), None, 0, Some(LIMIT)).unwrap();
}

#[test]
fn a_claim_ends_with_its_commit_whatever_became_of_it() {
    let ledgers = Ledgers::default();
    let policy = enforce(1);
    let failed = ledgers.claim(&name("a"), (policy, &NONE), None, 0, Some(LIMIT));
    let committed = ledgers.claim(&name("b"), (policy, &NONE), None, 0, Some(LIMIT)).unwrap();
    assert!(ledgers.claim(&name("c"), (policy, &NONE), None, 0, Some(LIMIT)).is_none());
    ledgers.put(&name("b"), row(policy));
    // While a commit ends, its ring counts once.
    assert_eq!(held(&ledgers, "c", policy, 0).rings, 2);
    drop(failed);
    assert_eq!(held(&ledgers, "c", policy, 0).rings, 1);
    drop(committed);
    assert_eq!(held(&ledgers, "c", policy, 0).rings, 1);
    assert_eq!(free_place(&ledgers, &name("c")), policy);
}

#[test]
fn an_event_of_the_state_before_a_move_does_not_end_its_claim() {
    let ledgers = Ledgers::default();
    let (a, b, c) = (name("a"), name("b"), name("c"));
    ledgers.put(&a, row(enforce(1)));
    ledgers.put(&b, row(enforce(2)));
    let _moves = ledgers.claim(&a, (enforce(2), &NONE), None, 0, Some(LIMIT)).unwrap();
    ledgers.put(&a, row(enforce(1)));
    assert!(
        ledgers.claim(&c, (enforce(2), &NONE), None, 0, Some(LIMIT)).is_none(),
        "the room is taken"
    );
}

/// Where a policy has one set of credentials, rings with others are not put there.
#[test]
fn rings_with_other_credentials_share_no_policy_that_has_one_set_of_them() {
    let ledgers = Ledgers::default();
    let [one, two] = [1, 2].map(|n| enforce(n).of_kind(PolicyKind::ImageValidatingPolicy));
    let own = BTreeSet::from(["regcred".to_owned()]);
    let with = |policy: PolicyRef, credentials: &BTreeSet<String>| {
        let mut ledger = Ledger::clone(row(policy).table().unwrap());
        ledger.rule.settings.credentials.clone_from(credentials);
        LedgerRow::sound("1".to_owned(), ledger)
    };
    let (a, b, c) = (name("a"), name("b"), name("c"));
    ledgers.put(&a, with(one, &own));
    let place = |ring: &RingName, credentials: &BTreeSet<String>| {
        let kind = (PolicyKind::ImageValidatingPolicy, Action::Enforce);
        ledgers.free_place(ring, kind, credentials, (|_| None, |_| 0), LIMIT)
    };
    assert_eq!(place(&b, &NONE), two);
    assert_eq!(place(&b, &own), one);
    assert_eq!(place(&a, &NONE), one, "a ring is no other than itself");
    assert!(ledgers.claim(&b, (one, &NONE), None, 0, Some(LIMIT)).is_none());
    let _b = ledgers.claim(&b, (two, &NONE), None, 0, Some(LIMIT)).unwrap();
    assert!(ledgers.0.read().excludes(two, None, &c, &own), "one is being put there");
    assert_eq!(place(&c, &own), one);
    // A ledger was restored.
    ledgers.put(&c, with(one, &NONE));
    assert!(ledgers.is_among_others(&c) && !ledgers.is_among_others(&a));
    // In a ClusterPolicy each rule says its own.
    let each = enforce(1);
    ledgers.put(&a, with(each, &own));
    ledgers.put(&c, with(each, &NONE));
    assert!(!ledgers.is_among_others(&c));
    assert!(!ledgers.0.read().excludes(each, None, &name("d"), &NONE));
}

#[test]
fn observing_takes_no_room() {
    let ledgers = Ledgers::default();
    for ring in ["a", "b", "c"] {
        assert_eq!(free_place(&ledgers, &name(ring)), enforce(1));
    }
    assert_eq!(held(&ledgers, "d", enforce(1), 0).rings, 0);
}

#[test]
fn a_claim_is_as_large_as_the_rings_that_are_there() {
    let ledgers = Ledgers::default();
    let policy = enforce(1);
    ledgers.put(&name("a"), row(policy));
    let limit = Occupancy { rings: 25, bytes: 1000 };
    let _b = ledgers.claim(&name("b"), (policy, &NONE), None, 400, Some(limit)).unwrap();
    assert_eq!(held(&ledgers, "c", policy, 400), Occupancy { rings: 2, bytes: 800 });
    assert!(
        ledgers.claim(&name("c"), (policy, &NONE), None, 400, Some(limit)).is_none(),
        "1,200 bytes would be too many"
    );
    // Of its own claim a ring knows nothing.
    let own = Occupancy { rings: 1, bytes: 400 };
    assert_eq!(held(&ledgers, "b", policy, 400), own);
}

#[test]
fn the_room_of_a_commit_whose_answer_was_lost_stays_taken_until_its_ring_is_seen() {
    let ledgers = Ledgers::default();
    let policy = enforce(1);
    let claim = |ring| ledgers.claim(&name(ring), (policy, &NONE), None, 0, Some(LIMIT));
    ledgers.put(&name("a"), row(policy));
    claim("b").unwrap().leave_taken();
    assert!(claim("c").is_none(), "the ledger of b may have been stored");
    ledgers.put(&name("b"), row(enforce(2)));
    drop(claim("c").unwrap());
    claim("d").unwrap().leave_taken();
    ledgers.release(&name("d"));
    drop(claim("c").unwrap());
    claim("d").unwrap().leave_taken();
    drop(claim("d").unwrap());
    assert!(claim("c").is_some(), "what the ring tries again ends what it tried before");
    ledgers.put(&name("e"), row(enforce(3)));
    claim("e").unwrap().leave_taken();
    assert!(claim("c").is_none());
    ledgers.seen(&name("e"));
    assert!(claim("c").is_some(), "a list shows the ledger of e where it was");
}

/// Looking for room begins where there was none before, whatever frees some.
#[test]
fn room_that_has_become_free_is_found() {
    let ledgers = Ledgers::default();
    for (ring, number) in [("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 3)] {
        ledgers.put(&name(ring), row(enforce(number)));
    }
    assert_eq!(free_place(&ledgers, &name("n")), enforce(3));
    // A ring leaves, or moves.
    ledgers.remove(&name("d"));
    assert_eq!(free_place(&ledgers, &name("n")), enforce(2));
    ledgers.put(&name("a"), row(enforce(2)));
    assert_eq!(free_place(&ledgers, &name("n")), enforce(1));
    // A claim ends, and its own ring does not mind it.
    let claim = ledgers.claim(&name("f"), (enforce(1), &NONE), None, 0, Some(LIMIT)).unwrap();
    assert_eq!(free_place(&ledgers, &name("n")), enforce(3));
    assert_eq!(free_place(&ledgers, &name("f")), enforce(1));
    assert_eq!(free_place(&ledgers, &name("n")), enforce(3));
    drop(claim);
    assert_eq!(free_place(&ledgers, &name("n")), enforce(1));
    // A policy becomes smaller.
    let place = |bytes| ledgers.free_place(&name("n"), KIND, &NONE, (|_| None, |_| bytes), LIMIT);
    assert_eq!(place(600), enforce(4));
    ledgers.has_shrunk(enforce(1));
    assert_eq!(place(0), enforce(1));
}

/// Each commit of a ring would otherwise have the next one that is born look everywhere.
#[test]
fn a_commit_of_a_ring_that_stays_where_it_is_makes_no_room() {
    let ledgers = Ledgers::default();
    for (ring, number) in [("a", 1), ("b", 1), ("c", 2), ("d", 2)] {
        ledgers.put(&name(ring), row(enforce(number)));
    }
    let looked_from = || ledgers.0.read().full_below.get(&KIND).copied();
    assert_eq!(free_place(&ledgers, &name("n")), enforce(3));
    assert_eq!(looked_from(), Some(3));
    ledgers.put(&name("a"), row(enforce(1)));
    assert_eq!(looked_from(), Some(3));
    ledgers.put(&name("c"), row(enforce(1)));
    assert_eq!(looked_from(), Some(2), "it has left the second");
}

#[test]
fn a_claim_elsewhere_ends_the_one_before() {
    let ledgers = Ledgers::default();
    ledgers.put(&name("a"), row(enforce(1)));
    let claim = |number| ledgers.claim(&name("b"), (enforce(number), &NONE), None, 0, Some(LIMIT));
    claim(1).unwrap().leave_taken();
    assert_eq!(free_place(&ledgers, &name("n")), enforce(2));
    let _elsewhere = claim(2).unwrap();
    assert_eq!(free_place(&ledgers, &name("n")), enforce(1));
}

/// Of a ring whose ledger is lost nothing is known but what stands in its policy.
#[test]
fn a_ring_without_a_ledger_takes_up_room_and_has_its_policys_credentials() {
    let ledgers = Ledgers::default();
    let kind = PolicyKind::ImageValidatingPolicy;
    let [policy, next] = [1, 2].map(|number| enforce(number).of_kind(kind));
    let own = BTreeSet::from(["regcred".to_owned()]);
    let stands = |marks: &str| {
        let mut object = DynamicObject::new(&policy.to_string(), &kyverno::resource(kind));
        let annotations = [(names::ANNOTATION_MARKS.to_owned(), marks.to_owned())];
        object.metadata.annotations = Some(annotations.into());
        object.data = json!({"spec": {"credentials": {"secrets": ["regcred"]}}});
        Arc::new(Object::new(Some(kind), &object, None))
    };
    let lost = stands("lost=1.aa.bb");
    let place = |ring: &RingName, credentials| {
        let seen = |found: PolicyRef| (found == policy).then(|| Arc::clone(&lost));
        ledgers.free_place(ring, (kind, Action::Enforce), credentials, (seen, |_| 0), LIMIT)
    };
    let b = name("b");
    assert_eq!((place(&b, &NONE), place(&b, &own)), (next, policy));
    assert_eq!(place(&name("lost"), &NONE), policy, "it is no other than itself");
    assert_eq!(ledgers.0.read().held(policy, Some(&lost), &b, 0).rings, 1);
    let claim = |stands: &Object, credentials| {
        ledgers.claim(&b, (policy, credentials), Some(stands), 0, Some(LIMIT)).is_some()
    };
    assert!(!claim(&lost, &NONE) && claim(&lost, &own));
    assert!(!claim(&stands("lost=1.aa.bb too=1.aa.bb"), &own), "there is no room");
    // One that has left and is about to be taken out is known.
    ledgers.put(&name("lost"), row(enforce(2)));
    assert_eq!(place(&b, &NONE), policy);
}

/// A ring that is alone in its policy has that ask with other credentials, while another
/// ring joins it with the ones that it had.
#[test]
fn credentials_change_where_a_ring_is_only_while_nobody_joins_it() {
    let ledgers = Ledgers::default();
    let policy = enforce(1).of_kind(PolicyKind::ImageValidatingPolicy);
    let own = BTreeSet::from(["regcred".to_owned()]);
    let (a, b) = (name("a"), name("b"));
    ledgers.put(&a, row(policy));
    let changes = |limit| ledgers.claim(&a, (policy, &own), None, 0, limit);
    let joins = || ledgers.claim(&b, (policy, &NONE), None, 0, Some(LIMIT));
    let joining = joins().unwrap();
    assert!(changes(None).is_none(), "another is being put there");
    drop(joining);
    let changing = changes(None).unwrap();
    assert!(joins().is_none(), "it is about to have others");
    drop(changing);
    // It is there, whatever room there is.
    let full = Occupancy { rings: 1, bytes: 1 };
    assert!(changes(Some(full)).is_none() && changes(None).is_some());
}
