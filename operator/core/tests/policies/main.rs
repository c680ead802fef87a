//! The plan of a policy: which rules it keeps, and what it makes of hostile ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on fails")]

mod exclusions;
mod hostile;
mod kept;
mod known;
mod unasked;
mod unknown;
mod urgent;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::Timestamp;
use signingkeyring_core::{
    fingerprint::Fingerprint,
    high_water::HighWater,
    ledger::{Cause, Change, Exclusion, Ledger, Mint, NewKey, PrivateKeyRef, RuleSettings},
    policy::{
        Content, Inputs, Metadata, PolicySnapshot, Rendered, Renderer, Source, Step, Write,
        cluster_policy::ClusterPolicy,
        plan_policy,
        snapshot::{ObjectSeen, PolicySeen, RingSeen},
    },
    policy_ref::{Action, PolicyKind, PolicyRef},
};

const POLICY: PolicyRef = PolicyRef::new(Action::Enforce, 1);

/// One of each kind.
const POLICIES: [PolicyRef; 2] = [POLICY, POLICY.of_kind(PolicyKind::ImageValidatingPolicy)];

const KIND: ClusterPolicy<'_> = ClusterPolicy {
    policy: POLICY,
    excluded: &[],
    operator_namespace: "signing-system",
    enrolment_label: "signing.odj.cloud/ring",
    questions: Some("crd-1"),
    lists: Some("crd-2"),
    now: Timestamp::UNIX_EPOCH,
};

/// What renders a policy.
fn renderer(policy: PolicyRef, excluded: &[Exclusion]) -> Renderer<'_> {
    let inputs = Inputs {
        excluded,
        operator_namespace: KIND.operator_namespace,
        probe_namespace: "signing-probe",
        enrolment_label: KIND.enrolment_label,
        questions: KIND.questions,
        lists: KIND.lists,
        now: KIND.now,
    };
    Renderer::new(policy, inputs)
}

/// The policy that holds the rules that these ledgers call for.
fn rendered(policy: PolicyRef, rings: &[(&str, &Ledger)]) -> Rendered {
    let ring = |(name, ledger): &(&str, &Ledger)| {
        let mut ledger = (*ledger).clone();
        ledger.rule.settings.policy = policy;
        ((*name).to_owned(), ring(Some(ledger)))
    };
    let rings = rings.iter().map(ring).collect();
    let snapshot = snapshot(policy, ObjectSeen::Absent, rings);
    let kind = renderer(policy, &[]);
    let content = content(plan_policy(&snapshot, &kind).step);
    let rendered = kind.compose(&content, |_| None).unwrap();
    assert_eq!(seen(policy, &rendered).spec, content.whole.spec.digest);
    rendered
}

/// What is seen of a policy.
fn seen(policy: PolicyRef, found: &Rendered) -> PolicySeen {
    let metadata = Metadata { annotations: &found.annotations, labels: &found.labels };
    policy.kind().read(metadata, &found.spec, fingerprint)
}

/// A ring of which there is this ledger.
fn ring(table: Option<Ledger>) -> RingSeen {
    RingSeen {
        sound: table.is_some(),
        table: table.map(Arc::new),
        was_removed: false,
        exists: true,
        revoked: Vec::new(),
        remembered: HighWater::default(),
        reported: BTreeSet::new(),
        read_anew: true,
    }
}

fn snapshot(
    policy: PolicyRef,
    found: ObjectSeen,
    rings: BTreeMap<String, RingSeen>,
) -> PolicySnapshot {
    PolicySnapshot {
        policy,
        served: true,
        executed: true,
        can_be_asked: true,
        found,
        written: None,
        rings,
        refused: BTreeMap::new(),
        listed: Vec::new(),
        now: Timestamp::UNIX_EPOCH,
    }
}

/// What a policy is to hold.
fn content(step: Step) -> Content {
    match step {
        Step::UpToDate(content) | Step::Write(Write { content, .. }) => content,
        other => panic!("{other:?}"),
    }
}

/// What is written of a plan where this stands.
fn composed(kind: &Renderer<'_>, found: &Rendered, planned: &Content) -> Rendered {
    kind.compose(planned, |source| (*source == Source::Found).then_some(&found.spec)).unwrap()
}

/// The fingerprint of a key as these tests make them.
fn fingerprint(public_key: &str) -> Option<Fingerprint> {
    format!("SHA256:{}", public_key.lines().nth(1)?).parse().ok()
}

/// A ledger that has rotated until it has this many versions.
fn ledger(versions: u32) -> Ledger {
    ledger_in(POLICY, versions)
}

/// The same, of a ring in this policy.
fn ledger_in(policy: PolicyRef, versions: u32) -> Ledger {
    let rule = RuleSettings::of(policy);
    let mut ledger = None;
    for version in 1..=versions {
        let key = NewKey {
            public_key: format!(
                "-----BEGIN PUBLIC KEY-----\n{version}\n-----END PUBLIC KEY-----\n"
            ),
            fingerprint: format!("SHA256:{version}").parse().unwrap(),
            private_key: PrivateKeyRef { digest: "00".into(), secret: None },
        };
        let mint = Mint::New { version, token: None, cause: Cause::First, rule: rule.clone() };
        let minted = Ledger::mint(ledger.as_ref(), &mint, key, Timestamp::UNIX_EPOCH).unwrap();
        let activate = Change::Activate { version, keep: 3 };
        ledger = Some(Ledger::apply(Some(&minted), &activate, Timestamp::UNIX_EPOCH).unwrap());
    }
    ledger.unwrap()
}
