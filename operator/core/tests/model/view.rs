//! What a replica sees of a state: the snapshot that the planner gets.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use signingkeyring_core::{
    high_water::HighWater,
    ledger::PipelineRef,
    policy_ref::{Action, PolicyRef},
    snapshot::{
        Answer, AskedPolicy, Layout, LedgerFound, OperatorFacts, PipelineFound, Place, PolicyFound,
        Reported, Revoked, Ring, Snapshot, Witness,
    },
};

use crate::{
    facts::Stored,
    state::{Heard, Held, Soak, Spec, State},
};

pub const RING: &str = "shop";
pub const NAMESPACE: &str = "signing-system";
pub const LABEL: &str = "signing.odj.cloud/ring";
pub const POLICIES: [PolicyRef; 2] =
    [PolicyRef::new(Action::Enforce, 1), PolicyRef::new(Action::Audit, 1)];

const SOAK: Duration = Duration::from_secs(10);
const DAY: u64 = 86_400;

pub fn pipeline(index: usize) -> PipelineRef {
    PipelineRef { namespace: format!("ci-{index}"), name: "image-signing".into() }
}

pub fn index_of(pipeline: &PipelineRef) -> usize {
    usize::from(pipeline.namespace == "ci-1")
}

pub fn token(number: u8) -> String {
    format!("token-{number}")
}

pub fn now(day: u8) -> Timestamp {
    let days = SignedDuration::from_hours(24 * i64::from(day));
    Timestamp::UNIX_EPOCH.checked_add(days).unwrap()
}

/// The positions of the policies that hold the ring's rule by this ledger.
pub fn places(ledger: &Stored) -> impl Iterator<Item = usize> {
    let placed = ledger.ledger.rule.settings.policies();
    placed.map(|policy| usize::from(policy == POLICIES[1]))
}

pub fn snapshot(
    state: &State,
    spec: &Spec,
    every: Option<u8>,
    ledger: Option<&Stored>,
    heard: &[Heard; 2],
) -> Snapshot {
    let ring = ring(spec, every);
    let placed: Vec<usize> = ledger.into_iter().flat_map(places).collect();
    let policies = (0..2)
        .filter(|p| placed.contains(p) || state.policies[*p].is_some())
        .map(|p| {
            // Only the policies that the ledger names are asked.
            let answer = if placed.contains(&p) { answer(&heard[p]) } else { Answer::NotAsked };
            (POLICIES[p], AskedPolicy { found: policy(state, p), answer })
        })
        .collect();
    let listed = ledger.into_iter().flat_map(|l| l.ledger.publications.iter());
    let pipelines =
        ring.pipelines.keys().chain(listed).map(|p| (p.clone(), look(state, ledger, p))).collect();
    Snapshot {
        name: RING.parse().unwrap(),
        place: Place { free: POLICIES[usize::from(spec.audit)], crowded: false },
        ring,
        ledger: ledger.map_or(LedgerFound::Absent, |l| LedgerFound::Present(l.ledger.clone())),
        reported: Reported::default(),
        witnesses: witnesses(state),
        recorded: state.recorded.clone(),
        key_secrets: state.apart.iter().map(|(serial, at)| (key_secret(*serial), *at)).collect(),
        import: None,
        kyverno_served: true,
        policies,
        pipelines,
        enrolled: ["shop-dev".to_owned()].into(),
        now: now(state.day),
        operator: OperatorFacts { namespace: NAMESPACE.into(), enrolment_label: LABEL.into() },
        trouble: None,
    }
}

fn ring(spec: &Spec, every: Option<u8>) -> Ring {
    Ring {
        keep: spec.keep.into(),
        every: every.map(|days| Duration::from_secs(DAY * u64::from(days))),
        soak: SOAK,
        pipelines: (0..2)
            .filter(|index| spec.pipelines[*index])
            .map(|index| (pipeline(index), Layout::Cosign))
            .collect(),
        action: if spec.audit { Action::Audit } else { Action::Enforce },
        exclude: Vec::new(),
        token: (spec.token > 0).then(|| token(spec.token)),
        deleting: spec.deleting,
        allow_unenforced: spec.allow_unenforced,
        finalizer: spec.finalizer,
        standby: spec.standby,
        suspend: spec.suspend,
        revoked: (1..16)
            .filter(|number| spec.revoked.has(*number))
            .map(|number| Revoked::Version(number.into()))
            .collect(),
        recover_after: None,
        problems: Vec::new(),
    }
}

/// The Secret of a standby key.
pub fn key_secret(serial: u8) -> String {
    format!("standby-{serial}")
}

fn witnesses(state: &State) -> Vec<Witness> {
    let witness =
        |who: &str, high_water, sequence| Witness { who: who.into(), high_water, sequence };
    let annotation = state.recorded.iter().map(|mark| witness("annotation", mark.clone(), None));
    let policies = state
        .policies
        .iter()
        .flatten()
        .map(|rule| witness("policy", rule.high_water.clone(), Some(rule.mark.sequence)));
    let named = HighWater { version: 1, ..HighWater::default() };
    let status = state.reported.then(|| witness("status", named, None));
    annotation.chain(policies).chain(status).collect()
}

fn policy(state: &State, index: usize) -> PolicyFound {
    match &state.policies[index] {
        None => PolicyFound::Absent { failure: None },
        Some(rule) => PolicyFound::Ours {
            mark: Some(rule.mark.clone()),
            keys: Default::default(),
            failure: None,
        },
    }
}

fn answer(heard: &Heard) -> Answer {
    match heard {
        Heard::Nothing => Answer::NotAsked,
        Heard::Open => Answer::Open,
        Heard::Mute => Answer::Mute("down".into()),
        Heard::Said(rule, soak) => Answer::Answered {
            mark: rule.as_ref().map(|rule| rule.mark.clone()),
            held: if *soak == Soak::Passed { SOAK } else { Duration::ZERO },
        },
    }
}

fn look(state: &State, ledger: Option<&Stored>, pipeline: &PipelineRef) -> PipelineFound {
    let index = index_of(pipeline);
    if state.forbidden[index] {
        return PipelineFound::Forbidden;
    }
    match state.secrets[index] {
        Held::Absent => PipelineFound::Absent,
        Held::Foreign => PipelineFound::Foreign,
        Held::Ours(serial) => {
            let fingerprint = format!("SHA256:{serial}").parse().unwrap();
            if ledger.is_none_or(|l| l.ledger.by_fingerprint(&fingerprint).is_none()) {
                return PipelineFound::OursUnknownKey;
            }
            PipelineFound::Ours { fingerprint, layout: Some(Layout::Cosign), intact: true }
        }
    }
}
