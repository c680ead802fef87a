//! The policy for namespaces whose label names no ring.

use std::collections::BTreeSet;

use jiff::Timestamp;
use signingkeyring_core::{
    ledger::Exclusion,
    policy::{
        Metadata, Renderer,
        unknown::{
            CoverContent, CoverHeld, CoverObject, CoverWritten, Naming, UnknownPlan,
            UnknownSnapshot, UnknownStep, plan_unknown,
        },
    },
    policy_ref::{Action, PolicyKind, PolicyRef},
};

use crate::renderer;

const AUDIT: PolicyRef = PolicyRef::unknown(Action::Audit);
const ENFORCE: PolicyRef = PolicyRef::unknown(Action::Enforce);

/// One of the policies in a cluster in memory, and the operator beside it.
struct Cluster {
    policy: PolicyRef,
    asked: Option<Action>,
    found: CoverObject,
    written: Option<CoverWritten>,
    values: Vec<(String, Naming)>,
    replacement: Option<BTreeSet<String>>,
    excluded: Vec<Exclusion>,
}

impl Cluster {
    fn new(policy: PolicyRef, values: &[(&str, Naming)]) -> Self {
        let mut cluster = Self {
            policy,
            asked: Some(policy.action()),
            found: CoverObject::Absent,
            written: None,
            values: Vec::new(),
            replacement: None,
            excluded: Vec::new(),
        };
        cluster.name(values);
        cluster
    }

    fn name(&mut self, values: &[(&str, Naming)]) {
        self.values = values.iter().map(|(value, naming)| ((*value).into(), *naming)).collect();
    }

    fn kind(&self) -> Renderer<'_> {
        renderer(self.policy, &self.excluded)
    }

    fn snapshot(&self) -> UnknownSnapshot {
        let found = match &self.found {
            CoverObject::Ours(held) => Some(held),
            _ => None,
        };
        let written = self.written.as_ref().map(|written| &written.stored);
        let covered = found.into_iter().chain(written).flat_map(|held| held.values.clone());
        UnknownSnapshot {
            policy: self.policy,
            asked: self.asked.map(|action| PolicyRef::unknown(action).of_kind(self.policy.kind())),
            served: true,
            executed: true,
            can_be_asked: true,
            found: self.found.clone(),
            written: self.written.clone(),
            values: self.values.clone(),
            covered: covered.collect(),
            replacement: self.replacement.clone(),
            excluded: self.excluded.clone(),
            now: Timestamp::UNIX_EPOCH,
        }
    }

    fn plan(&self) -> UnknownPlan {
        plan_unknown(&self.snapshot(), &self.kind())
    }

    fn step(&self) -> UnknownStep {
        self.plan().step
    }

    /// What is stored if this is written. It is what was planned.
    fn stored(&self, content: &CoverContent) -> CoverHeld {
        let rendered = self.kind().render_cover(content);
        let (annotations, labels) = (&rendered.annotations, &rendered.labels);
        let kind = self.policy.kind();
        let held = kind.read_cover(Metadata { annotations, labels }, &rendered.spec);
        assert_eq!((held.spec, held.own_metadata), {
            let whole = content.whole;
            (whole.spec.digest, whole.own_metadata)
        });
        assert_eq!((&held.values, held.mark.as_ref()), (&content.values, Some(&content.mark)));
        assert!(content.values.iter().all(|value| kind.covers(&rendered.spec, value)));
        assert!(!kind.covers(&rendered.spec, "nobody-has-this"));
        held
    }

    /// One pass; returns whether it wrote.
    fn pass(&mut self) -> bool {
        match self.step() {
            UnknownStep::Write { content, .. } => {
                let stored = self.stored(&content);
                let sent = content.whole.spec.digest;
                self.found = CoverObject::Ours(stored.clone());
                self.written = Some(CoverWritten { sent, stored, is_ahead: false });
                true
            }
            UnknownStep::Delete => {
                self.found = CoverObject::Absent;
                self.written = None;
                true
            }
            _ => false,
        }
    }

    fn held(&self) -> Vec<&str> {
        match &self.found {
            CoverObject::Ours(held) => held.values.iter().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }

    fn sequence(&self) -> u64 {
        match &self.found {
            CoverObject::Ours(held) => held.mark.as_ref().unwrap().state.sequence,
            _ => 0,
        }
    }
}

#[test]
fn a_value_is_covered_until_kyverno_answers_with_the_rule_of_its_ring() {
    for kind in PolicyKind::ALL {
        let mut cluster = Cluster::new(
            AUDIT.of_kind(kind),
            &[("chekout", Naming::Nobody), ("shop", Naming::Ruled)],
        );
        assert!(cluster.pass());
        assert_eq!(cluster.held(), ["chekout"]);
        assert!(!cluster.pass(), "what is written once is up to date");

        cluster.name(&[("chekout", Naming::Arriving), ("shop", Naming::Ruled)]);
        assert!(!cluster.pass(), "its ring came and has no rule yet");
        cluster.name(&[("chekout", Naming::Arriving), ("typo", Naming::Nobody)]);
        assert!(cluster.pass());
        assert_eq!(cluster.held(), ["chekout", "typo"]);
        cluster.name(&[("chekout", Naming::Ruled), ("typo", Naming::Nobody)]);
        assert!(cluster.pass());
        assert_eq!(cluster.held(), ["typo"]);
        cluster.name(&[("chekout", Naming::Ruled)]);
        assert_eq!(cluster.step(), UnknownStep::Delete);
        assert!(cluster.pass());
        assert_eq!(cluster.step(), UnknownStep::Rest);
    }
}

#[test]
fn a_ring_that_was_never_missing_is_not_covered() {
    for kind in PolicyKind::ALL {
        for naming in [Naming::Arriving, Naming::Ruled] {
            assert_eq!(
                Cluster::new(ENFORCE.of_kind(kind), &[("shop", naming)]).step(),
                UnknownStep::Rest
            );
        }
    }
}

#[test]
fn values_that_come_back_have_another_mark() {
    for kind in PolicyKind::ALL {
        let mut cluster = Cluster::new(ENFORCE.of_kind(kind), &[("a", Naming::Nobody)]);
        cluster.pass();
        let first = cluster.sequence();
        cluster.name(&[("a", Naming::Nobody), ("b", Naming::Nobody)]);
        cluster.pass();
        cluster.name(&[("a", Naming::Nobody)]);
        cluster.pass();
        assert_eq!(cluster.held(), ["a"]);
        assert!(cluster.sequence() > first);
    }
}

#[test]
fn what_somebody_edited_or_deleted_is_put_back_with_the_rings_that_have_no_rule_yet() {
    for kind in PolicyKind::ALL {
        let mut cluster = Cluster::new(
            AUDIT.of_kind(kind),
            &[("late", Naming::Nobody), ("typo", Naming::Nobody)],
        );
        cluster.pass();
        cluster.name(&[("late", Naming::Arriving), ("typo", Naming::Nobody)]);
        cluster.found = CoverObject::Absent;
        assert!(matches!(cluster.step(), UnknownStep::Write { drifted: true, .. }));
        cluster.pass();
        assert_eq!(cluster.held(), ["late", "typo"]);
        if let CoverObject::Ours(held) = &mut cluster.found {
            held.spec = Cluster::new(AUDIT.of_kind(kind), &[("x", Naming::Nobody)]).written_spec();
            held.values = BTreeSet::new();
        }
        assert!(matches!(cluster.step(), UnknownStep::Write { drifted: true, .. }));
        cluster.pass();
        assert_eq!(cluster.held(), ["late", "typo"]);
    }
}

impl Cluster {
    fn written_spec(mut self) -> signingkeyring_core::policy::Digest {
        self.pass();
        self.written.unwrap().sent
    }
}

#[test]
fn the_policy_of_the_other_action_goes_when_kyverno_answers_with_the_new_one() {
    for kind in PolicyKind::ALL {
        let mut cluster = Cluster::new(AUDIT.of_kind(kind), &[("chekout", Naming::Nobody)]);
        cluster.pass();
        cluster.asked = Some(Action::Enforce);
        assert!(matches!(cluster.step(), UnknownStep::UpToDate(_)), "the new one is not there");
        cluster.replacement = Some(BTreeSet::from(["other".to_owned()]));
        assert!(matches!(cluster.step(), UnknownStep::UpToDate(_)), "it covers something else");
        cluster.replacement = Some(BTreeSet::from(["chekout".to_owned()]));
        assert_eq!(cluster.step(), UnknownStep::Delete);
        cluster.pass();
        cluster.replacement = None;
        assert_eq!(cluster.step(), UnknownStep::Rest, "it is not created");
    }
}

#[test]
fn nothing_is_covered_where_that_is_not_asked() {
    for kind in PolicyKind::ALL {
        let mut cluster = Cluster::new(ENFORCE.of_kind(kind), &[("chekout", Naming::Nobody)]);
        cluster.pass();
        cluster.asked = None;
        assert_eq!(cluster.step(), UnknownStep::Delete);
        cluster.pass();
        assert_eq!(cluster.step(), UnknownStep::Rest);
    }
}

#[test]
fn what_is_not_ours_is_left_alone() {
    for kind in PolicyKind::ALL {
        let mut cluster = Cluster::new(ENFORCE.of_kind(kind), &[("chekout", Naming::Nobody)]);
        cluster.found = CoverObject::Foreign;
        assert_eq!(cluster.step(), UnknownStep::Conflict);
        for (asked, naming) in [(Some(Action::Audit), Naming::Nobody), (None, Naming::Nobody)] {
            cluster.asked = asked;
            cluster.name(&[("chekout", naming)]);
            assert_eq!(cluster.step(), UnknownStep::Rest);
        }
    }
}

#[test]
fn values_that_no_selector_takes_are_left_out() {
    for kind in PolicyKind::ALL {
        let long = "a".repeat(64);
        let names =
            ["", "-a", "a.", "a b", "a*", "UPPER_case.1", &long].map(|v| (v, Naming::Nobody));
        let mut cluster = Cluster::new(AUDIT.of_kind(kind), &names);
        cluster.pass();
        assert_eq!(cluster.held(), ["", "UPPER_case.1"]);
    }
}

#[test]
fn what_is_covered_comes_first_where_there_is_no_room_for_all() {
    for kind in PolicyKind::ALL {
        let name = |number: usize| format!("{number:063}");
        let named = |range: std::ops::Range<usize>| {
            range.map(|number| (name(number), Naming::Nobody)).collect::<Vec<_>>()
        };
        let mut cluster = Cluster::new(ENFORCE.of_kind(kind), &[]);
        cluster.values = named(4_500..8_000);
        let plan = cluster.plan();
        assert_eq!(plan.left_out, 0, "3,500 of the longest fit");
        cluster.pass();
        cluster.values = named(0..8_000);
        let UnknownPlan { step: UnknownStep::Write { content, .. }, left_out, .. } = cluster.plan()
        else {
            panic!("there is room for more");
        };
        assert!(left_out > 0 && content.values.len() + left_out == 8_000);
        assert!((4_500..8_000).all(|number| content.values.contains(&name(number))));
        assert!(content.whole.spec.bytes <= 1408 * 1024, "{}", content.whole.spec.bytes);
    }
}

#[test]
fn it_is_looked_at_again_when_an_exclusion_expires() {
    for kind in PolicyKind::ALL {
        let mut cluster = Cluster::new(ENFORCE.of_kind(kind), &[("chekout", Naming::Nobody)]);
        let expires = Some("1970-01-02".parse().unwrap());
        cluster.excluded = vec![Exclusion { image: "quay.io/org/*".into(), expires }];
        let hours = cluster.plan().requeue_after.unwrap().as_secs() / 3600;
        assert_eq!(hours, 48);
    }
}

/// Whether or not a policy covers them: of one that holds rings nothing is true there.
#[test]
fn what_names_nobody_is_told_whatever_covers_it() {
    let values = [("shop", Naming::Ruled), ("typo", Naming::Nobody), ("x y", Naming::Nobody)];
    let mut cluster = Cluster::new(AUDIT, &values);
    assert_eq!(cluster.snapshot().naming_nobody(), ["typo"]);
    assert!(cluster.pass());
    assert_eq!(cluster.snapshot().naming_nobody(), ["typo"]);
    cluster.asked = None;
    assert!(cluster.pass());
    assert_eq!(cluster.snapshot().naming_nobody(), ["typo"]);
    cluster.name(&[("typo", Naming::Arriving)]);
    assert!(cluster.snapshot().naming_nobody().is_empty());
}
