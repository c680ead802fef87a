//! Transitions of a ledger.

use super::*;

fn key(n: u32) -> NewKey {
    NewKey {
        public_key: format!("-----BEGIN PUBLIC KEY-----\nkey{n}\n-----END PUBLIC KEY-----\n"),
        fingerprint: format!("SHA256:{n}"),
    }
}

fn settings() -> RuleSettings {
    RuleSettings {
        action: Action::Enforce,
        exclude: Vec::new(),
        policy: "signing-enforce-0001".to_owned(),
        leaving: None,
    }
}

fn now() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

fn apply(base: Option<&Ledger>, change: &Change) -> Ledger {
    let minted = match change {
        Change::Mint { version, .. } => Some(key(*version)),
        _ => None,
    };
    Ledger::apply(base, change, minted, now()).unwrap()
}

/// A ledger after `rotations` rotations with a window of `keep`.
fn rotated(rotations: u32, keep: u32) -> Ledger {
    let mut ledger = None;
    for version in 1..=rotations + 1 {
        let mint = Change::Mint { version, token: None, rule: settings() };
        let minted = apply(ledger.as_ref(), &mint);
        ledger = Some(apply(Some(&minted), &Change::Activate { version, keep }));
    }
    ledger.unwrap()
}

fn states(ledger: &Ledger) -> Vec<(u32, State)> {
    ledger.versions.iter().map(|v| (v.number, v.state)).collect()
}

#[test]
fn the_fourth_version_retires_the_first() {
    use State::{Accepted, Current, Retired};
    let ledger = rotated(3, 3);
    assert_eq!(states(&ledger), [(1, Retired), (2, Accepted), (3, Accepted), (4, Current)]);
    let private: Vec<u32> = (1..=4).filter(|n| ledger.has_private_key(*n)).collect();
    assert_eq!(private, [4]);
}

#[test]
fn a_wider_window_accepts_retired_versions_again() {
    use State::{Accepted, Current, Retired};
    let narrow = apply(Some(&rotated(3, 3)), &Change::Window { keep: 1 });
    assert_eq!(states(&narrow), [(1, Retired), (2, Retired), (3, Retired), (4, Current)]);
    let wide = apply(Some(&narrow), &Change::Window { keep: 3 });
    assert_eq!(states(&wide), [(1, Retired), (2, Accepted), (3, Accepted), (4, Current)]);
}

#[test]
fn retired_versions_are_forgotten_beyond_ten() {
    let ledger = rotated(14, 3);
    assert_eq!(ledger.versions.len(), 3 + RETIRED_KEPT);
    assert_eq!(ledger.versions[0].number, 3);
    assert_eq!(ledger.newest().unwrap().number, 15);
}

#[test]
fn a_pending_version_does_not_count_in_the_window() {
    let ledger = rotated(2, 3);
    let minted = apply(Some(&ledger), &Change::Mint { version: 4, token: None, rule: settings() });
    let accepted: Vec<u32> = minted.accepted().map(|v| v.number).collect();
    assert_eq!(accepted, [4, 3, 2, 1]);
    assert_ne!(minted.key_set(), ledger.key_set());
}

#[test]
fn nothing_is_minted_twice() {
    let ledger = rotated(0, 3);
    let mint = |version| Change::Mint { version, token: None, rule: settings() };
    let pending = apply(Some(&ledger), &mint(2));
    for (base, version) in [(&pending, 2), (&pending, 3), (&ledger, 1), (&ledger, 3)] {
        let result = Ledger::apply(Some(base), &mint(version), Some(key(version)), now());
        assert_eq!(result, Err(ChangeError::Mint(version)));
    }
    assert_eq!(
        Ledger::apply(Some(&ledger), &Change::Activate { version: 1, keep: 3 }, None, now()),
        Err(ChangeError::NotPending(1))
    );
}

#[test]
fn the_rule_sequence_moves_only_with_what_the_policies_show() {
    let ledger = rotated(1, 3);
    let pipeline = PipelineRef { namespace: "ci".into(), name: "image-signing".into() };
    let add = Change::Publications { add: [pipeline].into(), strike: BTreeSet::new() };
    let published = apply(Some(&ledger), &add);
    assert_eq!(published.sequence, ledger.sequence + 1);
    assert_eq!(published.rule.sequence, ledger.rule.sequence);

    let audit = RuleSettings { action: Action::Audit, ..settings() };
    let moved = apply(Some(&published), &Change::Rule(audit));
    assert_eq!(moved.rule.sequence, moved.sequence);
}

#[test]
fn tokens_are_remembered_and_bounded() {
    let mut ledger = rotated(0, 3);
    for version in 2..=14 {
        let token = Some(token_hash(&format!("token-{version}")));
        ledger = apply(Some(&ledger), &Change::Mint { version, token, rule: settings() });
        ledger = apply(Some(&ledger), &Change::Activate { version, keep: 3 });
    }
    assert_eq!(ledger.tokens.len(), TOKENS_KEPT);
    assert_eq!(ledger.handled("token-14"), Some(14));
    assert_eq!(ledger.handled("token-4"), None);
}

#[test]
fn reads_back_what_it_writes_and_refuses_damage() {
    let ledger = rotated(3, 3);
    let json = ledger.to_json();
    assert_eq!(Ledger::parse(&json).unwrap(), ledger);

    assert!(matches!(Ledger::parse(&json[..json.len() - 9]), Err(LedgerError::Unreadable(_))));
    assert!(matches!(Ledger::parse(""), Err(LedgerError::Unreadable(_))));
    let later = json.replacen("\"format\":1", "\"format\":2", 1);
    assert_eq!(Ledger::parse(&later), Err(LedgerError::Format(2)));
    let unknown = json.replacen("\"removed\"", "\"escrow\":1,\"removed\"", 1);
    assert!(matches!(Ledger::parse(&unknown), Err(LedgerError::Unreadable(_))));
    let twice = json.replace("\"Accepted\"", "\"Current\"");
    assert!(matches!(Ledger::parse(&twice), Err(LedgerError::Inconsistent(_))));
}

#[test]
fn an_exclusion_counts_through_its_last_day() {
    let exclusion =
        Exclusion { image: "redis".into(), expires: Some("2027-01-31".parse().unwrap()) };
    assert!(exclusion.counts("2027-01-31T23:59:59Z".parse().unwrap()));
    assert!(!exclusion.counts("2027-02-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn what_could_not_have_been_written_is_refused() {
    let good = rotated(1, 3).to_json();
    assert!(Ledger::parse(&good).is_ok());
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
        assert!(Ledger::parse(&bad).is_err(), "accepted: {bad}");
    }
}
