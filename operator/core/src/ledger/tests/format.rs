//! The JSON of a ledger: what is read, what is written, what is refused.

use super::{
    super::{LedgerError, wire::LedgerJson},
    *,
};
use crate::policy_ref::PolicyKind;

/// Ledgers as an operator has written them that kept a version in one struct
/// whatever its state.
const WRITTEN: &str = include_str!("written.txt");

/// A ledger with a digest that fits, as somebody who knows the format would
/// write it.
fn sealed(ledger: &str) -> String {
    let digest = hex(&Sha256::digest(ledger.as_bytes()));
    format!(r#"{{"format":3,"digest":"{digest}","ledger":{ledger}}}"#)
}

#[test]
fn reads_back_what_it_writes_and_refuses_damage() {
    let ledger = rotated(3, 3);
    let json = ledger.to_json();
    assert_eq!(Ledger::parse(&json).unwrap(), ledger);

    assert!(matches!(Ledger::parse(&json[..json.len() - 9]), Err(LedgerError::Unreadable(_))));
    assert!(matches!(Ledger::parse(""), Err(LedgerError::Unreadable(_))));
    for other in [1, 8] {
        let text = json.replacen("\"format\":7", &format!("\"format\":{other}"), 1);
        assert_eq!(Ledger::parse(&text), Err(LedgerError::Format(other)));
    }
    for (from, to) in [
        ("\"removed\"", "\"escrow\":1,\"removed\""),
        ("\"Accepted\"", "\"Current\""),
        ("key4", "key5"),
        ("\"digest\":", "\"digest\": "),
    ] {
        assert_eq!(Ledger::parse(&json.replacen(from, to, 1)), Err(LedgerError::Edited), "{from}");
    }
    // What was written by an operator with a defect is refused as well.
    let mut twice = ledger;
    twice.versions[2].life = twice.versions[3].life.clone();
    assert!(matches!(Ledger::parse(&twice.to_json()), Err(LedgerError::Inconsistent(_))));
}

/// A ledger that an operator has left which remembered nothing of its versions.
fn without_records(mut ledger: Ledger) -> Ledger {
    for version in &mut ledger.versions {
        version.record = Record::default();
    }
    ledger
}

/// An operator that would lose them reads a format, and says that it does not.
#[test]
fn what_is_remembered_of_versions_is_told_by_the_format() {
    let ledger = rotated(3, 2);
    let json = ledger.to_json();
    assert!(json.starts_with(r#"{"format":7,"#), "{json}");
    assert!(json.contains(r#""cause":"First""#), "{json}");
    assert_eq!(Ledger::parse(&json), Ok(ledger.clone()));
    let before = without_records(ledger);
    assert!(before.to_json().starts_with(r#"{"format":3,"#));
    // What comes later says more.
    let change = Change::Window { keep: 1 };
    let next = Ledger::apply(Some(&before), &change, Timestamp::UNIX_EPOCH).unwrap();
    assert!(next.to_json().starts_with(r#"{"format":7,"#));
    for (from, to) in
        [(r#","endedBy":"Rotation""#, ""), (r#""state":"Retired""#, r#""state":"Accepted""#)]
    {
        let text = serde_json::to_string(&LedgerJson::from(&rotated(3, 2))).unwrap();
        assert!(text.contains(from), "{text}");
        let read = Ledger::parse(&sealed(&text.replacen(from, to, 1)));
        assert!(matches!(read, Err(LedgerError::Inconsistent(_))), "{read:?}");
    }
}

/// An operator that knows no other kind reads a format, and says which it does not.
#[test]
fn a_place_in_another_kind_of_policy_is_told_by_the_format() {
    let here = without_records(rotated(1, 3));
    let other = here.rule.settings.policy.of_kind(PolicyKind::ImageValidatingPolicy);
    for (policy, leaving, format) in [
        (here.rule.settings.policy, None, 3),
        (other, None, 4),
        (other, Some(here.rule.settings.policy), 4),
        (here.rule.settings.policy, Some(other), 4),
    ] {
        let mut ledger = here.clone();
        let leaving = leaving.map(Leaving::beginning);
        ledger.rule.settings = RuleSettings { policy, leaving, ..ledger.rule.settings };
        let json = ledger.to_json();
        assert!(json.starts_with(&format!(r#"{{"format":{format},"#)), "{json}");
        assert_eq!(Ledger::parse(&json), Ok(ledger));
    }
}

/// One that takes every move for one that begins would take back what it is past.
#[test]
fn how_far_a_move_has_come_is_told_by_the_format() {
    let here = without_records(rotated(1, 3));
    let old = PolicyRef::new(Action::Enforce, 2);
    for (phase, format) in [(Phase::Arriving, 3), (Phase::Arrived, 6), (Phase::Released, 6)] {
        let mut ledger = here.clone();
        ledger.rule.settings.leaving = Some(Leaving { policy: old, phase });
        let json = ledger.to_json();
        assert!(json.starts_with(&format!(r#"{{"format":{format},"#)), "{json}");
        assert!(json.contains(r#""leaving":"signing-enforce-0002""#), "{json}");
        assert_eq!(json.contains(r#""phase""#), format == 6, "{json}");
        assert_eq!(Ledger::parse(&json), Ok(ledger));
    }
    let phase =
        r#"{"action":"Enforce","exclude":[],"policy":"signing-enforce-0001","phase":"Arrived"}"#;
    assert!(serde_json::from_str::<RuleSettings>(phase).is_err());
}

#[test]
fn a_move_to_where_the_rule_is_already_is_refused() {
    let mut ledger = rotated(1, 3);
    ledger.rule.settings.leaving = Some(Leaving::beginning(ledger.rule.settings.policy));
    let read = Ledger::parse(&ledger.to_json());
    assert!(matches!(read, Err(LedgerError::Inconsistent(_))), "{read:?}");
}

/// So are registry credentials, and none that name another namespace are read.
#[test]
fn registry_credentials_are_told_by_the_format() {
    let here = without_records(rotated(1, 3));
    let secrets = |name: &str| BTreeSet::from([name.to_owned()]);
    let leaving = Some(Leaving::beginning(PolicyRef::new(Action::Enforce, 2)));
    for (credentials, leaving, left_credentials) in [
        (secrets("regcred"), None, BTreeSet::new()),
        (BTreeSet::new(), leaving, secrets("regcred")),
    ] {
        let mut ledger = here.clone();
        let settings = ledger.rule.settings;
        ledger.rule.settings = RuleSettings { credentials, leaving, left_credentials, ..settings };
        let json = ledger.to_json();
        assert!(json.starts_with(r#"{"format":5,"#), "{json}");
        assert_eq!(Ledger::parse(&json), Ok(ledger));
    }
    let mut elsewhere = here;
    elsewhere.rule.settings.credentials = secrets("kube-system/token");
    let read = Ledger::parse(&elsewhere.to_json());
    assert!(matches!(read, Err(LedgerError::Inconsistent(_))), "{read:?}");
}

/// Ledgers of format 2, which an operator before this one has left, are taken
/// over as they are: one for each state that a version can be in.
#[test]
fn what_format_2_says_is_said_by_format_3_byte_by_byte() {
    for text in WRITTEN.lines() {
        let wanted = text.replacen(r#"{"format":2,"#, r#"{"format":3,"#, 1);
        assert_ne!(wanted, text);
        let ledger = Ledger::parse(text).expect(text);
        assert_eq!(ledger.to_json(), wanted);
        assert_eq!(Ledger::parse(&wanted), Ok(ledger));
    }
    let states = ["Pending", "Standby", "Current", "Accepted", "Retired", "Revoked"];
    for state in states.map(|state| format!(r#""state":"{state}""#)) {
        assert!(WRITTEN.contains(&state), "{state}");
    }
}

#[test]
fn a_state_has_what_it_calls_for_and_nothing_else() {
    let [one, two] = ["2026-11-24T10:00:00Z", "2026-11-24T10:00:10Z"];
    let acknowledged = format!(r#","acknowledgedAt":"{one}""#);
    let activated = format!(r#","activatedAt":"{two}""#);
    let (spare, held) = (r#","standby":true"#, r#","privateKey":{"digest":"00"}"#);
    let version = |state: &str, present: [bool; 4]| {
        let parts = [&acknowledged, &activated, spare, held];
        let parts = parts.into_iter().zip(present).filter(|(_, present)| *present);
        let parts: String = parts.map(|(part, _)| part).collect();
        format!(
            r#"{{"number":1,"algorithm":"ECDSA-P256","state":"{state}","publicKey":"-----BEGIN PUBLIC KEY-----\nkey\n-----END PUBLIC KEY-----\n","fingerprint":"SHA256:1","createdAt":"{one}"{parts}}}"#
        )
    };
    let whole = |version: &str| {
        sealed(&format!(
            r#"{{"sequence":1,"versions":[{version}],"tokens":[],"publications":[],"rule":{{"sequence":1,"settings":{{"action":"Enforce","exclude":[],"policy":"signing-enforce-0001"}}}},"removed":false}}"#
        ))
    };
    for bits in 0..16_u8 {
        let present = [1, 2, 4, 8].map(|bit| bits & bit != 0);
        let [acknowledged, activated, spare, held] = present;
        for (state, legal) in [
            ("Pending", held && !activated && !(acknowledged && spare)),
            ("Standby", held && !activated && acknowledged && spare),
            ("Current", held && activated && !spare),
            ("Accepted", !held && activated),
            ("Retired", !held),
            ("Revoked", !held),
        ] {
            let text = whole(&version(state, present));
            match Ledger::parse(&text) {
                Ok(ledger) => assert!(legal && ledger.to_json() == text, "{text}"),
                Err(LedgerError::Inconsistent(_)) => assert!(!legal, "{text}"),
                Err(other) => panic!("{other}: {text}"),
            }
        }
    }
}

/// What it takes to know a copy of a key that somebody kept.
#[test]
fn the_digest_of_a_key_stays_until_its_version_is_out() {
    let ledger = rotated(1, 3);
    let digest = |ledger: &Ledger, number| ledger.by_number(number).unwrap().key_digest().is_some();
    assert!(digest(&ledger, 1) && digest(&ledger, 2));
    assert!(ledger.to_json().contains(r#""keyDigest":"#));
    assert_eq!(Ledger::parse(&ledger.to_json()).as_ref(), Ok(&ledger));
    let narrow = apply(Some(&ledger), &Change::Window { keep: 1 });
    assert!(!digest(&narrow, 1) && digest(&narrow, 2));
    let wide = apply(Some(&narrow), &Change::Window { keep: 3 });
    assert!(!digest(&wide, 1), "it was forgotten");
    let revoked = apply(Some(&ledger), &revoke(&[2], None));
    assert!(!digest(&revoked, 2));
    let misplaced = serde_json::to_string(&LedgerJson::from(&ledger)).unwrap();
    let misplaced = misplaced.replacen("Accepted", "Retired", 1);
    assert!(matches!(Ledger::parse(&sealed(&misplaced)), Err(LedgerError::Inconsistent(_))));
}

#[test]
fn a_ledger_may_begin_without_a_version() {
    let begin = Change::Begin { rule: settings(), above: 6 };
    let ledger = apply(None, &begin);
    assert!(ledger.is_unborn() && (ledger.sequence, ledger.rule.sequence) == (7, 7));
    assert_eq!(Ledger::parse(&ledger.to_json()).as_ref(), Ok(&ledger));
    let born = mint(Some(&ledger), &new(1));
    assert!(!born.is_unborn() && born.rule.sequence == 8);
    assert!(!rotated(0, 3).is_unborn());
}

#[test]
fn a_secret_that_leaves_is_among_the_publications() {
    let pipeline = PipelineRef { namespace: "ci".into(), name: "image-signing".into() };
    let add = Change::Publications { add: [pipeline.clone()].into(), strike: BTreeSet::new() };
    let held = apply(Some(&rotated(0, 3)), &add);
    assert!(!held.publications.is_leaving(&pipeline));
    let leaving = apply(Some(&held), &Change::Withdraw([pipeline.clone()].into()));
    assert!(leaving.publications.is_leaving(&pipeline));
    assert_eq!(Ledger::parse(&leaving.to_json()).as_ref(), Ok(&leaving));
    assert_eq!(apply(Some(&leaving), &add).publications, held.publications);

    let text = serde_json::to_string(&LedgerJson::from(&leaving)).unwrap();
    let listed = r#""publications":[{"namespace":"ci","name":"image-signing"}]"#;
    let unlisted = text.replacen(listed, r#""publications":[]"#, 1);
    assert_ne!(unlisted, text);
    assert!(matches!(Ledger::parse(&sealed(&unlisted)), Err(LedgerError::Inconsistent(_))));
}

#[test]
fn what_could_not_have_been_written_is_refused() {
    let good = serde_json::to_string(&LedgerJson::from(&rotated(1, 3))).unwrap();
    assert!(Ledger::parse(&sealed(&good)).is_ok());
    for (part, instead) in [
        ("\"number\":2", "\"number\":4294967295"),
        ("\"number\":1", "\"number\":0"),
        ("\"sequence\":4,\"versions\"", "\"sequence\":18446744073709551615,\"versions\""),
        ("\"sequence\":4,\"versions\"", "\"sequence\":1,\"versions\""),
        ("\\nkey2\\n", "\\n{{request.object.metadata.name}}\\n"),
        ("\\nkey2\\n", "\\n"),
        ("-----\\nkey2", "-----\\nkey2\\n-----END PUBLIC KEY-----\\nk8s://x/y"),
        ("-----END PUBLIC KEY-----\\n", "-----END PUBLIC KEY-----\\n# a comment\\n"),
        ("SHA256:2", "SHA256:2 checkout=9.9"),
        ("SHA256:2", "2"),
        ("signing-enforce-0001", "somebody-elses"),
        ("signing-enforce-0001", "signing-enforce-{{x}}"),
    ] {
        let bad = good.replacen(part, instead, 1);
        assert_ne!(bad, good, "{part} is not in {good}");
        let sealed = sealed(&bad);
        let error = Ledger::parse(&sealed).expect_err(&sealed);
        assert_ne!(error, LedgerError::Edited, "refused for the wrong reason: {sealed}");
    }
}

#[test]
fn what_a_process_keeps_for_itself_is_the_same_again() {
    let mut ledger = rotated(3, 3);
    let hash = token_hash("2026-11");
    let hashes = [&*hash, "2", "A0", &"A".repeat(64), &"g".repeat(64), "", "=", "=AAAA", "==AA"];
    let token = |hash: &&str| Token { hash: (*hash).to_owned(), version: 1 };
    ledger.tokens = hashes.iter().map(token).collect();
    let kept = serde_json::to_string(&ledger).unwrap();
    assert!(!kept.contains(hashes[0]), "{kept}");
    assert_eq!(serde_json::from_str::<Ledger>(&kept).unwrap(), ledger);
}
