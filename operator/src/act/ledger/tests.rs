//! Which private keys a commit takes out of a ledger's Secret.

use jiff::Timestamp;
use signingkeyring_core::{
    ledger::{Cause, RuleSettings},
    policy_ref::{Action, PolicyRef},
};

use super::*;

fn mint(base: Option<&Ledger>, version: u32) -> Ledger {
    let policy = PolicyRef::new(Action::Enforce, 1);
    let rule = RuleSettings::of(policy);
    let key = NewKey {
        public_key: format!("-----BEGIN PUBLIC KEY-----\n{version}\n-----END PUBLIC KEY-----\n"),
        fingerprint: format!("SHA256:{version}").parse().unwrap(),
        private_key: PrivateKeyRef { digest: String::new(), secret: None },
    };
    let mint = Mint::New { version, token: None, cause: Cause::First, rule };
    Ledger::mint(base, &mint, key, Timestamp::UNIX_EPOCH).unwrap()
}

/// The ledger after a change, and what its commit takes out.
fn after(base: &Ledger, change: &Change) -> (Ledger, Vec<String>) {
    let next = Ledger::apply(Some(base), change, Timestamp::UNIX_EPOCH).unwrap();
    let dropped = &may_hold(base) - &private_entries(&next);
    (next, dropped.into_iter().collect())
}

#[test]
fn the_commit_that_activates_a_version_takes_out_the_key_of_the_one_before() {
    let ledger = mint(None, 1);
    let (ledger, dropped) =
        after(&ledger, &Change::Acknowledge { version: 1, add: BTreeSet::new() });
    assert_eq!(dropped, [""; 0]);
    let (ledger, dropped) = after(&ledger, &Change::Activate { version: 1, keep: 2 });
    assert_eq!(dropped, [""; 0]);
    let rotated = mint(Some(&ledger), 2);
    assert_eq!(&may_hold(&ledger) - &private_entries(&rotated), BTreeSet::new());
    let (rotated, dropped) =
        after(&rotated, &Change::Acknowledge { version: 2, add: BTreeSet::new() });
    assert_eq!(dropped, [""; 0]);
    let (_, dropped) = after(&rotated, &Change::Activate { version: 2, keep: 2 });
    assert_eq!(dropped, ["v1.key", "v1.password"]);
}
