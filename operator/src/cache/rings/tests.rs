use serde_json::json;
use signingkeyring_core::{
    ledger::{Change, Ledger, RuleSettings},
    policy_ref::{Action, PolicyRef},
};

use super::{super::LedgerRow, *};

fn ring(name: &str, version: &str, namespace: &str) -> Guarded {
    let ring = json!({
        "apiVersion": "signing.odj.cloud/v1alpha1",
        "kind": "SigningKeyRing",
        "metadata": {
            "name": name, "resourceVersion": version,
            "managedFields": [{"manager": "somebody"}],
        },
        "spec": {"pipelines": [{"namespace": namespace}]},
    });
    serde_json::from_value(ring).unwrap()
}

#[test]
fn a_ring_comes_out_as_it_went_in_but_for_who_wrote_it() {
    let (rings, mut writer) = Rings::new();
    let given = ring("shop", "1", "ci");
    writer.apply(&Event::Apply(given.clone()), &Ledgers::default());
    let (mut given, found) = (given.0.unwrap(), rings.get("shop").unwrap());
    given.metadata.managed_fields = None;
    let found = found.0.as_ref().unwrap();
    assert_eq!(serde_json::to_value(found).unwrap(), serde_json::to_value(&given).unwrap());
    assert!(rings.has_readable("shop") && !rings.has_readable("pay"));
}

/// A status whose second version has no fingerprint that follows from its key.
fn with_status(mut ring: Guarded) -> Guarded {
    let version = |number: u32, fingerprint: &str| {
        json!({
            "version": number, "state": "Accepted", "createdAt": "2027-01-01T00:00:00Z",
            "publicKey": KEY, "fingerprint": fingerprint,
        })
    };
    let fingerprint = PublicKey::from(KEY).fingerprint().unwrap();
    let versions = [version(2, fingerprint.as_str()), version(1, "SHA256:other")];
    let status = serde_json::from_value(json!({"versions": versions})).unwrap();
    ring.0.as_mut().unwrap().status = Some(status);
    ring
}

const KEY: &str = "-----BEGIN PUBLIC KEY-----\n\
    MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE29Lz00vuv3cSHvKW066mJWJCieHc\n\
    tYuL1NvHTfAiKVeUoWu+fldi0Os+iQq8Ju00WH5SEz7bgJ4+NEs7ODj7nw==\n\
    -----END PUBLIC KEY-----\n";

fn ledger(sequence: u64) -> LedgerRow {
    let rule = RuleSettings::of(PolicyRef::new(Action::Enforce, 1));
    let begin = Change::Begin { rule, above: sequence };
    let ledger = Ledger::apply(None, &begin, Timestamp::UNIX_EPOCH).unwrap();
    LedgerRow::sound(sequence.to_string(), ledger)
}

#[test]
fn a_ring_comes_out_as_it_went_in_behind_whatever_ledger() {
    let (rings, mut writer) = Rings::new();
    let (ledgers, name) = (Ledgers::default(), "shop".parse().unwrap());
    let given = with_status(ring("shop", "1", "ci"));
    let mut expected = given.0.clone().unwrap();
    expected.metadata.managed_fields = None;
    let expected = serde_json::to_value(expected).unwrap();
    let is_as_given = || {
        let found = rings.get("shop").unwrap();
        assert_eq!(serde_json::to_value(found.0.as_ref().unwrap()).unwrap(), expected);
    };
    writer.apply(&Event::Apply(given), &ledgers);
    is_as_given();
    for sequence in [7, 8] {
        ledgers.put(&name, ledger(sequence));
        is_as_given();
        rings.pack_behind("shop", &ledgers.packed("shop").unwrap());
        is_as_given();
    }
    ledgers.remove(&name);
    is_as_given();
}

#[test]
fn a_fingerprint_that_somebody_left_out_stays_out() {
    let (rings, mut writer) = Rings::new();
    let mut given = with_status(ring("shop", "1", "ci"));
    let versions = &mut given.0.as_mut().unwrap().status.as_mut().unwrap().versions;
    versions[1].fingerprint.clear();
    let expected = versions.clone();
    writer.apply(&Event::Apply(given), &Ledgers::default());
    let found = rings.get("shop").unwrap();
    assert_eq!(found.0.as_ref().unwrap().status.as_ref().unwrap().versions, expected);
}

#[test]
fn one_that_cannot_be_read_says_why() {
    let (rings, mut writer) = Rings::new();
    let broken = json!({"metadata": {"name": "shop"}, "spec": {"pipelines": 7}});
    writer.apply(&Event::Apply(serde_json::from_value(broken).unwrap()), &Ledgers::default());
    assert!(rings.get("shop").unwrap().0.is_err());
    assert!(!rings.has_readable("shop"));
    assert_eq!(rings.len(), 1);
}

#[test]
fn what_a_list_has_not_is_gone_once_it_is_complete() {
    let (rings, mut writer) = Rings::new();
    writer.apply(&Event::Apply(ring("shop", "1", "ci")), &Ledgers::default());
    writer.apply(&Event::Apply(ring("pay", "2", "ci")), &Ledgers::default());
    assert_eq!(rings.naming("ci").len(), 2);
    writer.apply(&Event::Init, &Ledgers::default());
    writer.apply(&Event::InitApply(ring("pay", "3", "cd")), &Ledgers::default());
    writer.apply(&Event::InitApply(ring("new", "4", "cd")), &Ledgers::default());
    assert!(rings.has_readable("shop") && rings.has_readable("new"), "the list is not complete");
    assert_eq!(writer.apply(&Event::InitDone, &Ledgers::default()), ["shop"]);
    assert_eq!(rings.names(), ["new".to_owned(), "pay".to_owned()].into());
    assert_eq!((rings.naming("ci"), rings.len()), (vec![], 2));
    assert_eq!(rings.naming("cd").len(), 2);
    let deleted = Event::Delete(ring("pay", "5", "cd"));
    assert_eq!(writer.apply(&deleted, &Ledgers::default()), ["pay"]);
    assert_eq!(rings.naming("cd"), ["new"]);
}
