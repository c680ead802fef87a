//! The ledger parser: what it accepts reads back as it was, can be changed,
//! and puts nothing into a policy but names, keys and image globs. The input
//! is an annotation, or the ledger inside one: the digest around it, which
//! mutations would never hit, is put there.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sha2::{Digest, Sha256};
use signingkeyring_core::{
    ledger::{Cause, Change, Ledger, Mint, NewKey, PrivateKeyRef},
    policy::cluster_policy::ClusterPolicy,
};

fuzz_target!(|text: &str| {
    let _ = Ledger::parse(text);
    let digest = base16ct::lower::encode_string(&Sha256::digest(text.as_bytes()));
    let sealed = format!(r#"{{"format":2,"digest":"{digest}","ledger":{text}}}"#);
    let Ok(ledger) = Ledger::parse(&sealed) else { return };
    assert_eq!(Ledger::parse(&ledger.to_json()).as_ref(), Ok(&ledger));
    changed(&ledger);
    for policy in ledger.rule.settings.policies() {
        let kind = ClusterPolicy {
            policy,
            excluded: &ledger.rule.settings.exclude,
            operator_namespace: "signing-system",
            enrolment_label: "signing.odj.cloud/ring",
            questions: Some("crd-1"),
            lists: Some("crd-2"),
            now: Timestamp::UNIX_EPOCH,
        };
        let rules = BTreeMap::from([("shop".to_owned(), kind.ring_rule("shop", &ledger))]);
        let rendered = kind.render(rules);
        assert!(rendered.marks.to_string().parse().as_ref() == Ok(&rendered.marks));
        let mut spec = rendered.spec;
        for rule in spec["rules"].as_array_mut().into_iter().flatten() {
            if rule["name"] == "signing-gate.references" {
                // A constant, with characters of its own.
                rule["validate"].take();
            }
        }
        inert(&spec);
    }
});

/// What every change makes of it can be read again.
fn changed(ledger: &Ledger) {
    let newest = ledger.newest().map_or(0, |version| version.number);
    let key = NewKey {
        public_key: "-----BEGIN PUBLIC KEY-----\nTUZr\n-----END PUBLIC KEY-----\n".to_owned(),
        fingerprint: "SHA256:new".parse().expect("a fingerprint"),
        private_key: PrivateKeyRef { digest: "00".to_owned(), secret: None },
    };
    let settings = ledger.rule.settings.clone();
    let all = ledger.versions.iter().map(|version| version.number).collect();
    let changes = [
        Change::Acknowledge { version: newest, add: BTreeSet::new() },
        Change::Promote { version: newest, token: None, cause: Cause::Token },
        Change::Discard { version: newest },
        Change::Activate { version: newest, keep: 1 },
        Change::Revoke { versions: all, promote: None, keep: 3 },
        Change::Window { keep: 3 },
        Change::CorrectTimes,
        Change::Begin { rule: settings.clone(), above: ledger.sequence },
        Change::Rule(settings.clone()),
        Change::Withdraw(ledger.publications.iter().cloned().collect()),
        Change::Remove { rule: settings, above: ledger.sequence },
    ];
    let now = Timestamp::UNIX_EPOCH;
    let new = Mint::New {
        version: newest + 1,
        token: None,
        cause: Cause::Schedule,
        rule: ledger.rule.settings.clone(),
    };
    let minted = Ledger::mint(Some(ledger), &new, key, now);
    let changed = changes.iter().map(|change| Ledger::apply(Some(ledger), change, now));
    for next in changed.chain([minted]).flatten() {
        assert!(next.sequence > ledger.sequence);
        let _ = (next.rule_state(), next.window(3), next.key_set());
        // Only at the ends of the numbers may a change lead out of what is read.
        if newest < 1_000_000_000 && ledger.sequence < 1 << 53 {
            assert_eq!(Ledger::parse(&next.to_json()), Ok(next));
        }
    }
}

/// No text of a policy could be read as a template, and lines end in keys only.
fn inert(value: &Value) {
    match value {
        Value::String(text) => {
            let plain = |c: char| c.is_ascii_alphanumeric() || " ./:@_-*+=,".contains(c);
            let key = text.starts_with("-----BEGIN PUBLIC KEY-----\n");
            assert!(text.chars().all(|c| plain(c) || (key && c == '\n')), "{text:?}");
        }
        Value::Array(values) => values.iter().for_each(inert),
        Value::Object(fields) => fields.values().for_each(inert),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
