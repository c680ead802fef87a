//! The policies' pass as it was decided before the core planned it, side by
//! side with the plan over random histories.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, OnceLock},
    time::Duration,
};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use kube::{
    Client, Config, ResourceExt,
    core::{DeserializeGuard, DynamicObject, ObjectMeta, TypeMeta},
    runtime::watcher::Event,
};
use proptest::prelude::*;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use signingkeyring_core::{
    high_water::{HighWater, HighWaters, short},
    images::Pattern,
    ledger::{Change, Exclusion, Ledger, NewKey, PrivateKeyRef, RuleSettings},
    marks::Mark,
    names::{self, RingName},
    policy::{
        Digest, Part, Step,
        cluster_policy::{ClusterPolicy, NOBODYS_KEY, Rendered, Rule, keys_of},
        plan::REFUSED_FOR,
        plan_policy,
    },
    policy_ref::{Action, PolicyRef},
    snapshot::{Revoked, WriteFailure},
};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};

use crate::{
    cache::{Damage, LedgerRow, WrittenPolicy, is_newer},
    clock::Clock,
    context::Context,
    keys::{KeyPair, fingerprint_of},
    kyverno::{is_ours, marks},
    observe::{observe_policy, ring, witness},
    runtime::assemble,
    settings::Settings,
};

#[derive(Clone, Debug)]
struct Input<'a> {
    policy: PolicyRef,
    ledgers: BTreeMap<&'a str, &'a Ledger>,
    kept: BTreeMap<&'a str, KeptRule>,
    excluded: &'a [Exclusion],
    operator_namespace: &'a str,
    enrolment_label: &'a str,
    now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
struct KeptRule {
    mark: Mark,
    high_water: HighWater,
    rule: Value,
}

impl KeptRule {
    fn narrowed(mut self, accepts: impl Fn(&str) -> bool) -> Self {
        let accepts = |entry: &Value| entry["keys"]["publicKeys"].as_str().is_some_and(&accepts);
        let entries = &mut self.rule["verifyImages"][0]["attestors"][0]["entries"];
        let Some(entries) = entries.as_array_mut().filter(|e| !e.iter().all(accepts)) else {
            return self;
        };
        let nobody = {
            json!({
                "keys": {
                    "publicKeys": NOBODYS_KEY,
                    "signatureAlgorithm": "sha256",
                    "rekor": {"ignoreTlog": true, "url": "https://rekor.sigstore.dev"},
                    "ctlog": {"ignoreSCT": true},
                },
                "signatureAlgorithm": "sha256",
            })
        };
        entries.retain(accepts);
        if entries.is_empty() {
            entries.push(nobody);
        }
        let left: Vec<String> = keys_of(&self.rule).into_iter().collect();
        let digest = Sha256::digest(left.concat().as_bytes());
        self.mark.key_set = digest[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        self
    }
}

#[derive(Clone, Debug)]
struct Written {
    sent: Value,
    stored: DynamicObject,
}

fn render(input: &Input<'_>) -> Option<Rendered> {
    let kind = ClusterPolicy {
        policy: input.policy,
        excluded: input.excluded,
        operator_namespace: input.operator_namespace,
        enrolment_label: input.enrolment_label,
        now: input.now,
    };
    let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
    for (ring, kept) in &input.kept {
        let KeptRule { mark, high_water, rule } = kept.clone();
        rules.insert((*ring).to_owned(), Rule { mark, high_water, rule });
    }
    for (ring, ledger) in &input.ledgers {
        rules.insert((*ring).to_owned(), kind.ring_rule(ring, ledger));
    }
    (!rules.is_empty()).then(|| kind.render(rules))
}

fn recorded(annotation: Option<&String>, ring: &str) -> Option<HighWater> {
    let mut marks: HighWaters = annotation?.parse().ok()?;
    marks.0.remove(ring)
}

/// What was decided, in words that both sides have.
#[derive(Debug, PartialEq)]
enum Decision {
    Wait,
    LeaveAlone,
    HoldBack,
    Rest(Value),
    Write {
        spec: Value,
        annotations: BTreeMap<String, String>,
        drifted: bool,
        expired: BTreeSet<String>,
    },
    Delete,
}

type Said = (Decision, Option<Duration>, Option<usize>, BTreeSet<String>);

fn before(
    context: &Context,
    policy: PolicyRef,
    written: Option<&Written>,
    refused: &BTreeMap<String, Value>,
    lists: &[(String, Exclusion)],
) -> Said {
    let idle = |decision| (decision, None, None, BTreeSet::new());
    let found = context.cache.policy(policy);
    let found = found.as_deref();
    let version = |p: &DynamicObject| p.resource_version().unwrap_or_default();
    if let (Some(found), Some(written)) = (found, written)
        && is_newer(&version(&written.stored), &version(found))
    {
        return idle(Decision::Wait);
    }
    let placed = context.cache.ledgers.placed_in(policy);
    if found.is_some_and(|found| !is_ours(found)) {
        return idle(Decision::LeaveAlone);
    }
    let mut excluded: Vec<Exclusion> = lists.iter().map(|(_, e)| e.clone()).collect();
    excluded.sort();
    excluded.dedup();
    let kept = kept(context, found, written);
    let gone = placed.iter().filter(|(ring, row)| {
        let removed = row.ledger.as_ref().is_ok_and(|ledger| ledger.removed);
        !removed && context.cache.ring(ring.as_str()).is_none()
    });
    let mut orphans: BTreeSet<String> = gone.map(|(ring, _)| format!("{ring} gone")).collect();
    orphans.extend(kept.keys().map(|ring| format!("{ring} lost")));
    let ledgers = rendered_ledgers(context, &placed, &kept);
    let now = context.clock.now();
    let input = Input {
        policy,
        ledgers: ledgers.iter().map(|(ring, ledger)| (*ring, ledger.as_ref())).collect(),
        kept: kept.iter().map(|(ring, kept)| (ring.as_str(), kept.clone())).collect(),
        excluded: &excluded,
        operator_namespace: &context.settings.namespace,
        enrolment_label: &context.settings.enrolment_label,
        now,
    };
    let Some(wanted) = render(&input) else { return (Decision::Delete, None, None, orphans) };
    let bytes = Some(size(&wanted.spec));
    let rules = found.map(found_rules).unwrap_or_default();
    let accepted = without_refused(refused, &input, &rules, &wanted);
    let held_back = accepted.ledgers.len() < input.ledgers.len();
    let Some(rendered) = render(&accepted) else {
        return (Decision::HoldBack, Some(REFUSED_FOR), bytes, orphans);
    };
    let drifted = drifted(found, written);
    let wake = if held_back { Some(REFUSED_FOR) } else { next_expiry(lists, &placed, now) };
    if found.is_some_and(|found| holds(found, &rendered, written)) {
        return (Decision::Rest(rendered.spec), wake, bytes, orphans);
    }
    let skipped = found.map(|found| skipped(&found.data));
    let is_expired = |e: &Exclusion| {
        skipped.as_ref().is_some_and(|skipped| !e.counts(now) && is_skipped(e, skipped))
    };
    let listed = lists.iter().filter(|(_, e)| is_expired(e));
    let mut expired: BTreeSet<String> = listed.map(|(l, e)| format!("{l} {}", e.image)).collect();
    for (ring, row) in &placed {
        let own = row.ledger.iter().flat_map(|ledger| &ledger.rule.settings.exclude);
        expired.extend(own.filter(|e| is_expired(e)).map(|e| format!("{ring} {}", e.image)));
    }
    let (spec, annotations) = (rendered.spec, rendered.annotations);
    (Decision::Write { spec, annotations, drifted, expired }, wake, bytes, orphans)
}

fn now_decided(context: &Context, policy: PolicyRef) -> Said {
    use signingkeyring_core::policy::{KeptBecause, Origin};
    let observed = observe_policy(context, policy);
    let backend = observed.backend(context);
    let plan = plan_policy(&observed.snapshot, &backend);
    let compose = |content: &signingkeyring_core::policy::Content| {
        let rendered = backend.compose(content, |s, r| observed.rule(s, r)).unwrap();
        assert_eq!(rendered.marks, content.marks());
        let metadata = signingkeyring_core::policy::cluster_policy::Metadata {
            annotations: &rendered.annotations,
            labels: &rendered.labels,
        };
        let read =
            signingkeyring_core::policy::cluster_policy::read(metadata, &rendered.spec, |_| None);
        assert_eq!(read.spec, content.whole.spec.digest, "what is written is what was planned");
        assert_eq!(read.own_metadata, content.whole.own_metadata);
        assert_eq!(rendered.spec.to_string().len(), content.whole.spec.bytes);
        rendered
    };
    let decision = match plan.step {
        Step::Wait => Decision::Wait,
        Step::LeaveAlone => Decision::LeaveAlone,
        Step::HoldBack => Decision::HoldBack,
        Step::Rest(content) => Decision::Rest(compose(&content).spec),
        Step::Delete => Decision::Delete,
        Step::Write(write) => {
            let rendered = compose(&write.content);
            let expired = write.expired.iter().map(|(origin, e)| match origin {
                Origin::List(name) | Origin::Ring(name) => format!("{name} {}", e.image),
            });
            Decision::Write {
                spec: rendered.spec,
                annotations: rendered.annotations,
                drifted: write.drifted,
                expired: expired.collect(),
            }
        }
    };
    let kept = plan.kept.iter().map(|(ring, why)| match why {
        KeptBecause::RingGone => format!("{ring} gone"),
        KeptBecause::LedgerUnknown => format!("{ring} lost"),
    });
    (decision, plan.requeue_after, plan.bytes, kept.collect())
}

fn rendered_ledgers<'a>(
    context: &Context,
    placed: &'a [(RingName, LedgerRow)],
    kept: &BTreeMap<String, KeptRule>,
) -> BTreeMap<&'a str, Cow<'a, Ledger>> {
    placed
        .iter()
        .filter(|(ring, _)| !kept.contains_key(ring.as_str()))
        .filter_map(|(ring, row)| Some((ring.as_str(), row, row.table()?)))
        .filter(|(_, _, ledger)| !ledger.removed)
        .map(|(ring, row, ledger)| {
            let mut remembered = HighWater::default();
            if let Some(Ok(object)) = context.cache.ring(ring).as_deref().map(|ring| &ring.0) {
                for witness in witness::of_ring(object) {
                    remembered.raise(&witness.high_water);
                }
            }
            if row.ledger.is_ok() && ledger.knows(&remembered) {
                return (ring, Cow::Borrowed(ledger));
            }
            let revoked = revoked(context, ring);
            let named = ledger.versions.iter().filter(|v| revoked.iter().any(|r| r.names(v)));
            remembered.revoked.extend(named.map(|v| short(v.fingerprint.as_str())));
            (ring, Cow::Owned(ledger.without(&remembered.revoked)))
        })
        .collect()
}

fn kept(
    context: &Context,
    found: Option<&DynamicObject>,
    written: Option<&Written>,
) -> BTreeMap<String, KeptRule> {
    let mut kept = BTreeMap::new();
    let sources = [found, written.map(|written| &written.stored)];
    for source in sources.into_iter().flatten() {
        for (ring, rule) in found_rules(source) {
            let row = context.cache.ledgers.get(&ring);
            let ledger = row.as_ref().and_then(LedgerRow::table);
            if ledger.is_none_or(|ledger| ledger.rule.sequence < rule.mark.sequence) {
                let revoked = revoked(context, &ring);
                let accepts = |key: &str| !revoked.iter().any(|r| names_key(r, key, ledger));
                kept.insert(ring, rule.narrowed(accepts));
            }
        }
    }
    kept
}

fn revoked(context: &Context, ring: &str) -> Vec<Revoked> {
    let found = context.cache.ring(ring);
    let object = found.as_deref().and_then(|ring| ring.0.as_ref().ok());
    object.map(|object| ring::revoked(&object.spec)).unwrap_or_default()
}

fn names_key(revoked: &Revoked, key: &str, table: Option<&Ledger>) -> bool {
    let mut rows = table.into_iter().flat_map(|table| &table.versions);
    match revoked {
        Revoked::Fingerprint(named) => fingerprint_of(key).is_ok_and(|real| real == *named),
        Revoked::Unreadable(_) => false,
        Revoked::Version(_) => rows.any(|row| row.public_key == key && revoked.names(row)),
    }
}

fn found_rules(policy: &DynamicObject) -> BTreeMap<String, KeptRule> {
    let annotation = policy.annotations().get(names::ANNOTATION_HIGH_WATER);
    let rules = marks(policy).0.into_iter().filter_map(|(ring, mark)| {
        let rule = rule_of(&policy.data["spec"], &ring)?.clone();
        let high_water = recorded(annotation, &ring).unwrap_or_default();
        Some((ring, KeptRule { mark, high_water, rule }))
    });
    rules.collect()
}

fn rule_of<'a>(spec: &'a Value, ring: &str) -> Option<&'a Value> {
    spec["rules"].as_array()?.iter().find(|rule| rule["name"] == *ring)
}

fn without_refused<'a>(
    refused: &BTreeMap<String, Value>,
    input: &Input<'a>,
    before: &'a BTreeMap<String, KeptRule>,
    rendered: &Rendered,
) -> Input<'a> {
    let mut input = input.clone();
    for ring in input.ledgers.keys().copied().collect::<Vec<_>>() {
        let rule = rule_of(&rendered.spec, ring).cloned().unwrap_or_default();
        if refused.get(ring) == Some(&rule) {
            let ledger = input.ledgers.remove(ring);
            if let (Some(kept), Some(ledger)) = (before.get(ring), ledger) {
                let accepts = |key: &str| ledger.accepted().any(|v| v.public_key == key);
                input.kept.insert(ring, kept.clone().narrowed(accepts));
            }
        }
    }
    input
}

fn size(spec: &Value) -> usize {
    spec.to_string().len()
}

fn holds(found: &DynamicObject, rendered: &Rendered, written: Option<&Written>) -> bool {
    let spec = &found.data["spec"];
    let same_spec = *spec == rendered.spec
        || written.is_some_and(|w| w.sent == rendered.spec && w.stored.data["spec"] == *spec);
    let has = |have: &BTreeMap<String, String>, want: &BTreeMap<String, String>| {
        want.iter().all(|(key, value)| have.get(key) == Some(value))
    };
    same_spec
        && has(found.annotations(), &rendered.annotations)
        && has(found.labels(), &rendered.labels)
}

fn drifted(found: Option<&DynamicObject>, written: Option<&Written>) -> bool {
    match (found, written) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(found), Some(written)) => {
            let stored = &written.stored;
            found.data["spec"] != stored.data["spec"]
                || found.annotations() != stored.annotations()
                || found.labels() != stored.labels()
        }
    }
}

fn skipped(policy: &Value) -> BTreeSet<String> {
    let rules = policy["spec"]["rules"].as_array().into_iter().flatten();
    rules
        .filter_map(|rule| rule["verifyImages"][0]["skipImageReferences"].as_array())
        .flatten()
        .filter_map(|glob| glob.as_str().map(str::to_owned))
        .collect()
}

fn is_skipped(exclusion: &Exclusion, skipped: &BTreeSet<String>) -> bool {
    Pattern::parse(&exclusion.image)
        .is_ok_and(|pattern| pattern.spellings().iter().any(|glob| skipped.contains(glob)))
}

fn next_expiry(
    lists: &[(String, Exclusion)],
    placed: &[(RingName, LedgerRow)],
    now: Timestamp,
) -> Option<Duration> {
    let own = placed
        .iter()
        .filter_map(|(_, row)| row.ledger.as_ref().ok())
        .flat_map(|ledger| &ledger.rule.settings.exclude);
    let next = lists
        .iter()
        .map(|(_, exclusion)| exclusion)
        .chain(own)
        .filter(|exclusion| exclusion.counts(now))
        .filter_map(|exclusion| end_of(exclusion.expires?))
        .min()?;
    Duration::try_from(next.duration_since(now)).ok()
}

fn end_of(day: Date) -> Option<Timestamp> {
    let next = day.checked_add(1.day()).ok()?;
    Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

const RINGS: [&str; 2] = ["checkout", "shop"];
const ENFORCE: PolicyRef = PolicyRef::new(Action::Enforce, 1);
const AUDIT: PolicyRef = PolicyRef::new(Action::Audit, 1);

/// Real key pairs: a revocation by fingerprint looks at the key itself.
fn keys() -> &'static [(String, String)] {
    static KEYS: OnceLock<Vec<(String, String)>> = OnceLock::new();
    KEYS.get_or_init(|| {
        let pairs = (0..24).map(|_| KeyPair::generate().unwrap());
        pairs.map(|p| (p.public_pem().to_owned(), p.fingerprint().to_string())).collect()
    })
}

fn instant() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

type Rings = [Option<Ledger>; 2];

/// The next state of a ring's ledger.
fn next(ledger: Option<&Ledger>, ring: usize, step: u8) -> Option<Ledger> {
    let rule = ledger.map_or_else(
        || RuleSettings {
            action: Action::Enforce,
            exclude: Vec::new(),
            policy: ENFORCE,
            leaving: None,
        },
        |ledger| ledger.rule.settings.clone(),
    );
    let number = ledger.and_then(Ledger::newest).map_or(1, |v| v.number + 1);
    let apply = |base: Option<&Ledger>, change: Change| {
        let key = change.mints().map(|number| {
            let (public_key, fingerprint) = keys()[ring * 12 + number as usize % 12].clone();
            let private_key = PrivateKeyRef { digest: "00".into(), secret: None };
            NewKey { public_key, fingerprint: fingerprint.parse().unwrap(), private_key }
        });
        Ledger::apply(base, &change, key, instant()).ok()
    };
    let mint = || {
        let change =
            Change::Mint { version: number, token: None, standby: false, rule: rule.clone() };
        apply(ledger, change)
    };
    let pending = ledger.and_then(Ledger::pending).map(|v| v.number);
    match (step, ledger) {
        (_, None) => mint(),
        (0..=2, Some(_)) if pending.is_none() => mint(),
        (0..=2, Some(_)) => apply(ledger, Change::Activate { version: pending?, keep: 3 }),
        (3, Some(l)) => {
            let versions = l.accepted().last().map(|v| v.number).into_iter().collect();
            apply(ledger, Change::Revoke { versions, promote: None, keep: 3 })
        }
        (4, Some(_)) => {
            let expires = ["2026-11-20", "2026-12-01"][usize::from(number.is_multiple_of(2))];
            let exclude = vec![Exclusion {
                image: "quay.io/own/*".into(),
                expires: Some(expires.parse().unwrap()),
            }];
            apply(ledger, Change::Rule(RuleSettings { exclude, ..rule }))
        }
        (5, Some(_)) => {
            let to = if rule.policy == ENFORCE { AUDIT } else { ENFORCE };
            let leaving = Some(rule.policy);
            apply(
                ledger,
                Change::Rule(RuleSettings { policy: to, action: to.action(), leaving, ..rule }),
            )
        }
        (6, Some(_)) => apply(ledger, Change::Rule(RuleSettings { leaving: None, ..rule })),
        (_, Some(l)) => apply(ledger, Change::Remove { rule, above: l.sequence }),
    }
}

fn histories(steps: &[(usize, u8)]) -> Vec<Rings> {
    let mut states: Vec<Rings> = vec![[None, None]];
    for (ring, step) in steps {
        let mut state = states[states.len() - 1].clone();
        if let Some(ledger) = next(state[*ring].as_ref(), *ring, *step) {
            state[*ring] = Some(ledger);
        }
        states.push(state);
    }
    states
}

/// A policy as an operator that saw these ledgers would have written it.
fn policy_of(
    context: &Context,
    policy: PolicyRef,
    state: &Rings,
    lists: &[(String, Exclusion)],
) -> Option<DynamicObject> {
    let excluded: Vec<Exclusion> = lists.iter().map(|(_, e)| e.clone()).collect();
    let placed =
        RINGS.iter().zip(state).filter_map(|(ring, ledger)| Some((*ring, ledger.as_ref()?)));
    let placed =
        placed.filter(|(_, l)| !l.removed && l.rule.settings.policies().any(|p| p == policy));
    let rendered = render(&Input {
        policy,
        ledgers: placed.collect(),
        kept: BTreeMap::new(),
        excluded: &excluded,
        operator_namespace: &context.settings.namespace,
        enrolment_label: &context.settings.enrolment_label,
        now: instant() - 10 * 24.hours(),
    })?;
    Some(DynamicObject {
        types: Some(TypeMeta { api_version: "kyverno.io/v1".into(), kind: "ClusterPolicy".into() }),
        metadata: ObjectMeta {
            name: Some(policy.to_string()),
            annotations: Some(rendered.annotations),
            labels: Some(rendered.labels),
            ..ObjectMeta::default()
        },
        data: json!({"spec": rendered.spec}),
    })
}

fn tamper(policy: &mut DynamicObject, how: u8) {
    let rules = policy.data["spec"]["rules"].as_array_mut().unwrap();
    match how {
        1 => policy.metadata.labels = None,
        2 => {
            policy.metadata.labels = None;
            policy.metadata.annotations = None;
        }
        3 => rules[0]["skipBackgroundRequests"] = json!(false),
        4 => {
            rules.remove(0);
        }
        5 => {
            let text = policy.annotations()[names::ANNOTATION_MARKS].clone();
            let mut marks: signingkeyring_core::marks::Marks = text.parse().unwrap();
            for mark in marks.0.values_mut() {
                mark.sequence += 5;
            }
            policy.annotations_mut().insert(names::ANNOTATION_MARKS.into(), marks.to_string());
        }
        6 => policy.data["spec"]["admission"] = json!(false),
        7 => {
            policy.annotations_mut().insert("somebody.else/s".into(), "x".into());
        }
        8 => rules[0]["verifyImages"][0]["skipImageReferences"] = json!(["*"]),
        9 => rules[0]["verifyImages"][0]["attestors"][0]["entries"][0] = json!({"keyless": {}}),
        _ => {}
    }
}

#[derive(Clone, Debug)]
struct Case {
    steps: Vec<(usize, u8)>,
    audit: bool,
    ledgers_at: [usize; 2],
    rows: [u8; 2],
    objects: [u8; 2],
    found: Option<(usize, u8, u8)>,
    written: Option<(usize, bool, u8)>,
    refused: [bool; 2],
}

fn case() -> impl Strategy<Value = Case> {
    (
        proptest::collection::vec((0..2usize, 0..8u8), 2..24),
        any::<bool>(),
        [0..4usize, 0..4usize],
        [0..8u8, 0..8u8],
        [0..10u8, 0..10u8],
        proptest::option::weighted(0.9, (0..5usize, 0..16u8, 0..4u8)),
        proptest::option::weighted(0.6, (0..5usize, any::<bool>(), 0..4u8)),
        [proptest::bool::weighted(0.2), proptest::bool::weighted(0.2)],
    )
        .prop_map(|(steps, audit, ledgers_at, rows, objects, found, written, refused)| Case {
            steps,
            audit,
            ledgers_at,
            rows,
            objects,
            found,
            written,
            refused,
        })
}

fn check(case: &Case, seen: &mut BTreeMap<&'static str, u32>) -> Result<(), TestCaseError> {
    let settings = <Settings as clap::Parser>::parse_from(["operator"]);
    let client = Client::try_from(Config::new("http://127.0.0.1:1".parse().unwrap())).unwrap();
    let (context, mut writers) = assemble(client, settings, Clock::new(instant));
    let lists = [
        (
            "platform".to_owned(),
            Exclusion { image: "docker.io/library/busybox:*".into(), expires: None },
        ),
        (
            "platform".to_owned(),
            Exclusion {
                image: "quay.io/old/*".into(),
                expires: Some("2026-11-20".parse().unwrap()),
            },
        ),
        (
            "team".to_owned(),
            Exclusion {
                image: "quay.io/soon/*".into(),
                expires: Some("2026-11-25".parse().unwrap()),
            },
        ),
    ];
    for name in ["platform", "team"] {
        let images: Vec<Value> = lists.iter().filter(|(list, _)| list == name).map(|(_, e)| {
            json!({"image": e.image, "reason": "x", "expires": e.expires.map(|d| d.to_string())})
        }).collect();
        let list: ImageExclusionList = serde_json::from_value(json!({
            "apiVersion": "signing.odj.cloud/v1alpha1", "kind": "ImageExclusionList",
            "metadata": {"name": name}, "spec": {"images": images},
        }))
        .unwrap();
        writers.lists.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(list))));
    }
    let states = histories(&case.steps);
    let policy = if case.audit { AUDIT } else { ENFORCE };
    let at = |back: usize| &states[states.len().saturating_sub(1 + back)];
    for (index, name) in RINGS.into_iter().enumerate() {
        if let Some(ledger) = at(case.ledgers_at[index])[index].clone() {
            let row = match case.rows[index] {
                0 => None,
                1 => Some(LedgerRow::damaged(
                    "1".into(),
                    Damage { why: "x".into(), table: None, unchecked: false },
                )),
                2 => Some(LedgerRow::damaged(
                    "1".into(),
                    Damage { why: "x".into(), table: Some(Arc::new(ledger)), unchecked: false },
                )),
                _ => Some(LedgerRow::sound("1".into(), ledger)),
            };
            if let Some(row) = row {
                context.cache.ledgers.put(&name.parse().unwrap(), row);
            }
        }
        let (key, fingerprint) = &keys()[index * 12 + 1];
        let mut ring = SigningKeyRing::new(name, Default::default());
        let revoke = |value: Value| vec![serde_json::from_value(value).unwrap()];
        match case.objects[index] {
            0 => continue,
            1 => ring.spec.revoked = revoke(json!({"version": 1, "reason": "x"})),
            2 => ring.spec.revoked = revoke(json!({"fingerprint": fingerprint, "reason": "x"})),
            3 => {
                let text = format!("{name}=1:{}", short(fingerprint));
                ring.annotations_mut().insert(names::ANNOTATION_HIGH_WATER.into(), text);
            }
            4 => {
                ring.annotations_mut()
                    .insert(names::ANNOTATION_HIGH_WATER.into(), format!("{name}=99"));
                ring.spec.revoked = revoke(json!({"version": 2, "reason": "x"}));
            }
            _ => {}
        }
        assert!(key.starts_with("-----BEGIN"));
        writers.rings.apply_watcher_event(&Event::Apply(DeserializeGuard(Ok(ring))));
    }
    if let Some((back, how, version)) = case.found
        && let Some(mut object) = policy_of(&context, policy, at(back), &lists)
    {
        tamper(&mut object, how);
        object.metadata.resource_version = Some(version.to_string());
        writers.policies.apply_watcher_event(&Event::Apply(object));
    }
    let written = case.written.and_then(|(back, defaults, version)| {
        let mut stored = policy_of(&context, policy, at(back), &lists)?;
        let sent = stored.data["spec"].clone();
        if defaults {
            stored.data["spec"]["useServerSideApply"] = json!(false);
        }
        stored.metadata.resource_version = Some(version.to_string());
        Some(Written { sent, stored })
    });
    if let Some(Written { sent, stored }) = &written {
        let sent = digest_of_spec(sent);
        let stored = Arc::new(stored.clone());
        context.cache.written.stands(policy, WrittenPolicy { sent, stored });
    }
    let mut refused = BTreeMap::new();
    for (index, name) in RINGS.into_iter().enumerate() {
        let row = context.cache.ledgers.get(name);
        let table = row.as_ref().and_then(LedgerRow::table);
        if let (true, Some(table)) = (case.refused[index], table) {
            let excluded: Vec<Exclusion> = {
                let mut all: Vec<_> = lists.iter().map(|(_, e)| e.clone()).collect();
                all.sort();
                all
            };
            let kind = ClusterPolicy {
                policy,
                excluded: &excluded,
                operator_namespace: &context.settings.namespace,
                enrolment_label: &context.settings.enrolment_label,
                now: instant(),
            };
            let rule = kind.ring_rule(name, table).rule;
            let failure = WriteFailure { refused: true, message: "no".into() };
            context.cache.written.refuse(policy, name, digest_of_rule(&rule), failure);
            refused.insert(name.to_owned(), rule);
        }
    }
    let old = before(&context, policy, written.as_ref(), &refused, &lists);
    let new = now_decided(&context, policy);
    let kind = match &new.0 {
        Decision::Wait => "wait",
        Decision::LeaveAlone => "leave alone",
        Decision::HoldBack => "hold back",
        Decision::Rest(_) => "rest",
        Decision::Write { drifted: true, .. } => "write over drift",
        Decision::Write { .. } => "write",
        Decision::Delete => "delete",
    };
    *seen.entry(kind).or_default() += 1;
    if !new.3.is_empty() {
        *seen.entry("kept").or_default() += 1;
    }
    prop_assert_eq!(old, new);
    Ok(())
}

fn digest_of_spec(spec: &Value) -> Digest {
    let (annotations, labels) = (BTreeMap::new(), BTreeMap::new());
    let metadata = signingkeyring_core::policy::cluster_policy::Metadata {
        annotations: &annotations,
        labels: &labels,
    };
    signingkeyring_core::policy::cluster_policy::read(metadata, spec, |_| None).spec
}

fn digest_of_rule(rule: &Value) -> Digest {
    let mut body = rule.clone();
    let entries = body["verifyImages"][0]["attestors"][0]["entries"].take();
    body["verifyImages"][0]["attestors"][0]["entries"] = json!([]);
    Part::with(Part::of(&body), entries.as_array().unwrap().iter().map(Part::of)).digest
}

#[test]
fn the_plan_decides_as_was_decided_before() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    let seen = std::cell::RefCell::new(BTreeMap::new());
    let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(4000));
    runner.run(&case(), |case| check(&case, &mut seen.borrow_mut())).unwrap();
    let seen = seen.into_inner();
    println!("{seen:?}");
    assert_eq!(seen.len(), 8, "every kind of decision comes up: {seen:?}");
}
