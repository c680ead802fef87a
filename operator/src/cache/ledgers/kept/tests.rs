use jiff::Timestamp;
use signingkeyring_core::{
    ledger::{Cause, Change, Mint, NewKey, PipelineRef, PrivateKeyRef},
    policy_ref::{Action, PolicyRef},
};

use super::*;

/// A key, and the fingerprint that follows from it.
const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE29Lz00vuv3cSHvKW066mJWJCieHc\ntYuL1NvHTfAiKVeUoWu+fldi0Os+iQq8Ju00WH5SEz7bgJ4+NEs7ODj7nw==\n-----END PUBLIC KEY-----\n";
const FINGERPRINT: &str = "SHA256:nADlq96Wwn7BbI7XZD0S6bhYFENFtZMii/U79PCPGoo=";

/// A ledger with a key that is as it is usual, and one that is not.
fn ledger() -> Ledger {
    let policy = PolicyRef::new(Action::Enforce, 1);
    let now = Timestamp::UNIX_EPOCH;
    let mut ledger = None;
    let unusual = ("-----BEGIN PUBLIC KEY-----\nx\n-----END PUBLIC KEY-----\n", "SHA256:x");
    for (version, (key, fingerprint)) in [(1, (KEY, FINGERPRINT)), (2, unusual)] {
        let rule = RuleSettings::of(policy);
        let mint = Mint::New { version, token: None, cause: Cause::First, rule };
        let key = NewKey {
            public_key: key.to_owned(),
            fingerprint: fingerprint.parse().unwrap(),
            private_key: PrivateKeyRef { digest: format!("digest {version}"), secret: None },
        };
        let minted = Ledger::mint(ledger.as_ref(), &mint, key, now).unwrap();
        ledger = Some(minted);
        if version == 1 {
            let activate = Change::Activate { version, keep: 3 };
            ledger = Some(Ledger::apply(ledger.as_ref(), &activate, now).unwrap());
        }
    }
    let mut ledger = ledger.unwrap();
    for namespace in ["ci", "cd"] {
        let secret = PipelineRef { namespace: namespace.to_owned(), name: "signing".to_owned() };
        ledger.publications.hold(secret);
    }
    ledger
}

fn rows() -> [LedgerRow; 4] {
    let (version, table) = ("7".to_owned(), Arc::new(ledger()));
    let damages = [
        Damage::KeysUnchecked { table: Arc::clone(&table) },
        Damage::KeysUnfit { why: "it is another one".to_owned(), table },
        Damage::Unreadable { why: "it is cut".to_owned() },
    ];
    let [unchecked, unfit, unreadable] =
        damages.map(|damage| LedgerRow::damaged(version.clone(), damage));
    [LedgerRow::sound(version, ledger()), unchecked, unfit, unreadable]
}

#[test]
fn a_ledger_comes_out_as_it_went_in() {
    for row in rows() {
        let kept = Kept::of(row.clone());
        assert_eq!(kept.is_unchecked(), row.unchecked().is_some());
        assert_eq!(kept.outline().is_some(), row.table().is_some());
        let found = kept.row();
        assert_eq!(found.resource_version, row.resource_version);
        assert_eq!(found.ledger, row.ledger);
    }
}

#[test]
fn what_others_ask_stands_beside_it() {
    let [sound, unchecked, ..] = rows().map(Kept::of);
    let outline = sound.outline().unwrap();
    assert!(outline.is_sound && !unchecked.outline().unwrap().is_sound);
    assert_eq!(outline.state, ledger().rule_state());
    assert_eq!(outline.settings, ledger().rule.settings);
    assert!(outline.signs && outline.rotates && outline.has_pending && outline.awaits_kyverno);
    assert!(outline.in_progress() && !outline.removed);
    let mut switched = ledger();
    let activate = Change::Activate { version: 2, keep: 3 };
    switched = Ledger::apply(Some(&switched), &activate, Timestamp::UNIX_EPOCH).unwrap();
    let outline = Outline::of(&switched, true);
    assert!(outline.signs && !outline.rotates && !outline.has_pending && !outline.in_progress());
}

#[test]
fn its_keys_and_namespaces_are_found_without_unpacking_all() {
    let [sound, .., unreadable] = rows().map(Kept::of);
    for fingerprint in [FINGERPRINT, "SHA256:x"] {
        let fingerprint = fingerprint.parse().unwrap();
        assert!(sound.may_know(&fingerprint) && !unreadable.may_know(&fingerprint));
    }
    assert!(!sound.may_know(&"SHA256:y".parse().unwrap()));
    let mut revoked = ledger();
    let revoke = Change::Revoke { versions: [1].into(), promote: None, keep: 3 };
    revoked = Ledger::apply(Some(&revoked), &revoke, Timestamp::UNIX_EPOCH).unwrap();
    revoked.versions.retain(|version| version.number != 1);
    let revoked = Kept::of(LedgerRow::sound("8".to_owned(), revoked));
    assert!(revoked.may_know(&FINGERPRINT.parse().unwrap()), "it outlives its row");
    assert!(sound.publishes_in("ci") && sound.publishes_in("cd") && !sound.publishes_in("prod"));
    assert!(!unreadable.publishes_in("ci"));
}
