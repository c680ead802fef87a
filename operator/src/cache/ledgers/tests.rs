//! Room in the policies, observed and claimed.

use jiff::Timestamp;
use signingkeyring_core::{
    ledger::{Mint, NewKey, PrivateKeyRef, RuleSettings},
    policy::packing,
    policy_ref::Action,
};

use super::*;

const LIMIT: Occupancy = Occupancy { rings: 2, bytes: 1000 };

fn enforce(number: u32) -> PolicyRef {
    PolicyRef::new(Action::Enforce, number)
}

fn row(policy: PolicyRef) -> LedgerRow {
    let rule = RuleSettings { action: Action::Enforce, exclude: Vec::new(), policy, leaving: None };
    let key = NewKey {
        public_key: "-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n".to_owned(),
        fingerprint: "SHA256:x".parse().unwrap(),
        private_key: PrivateKeyRef { digest: String::new(), secret: None },
    };
    let mint = Mint::New { version: 1, token: None, standby: false, rule };
    let ledger = Ledger::mint(None, &mint, key, Timestamp::UNIX_EPOCH).unwrap();
    LedgerRow::sound("1".to_owned(), ledger)
}

fn name(ring: &str) -> RingName {
    ring.parse().unwrap()
}

fn free_place(ledgers: &Ledgers, ring: &RingName) -> PolicyRef {
    packing::place(Action::Enforce, &ledgers.occupancy(ring, &HashMap::new()), LIMIT)
}

#[test]
fn rings_born_at_once_fill_a_policy_and_no_more() {
    let ledgers = Ledgers::default();
    let rings = ["a", "b", "c"].map(name);
    // All have observed before one of them commits.
    let places = rings.each_ref().map(|ring| free_place(&ledgers, ring));
    assert_eq!(places, [enforce(1); 3]);
    let claims = rings.each_ref().map(|ring| ledgers.claim(ring, places[0], 0, LIMIT));
    assert_eq!(claims.each_ref().map(Option::is_some), [true, true, false]);
    // The one that starts over sees the claims of the others.
    assert_eq!(free_place(&ledgers, &name("c")), enforce(2));
    let _c = ledgers.claim(&name("c"), enforce(2), 0, LIMIT).unwrap();
}

#[test]
fn a_claim_ends_with_its_commit_whatever_became_of_it() {
    let ledgers = Ledgers::default();
    let policy = enforce(1);
    let failed = ledgers.claim(&name("a"), policy, 0, LIMIT);
    let committed = ledgers.claim(&name("b"), policy, 0, LIMIT).unwrap();
    assert!(ledgers.claim(&name("c"), policy, 0, LIMIT).is_none());
    ledgers.put(&name("b"), row(policy));
    // While a commit ends, its ring counts once.
    assert_eq!(ledgers.occupancy(&name("c"), &HashMap::new())[&policy].rings, 2);
    drop(failed);
    assert_eq!(ledgers.occupancy(&name("c"), &HashMap::new())[&policy].rings, 1);
    drop(committed);
    assert_eq!(ledgers.occupancy(&name("c"), &HashMap::new())[&policy].rings, 1);
    assert_eq!(free_place(&ledgers, &name("c")), policy);
}

#[test]
fn an_event_of_the_state_before_a_move_does_not_end_its_claim() {
    let ledgers = Ledgers::default();
    let (a, b, c) = (name("a"), name("b"), name("c"));
    ledgers.put(&a, row(enforce(1)));
    ledgers.put(&b, row(enforce(2)));
    let _moves = ledgers.claim(&a, enforce(2), 0, LIMIT).unwrap();
    ledgers.put(&a, row(enforce(1)));
    assert!(ledgers.claim(&c, enforce(2), 0, LIMIT).is_none(), "the room is taken");
}

#[test]
fn observing_takes_no_room() {
    let ledgers = Ledgers::default();
    for ring in ["a", "b", "c"] {
        assert_eq!(free_place(&ledgers, &name(ring)), enforce(1));
    }
    assert!(ledgers.occupancy(&name("d"), &HashMap::new()).is_empty());
}

#[test]
fn a_claim_is_as_large_as_the_rings_that_are_there() {
    let ledgers = Ledgers::default();
    let policy = enforce(1);
    ledgers.put(&name("a"), row(policy));
    let limit = Occupancy { rings: 25, bytes: 1000 };
    let sizes = HashMap::from([(policy, 400)]);
    let _b = ledgers.claim(&name("b"), policy, 400, limit).unwrap();
    let held = Occupancy { rings: 2, bytes: 800 };
    assert_eq!(ledgers.occupancy(&name("c"), &sizes)[&policy], held);
    assert!(
        ledgers.claim(&name("c"), policy, 400, limit).is_none(),
        "1,200 bytes would be too many"
    );
    // Of its own claim a ring knows nothing.
    let own = Occupancy { rings: 1, bytes: 400 };
    assert_eq!(ledgers.occupancy(&name("b"), &sizes)[&policy], own);
}

#[test]
fn the_room_of_a_commit_whose_answer_was_lost_stays_taken_until_its_ring_is_seen() {
    let ledgers = Ledgers::default();
    let policy = enforce(1);
    let claim = |ring| ledgers.claim(&name(ring), policy, 0, LIMIT);
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
}
