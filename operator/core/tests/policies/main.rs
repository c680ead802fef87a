//! The plan of a policy: which rules it keeps, and what it makes of hostile ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod hostile;
mod kept;
mod known;
mod unasked;
mod unknown;
mod urgent;

use jiff::Timestamp;
use signingkeyring_core::{
    fingerprint::Fingerprint,
    ledger::{Change, Ledger, Mint, NewKey, PrivateKeyRef, RuleSettings},
    policy::cluster_policy::ClusterPolicy,
    policy_ref::{Action, PolicyRef},
};

const POLICY: PolicyRef = PolicyRef::new(Action::Enforce, 1);

const KIND: ClusterPolicy<'_> = ClusterPolicy {
    policy: POLICY,
    excluded: &[],
    operator_namespace: "signing-system",
    enrolment_label: "signing.odj.cloud/ring",
    questions: Some("crd-1"),
    lists: Some("crd-2"),
    now: Timestamp::UNIX_EPOCH,
};

/// The fingerprint of a key as these tests make them.
fn fingerprint(public_key: &str) -> Option<Fingerprint> {
    format!("SHA256:{}", public_key.lines().nth(1)?).parse().ok()
}

/// A ledger that has rotated until it has this many versions.
fn ledger(versions: u32) -> Ledger {
    let rule = RuleSettings {
        action: Action::Enforce,
        exclude: Vec::new(),
        policy: POLICY,
        leaving: None,
    };
    let mut ledger = None;
    for version in 1..=versions {
        let key = NewKey {
            public_key: format!(
                "-----BEGIN PUBLIC KEY-----\n{version}\n-----END PUBLIC KEY-----\n"
            ),
            fingerprint: format!("SHA256:{version}").parse().unwrap(),
            private_key: PrivateKeyRef { digest: "00".into(), secret: None },
        };
        let mint = Mint::New { version, token: None, standby: false, rule: rule.clone() };
        let minted = Ledger::mint(ledger.as_ref(), &mint, key, Timestamp::UNIX_EPOCH).unwrap();
        let activate = Change::Activate { version, keep: 3 };
        ledger = Some(Ledger::apply(Some(&minted), &activate, Timestamp::UNIX_EPOCH).unwrap());
    }
    ledger.unwrap()
}
