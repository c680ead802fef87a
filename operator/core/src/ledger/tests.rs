//! Transitions of a ledger.

use jiff::Timestamp;

use super::*;
use crate::policy_ref::{Action, PolicyRef};

mod format;

fn key(n: u32) -> NewKey {
    NewKey {
        public_key: format!("-----BEGIN PUBLIC KEY-----\nkey{n}\n-----END PUBLIC KEY-----\n"),
        fingerprint: format!("SHA256:{n}").parse().unwrap(),
        private_key: PrivateKeyRef { digest: format!("{n:064}"), secret: None },
    }
}

fn settings() -> RuleSettings {
    RuleSettings::of(PolicyRef::new(Action::Enforce, 1))
}

fn now() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

fn apply(base: Option<&Ledger>, change: &Change) -> Ledger {
    Ledger::apply(base, change, now()).unwrap()
}

fn mint(base: Option<&Ledger>, mint: &Mint) -> Ledger {
    Ledger::mint(base, mint, key(mint.version()), now()).unwrap()
}

fn new(version: u32) -> Mint {
    Mint::New { version, token: None, cause: Cause::First, rule: settings() }
}

fn spare(version: u32) -> Mint {
    Mint::New { version, token: None, cause: Cause::Standby, rule: settings() }
}

fn activate(version: u32, keep: u32) -> Change {
    Change::Activate { version, keep }
}

fn revoke(versions: &[u32], promote: Option<u32>) -> Change {
    Change::Revoke { versions: versions.iter().copied().collect(), promote, keep: 3 }
}

/// What a ring's status tells of a version.
fn known(version: &Version) -> KnownVersion {
    KnownVersion {
        number: version.number,
        public_key: version.public_key.to_string(),
        fingerprint: version.fingerprint.clone(),
        created_at: version.created_at,
        state: version.state(),
        activated_at: version.activated_at(),
        record: version.record,
    }
}

fn accepted(ledger: &Ledger) -> Vec<u32> {
    ledger.accepted().map(|v| v.number).collect()
}

/// A ledger after `rotations` rotations with a window of `keep`.
fn rotated(rotations: u32, keep: u32) -> Ledger {
    let mut ledger = None;
    for version in 1..=rotations + 1 {
        let minted = mint(ledger.as_ref(), &new(version));
        ledger = Some(apply(Some(&minted), &activate(version, keep)));
    }
    ledger.unwrap()
}

fn states(ledger: &Ledger) -> Vec<(u32, State)> {
    ledger.versions.iter().map(|v| (v.number, v.state())).collect()
}

#[test]
fn the_fourth_version_retires_the_first() {
    use State::{Accepted, Current, Retired};
    let ledger = rotated(3, 3);
    assert_eq!(states(&ledger), [(1, Retired), (2, Accepted), (3, Accepted), (4, Current)]);
    let private = ledger.versions.iter().filter(|v| v.private_key().is_some());
    assert_eq!(private.map(|v| v.number).collect::<Vec<_>>(), [4]);
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
    let minted = mint(Some(&ledger), &new(4));
    assert_eq!(accepted(&minted), [4, 3, 2, 1]);
    assert_ne!(minted.key_set(), ledger.key_set());
}

#[test]
fn nothing_is_minted_twice() {
    let ledger = rotated(0, 3);
    let pending = mint(Some(&ledger), &new(2));
    for (base, version) in [(&pending, 2), (&pending, 3), (&ledger, 1)] {
        let result = Ledger::mint(Some(base), &new(version), key(version), now());
        assert_eq!(result, Err(ChangeError::Mint(version)));
    }
    assert_eq!(
        Ledger::apply(Some(&ledger), &activate(1, 3), now()),
        Err(ChangeError::NotWaiting(1))
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
        let new = Mint::New { version, token, cause: Cause::First, rule: settings() };
        ledger = apply(Some(&mint(Some(&ledger), &new)), &activate(version, 3));
    }
    assert_eq!(ledger.tokens.len(), TOKENS_KEPT);
    assert_eq!(ledger.handled("token-14"), Some(14));
    assert_eq!(ledger.handled("token-4"), None);
}

#[test]
fn a_revoked_version_keeps_its_place_and_never_returns() {
    use State::{Accepted, Current, Retired, Revoked};
    let ledger = apply(Some(&rotated(3, 3)), &revoke(&[3], None));
    assert_eq!(states(&ledger), [(1, Retired), (2, Accepted), (3, Revoked), (4, Current)]);
    let wide = apply(Some(&ledger), &Change::Window { keep: 4 });
    assert_eq!(accepted(&wide), [4, 2, 1]);
    let next = apply(Some(&mint(Some(&ledger), &new(5))), &activate(5, 3));
    assert_eq!(accepted(&next), [5, 4], "3 has its place in the window of three");
    assert!(next.revoked.contains(&short("SHA256:3")));
}

#[test]
fn a_version_that_was_revoked_before_it_signed_pushes_none_out() {
    let pending = mint(Some(&rotated(2, 3)), &new(4));
    let ledger = mint(Some(&apply(Some(&pending), &revoke(&[4], None))), &new(5));
    let ledger = apply(Some(&ledger), &activate(5, 3));
    assert_eq!(accepted(&ledger), [5, 3, 2]);
}

#[test]
fn revoking_all_leaves_none_accepted_and_no_private_key() {
    let ledger = apply(Some(&rotated(1, 3)), &revoke(&[1, 2], None));
    assert!(accepted(&ledger).is_empty() && ledger.lost_its_signer());
    assert!(ledger.versions.iter().all(|v| v.private_key().is_none()));
    assert!(ledger.rule.sequence == ledger.sequence);
}

#[test]
fn a_standby_takes_over_in_the_commit_that_revokes() {
    let ledger = mint(Some(&rotated(1, 3)), &spare(3));
    let ledger = apply(Some(&ledger), &Change::Acknowledge { version: 3, add: BTreeSet::new() });
    assert_eq!(accepted(&ledger), [3, 2, 1]);
    let ledger = apply(Some(&ledger), &revoke(&[2], Some(3)));
    assert_eq!(ledger.current().unwrap().number, 3);
    assert_eq!(accepted(&ledger), [3, 1]);
}

#[test]
fn a_discarded_standby_is_never_accepted_again() {
    let ledger = mint(Some(&rotated(0, 3)), &spare(2));
    let ledger = apply(Some(&ledger), &Change::Discard { version: 2 });
    let ledger = apply(Some(&ledger), &Change::Window { keep: 10 });
    assert_eq!(accepted(&ledger), [1]);
}

#[test]
fn a_witness_tells_an_older_ledger() {
    let older = rotated(1, 3);
    let newer = apply(Some(&mint(Some(&older), &new(3))), &revoke(&[1], None));
    assert!(newer.knows(&older.high_water()) && newer.knows(&newer.high_water()));
    assert!(!older.knows(&newer.high_water()));
    assert_eq!(accepted(&older.without(&newer.high_water().revoked)), [2]);
}

#[test]
fn a_ring_goes_on_after_a_loss_with_what_is_still_known() {
    let lost = apply(Some(&rotated(2, 3)), &revoke(&[2], None));
    let recovery = |base: Option<&Ledger>| {
        let recovery = Mint::Recover(Recovery {
            version: 4,
            token: None,
            rule: settings(),
            known: lost.versions.iter().map(known).collect(),
            revoked: lost.high_water().revoked,
            publications: BTreeSet::new(),
            above: 40,
            keep: 3,
        });
        Ledger::parse(&mint(base, &recovery).to_json()).unwrap()
    };
    for base in [None, Some(&rotated(1, 3))] {
        let ledger = recovery(base);
        assert_eq!(accepted(&ledger), [4, 3, 1]);
        assert_eq!(ledger.pending().unwrap().number, 4);
        assert!(ledger.current().is_none() && ledger.rule.sequence == 41);
        assert!(ledger.knows(&lost.high_water()));
    }
}

#[test]
fn an_exclusion_counts_through_its_last_day() {
    let exclusion =
        Exclusion { image: "redis".into(), expires: Some("2027-01-31".parse().unwrap()) };
    assert!(exclusion.counts("2027-01-31T23:59:59Z".parse().unwrap()));
    assert!(!exclusion.counts("2027-02-01T00:00:00Z".parse().unwrap()));
}

/// What is remembered of each version: what called for it, and when and how it ended.
#[test]
fn a_version_is_remembered_with_its_cause_and_its_end() {
    let at = |second| Timestamp::from_second(second).unwrap();
    let apply = |ledger: &Ledger, change: Change, second| {
        Ledger::apply(Some(ledger), &change, at(second)).unwrap()
    };
    type Remembered = (u32, Option<Cause>, Option<(i64, End)>);
    let remembered = |ledger: &Ledger| -> Vec<Remembered> {
        let end = |version: &Version| version.record.ended.map(|e| (e.at.as_second(), e.by));
        ledger.versions.iter().map(|v| (v.number, v.record.cause, end(v))).collect()
    };
    let sign = |base: Option<&Ledger>, version, cause, second| {
        let mint = Mint::New { version, token: None, cause, rule: settings() };
        let ledger = Ledger::mint(base, &mint, key(version), at(second)).unwrap();
        let ledger =
            apply(&ledger, Change::Acknowledge { version, add: BTreeSet::new() }, second + 1);
        apply(&ledger, Change::Activate { version, keep: 2 }, second + 2)
    };
    let first = sign(None, 1, Cause::First, 10);
    let second = sign(Some(&first), 2, Cause::Token, 20);
    let third = sign(Some(&second), 3, Cause::Schedule, 30);
    assert_eq!(
        remembered(&third),
        [
            (1, Some(Cause::First), Some((32, End::Rotation))),
            (2, Some(Cause::Token), None),
            (3, Some(Cause::Schedule), None),
        ]
    );
    // A wider window takes the end back, a smaller one has it end anew.
    let wide = apply(&third, Change::Window { keep: 3 }, 40);
    assert_eq!(remembered(&wide)[0].2, None);
    let narrow = apply(&wide, Change::Window { keep: 1 }, 41);
    let ends: Vec<_> = remembered(&narrow).into_iter().map(|(.., end)| end).collect();
    assert_eq!(ends, [Some((41, End::Window)), Some((41, End::Window)), None]);
    // One that is out already keeps its end, but for a revocation.
    let revoked = apply(&narrow, revoke(&[1, 3], None), 50);
    let ends: Vec<_> = remembered(&revoked).into_iter().map(|(.., end)| end).collect();
    let revocation = Some((50, End::Revocation));
    assert_eq!(ends, [revocation, Some((41, End::Window)), revocation]);
    let again = apply(&revoked, revoke(&[1, 3], None), 60);
    assert_eq!(remembered(&again), remembered(&revoked));

    // What stands by is called for by what ends that, or is given up.
    let mint = spare(4);
    let waits = Ledger::mint(Some(&again), &mint, key(4), at(70)).unwrap();
    assert_eq!(remembered(&waits)[3], (4, Some(Cause::Standby), None));
    let promote = Change::Promote { version: 4, token: None, cause: Cause::Revocation };
    assert_eq!(remembered(&apply(&waits, promote, 80))[3].1, Some(Cause::Revocation));
    let given_up = apply(&waits, Change::Discard { version: 4 }, 80);
    assert_eq!(remembered(&given_up)[3], (4, Some(Cause::Standby), Some((80, End::Discard))));
}
