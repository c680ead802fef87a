//! What a replica sees of a state: the snapshot that the planner gets.

use std::{collections::BTreeSet, time::Duration};

use jiff::{SignedDuration, Timestamp};
use signingkeyring_core::{
    account::Account,
    high_water::HighWater,
    ledger::PipelineRef,
    names::PIPELINE_ROLE,
    policy::NOBODYS_KEY,
    policy_ref::{Action, PolicyKind, PolicyRef},
    schedule::Windows,
    snapshot::{
        Answer, AskedPolicy, KeySecret, KyvernoFacts, Layout, LedgerFound, OperatorFacts,
        PipelineFound, Place, PolicyFound, Reported, Revoked, Ring, Snapshot, Witness,
    },
    usable::{Because, UnusableKinds},
};

use crate::{
    act::Sight,
    cover,
    facts::{Keys, Stored, key},
    state::{Access, Heard, Held, Soak, Spec},
};

/// The ring under test, and the one beside it.
pub const RINGS: [&str; 2] = ["shop", "pay"];
pub const NAMESPACE: &str = "signing-system";
pub const ACCOUNT: &str = "system:serviceaccount:signing-system:signingkeyring-operator";
pub const LABEL: &str = "signing.odj.cloud/ring";
pub const POLICIES: [PolicyRef; 3] = [
    PolicyRef::new(Action::Enforce, 1),
    PolicyRef::new(Action::Audit, 1),
    PolicyRef::new(Action::Enforce, 1).of_kind(PolicyKind::ImageValidatingPolicy),
];

/// Their positions.
pub const ENFORCE: usize = 0;
pub const AUDIT: usize = 1;
pub const VALIDATING: usize = 2;

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
    placed.filter_map(|policy| POLICIES.iter().position(|other| *other == policy))
}

pub fn snapshot(sight: &Sight, every: Option<u8>) -> Snapshot {
    let (spec, ledger) = (&sight.spec, sight.ledger.as_deref());
    let ring = ring(spec, every);
    let placed: Vec<usize> = ledger.into_iter().flat_map(places).collect();
    let policies = (0..POLICIES.len())
        .filter(|p| placed.contains(p) || matches!(sight.rules[*p], Some(Some(_))))
        .map(|p| {
            // Only the policies that the ledger names are asked.
            let asked = placed.contains(&p);
            let answer = if asked { answer(&sight.heard[p]) } else { Answer::NotAsked };
            (POLICIES[p], AskedPolicy { found: policy(sight, p), answer })
        })
        .collect();
    let listed = ledger.into_iter().flat_map(|l| l.ledger.publications.iter());
    let pipelines = ring.pipelines.keys().chain(listed);
    let pipelines = pipelines.map(|p| (p.clone(), look(sight, p))).collect();
    Snapshot {
        name: RINGS[0].parse().unwrap(),
        can_seal: true,
        rotations_full: None,
        place: Place { free: POLICIES[spec.place], crowded: false },
        ring,
        ledger: ledger.map_or(LedgerFound::Absent, |l| LedgerFound::Present(l.ledger.clone())),
        reported: Reported::default(),
        witnesses: witnesses(sight),
        recorded: sight.recorded.clone(),
        key_secrets: sight
            .key_secrets
            .iter()
            .map(|(serial, at)| (key_secret(*serial), KeySecret { sequence: *at, is_fit: true }))
            .collect(),
        import: None,
        shares_key_with: None,
        served: PolicyKind::ALL.into(),
        outdated: BTreeSet::new(),
        unusable: UnusableKinds::new(),
        questions_missing: None,
        probe_missing: None,
        covers: sight.cover.map(|seen| (cover::POLICY, seen)).into_iter().collect(),
        policies,
        pipelines,
        terminating: (0..2)
            .filter(|index| sight.access[*index] == Access::Ending)
            .map(|index| pipeline(index).namespace)
            .collect(),
        enrolled: ["shop-dev".to_owned()].into(),
        omissions: Some(Vec::new()),
        now: now(sight.day),
        operator: OperatorFacts {
            namespace: NAMESPACE.into(),
            probe_namespace: "signing-probe".into(),
            enrolment_label: LABEL.into(),
            account: Account::of_user_name(ACCOUNT),
            pipeline_role: PIPELINE_ROLE.into(),
            kyverno: KyvernoFacts { namespace: "kyverno".into(), config_map: "kyverno".into() },
        },
        trouble: None,
    }
}

fn ring(spec: &Spec, every: Option<u8>) -> Ring {
    Ring {
        keep: spec.keep.into(),
        every: every.map(|days| Duration::from_secs(DAY * u64::from(days))),
        windows: Windows::default(),
        soak: SOAK,
        pipelines: (0..2)
            .filter(|index| spec.pipelines[*index])
            .map(|index| (pipeline(index), Layout::Cosign))
            .collect(),
        action: POLICIES[spec.place].action(),
        kind: POLICIES[spec.place].kind(),
        kind_because: Because::Asked,
        exclude: Vec::new(),
        credentials: [].into(),
        token: (spec.token > 0).then(|| token(spec.token)),
        deleting: spec.deleting,
        allow_unenforced: spec.allow_unenforced,
        finalizer: spec.finalizer,
        standby: spec.standby,
        suspend: spec.suspend,
        revoked: revoked(spec.revoked),
        recover_after: None,
        problems: Vec::new(),
    }
}

/// The versions of these numbers, as an object revokes them.
pub fn revoked(numbers: Keys) -> Vec<Revoked> {
    let numbers = (1..16).filter(|number| numbers.has(*number));
    numbers.map(|number| Revoked::Version(number.into())).collect()
}

/// The Secret of a standby key.
pub fn key_secret(serial: u8) -> String {
    format!("standby-{serial}")
}

fn witnesses(sight: &Sight) -> Vec<Witness> {
    let witness = |who: &str, high_water, sequence| Witness {
        who: who.into(),
        policy: None,
        high_water,
        sequence,
    };
    let annotation = sight.recorded.iter().map(|mark| witness("annotation", mark.clone(), None));
    let policies = sight.rules.iter().zip(POLICIES).filter_map(|(rule, policy)| {
        let rule = rule.as_ref()?.as_ref()?;
        let sequence = Some(rule.mark.state.sequence);
        let witness = witness("policy", rule.high_water.clone(), sequence);
        Some(Witness { policy: Some(policy), ..witness })
    });
    let named = HighWater { version: 1, ..HighWater::default() };
    let status = sight.reported.then(|| witness("status", named, None));
    annotation.chain(policies).chain(status).collect()
}

fn policy(sight: &Sight, index: usize) -> PolicyFound {
    match &sight.rules[index] {
        None => PolicyFound::Absent { failure: None },
        Some(rule) => PolicyFound::Ours {
            mark: rule.as_ref().map(|rule| rule.mark.clone()),
            keys: rule.iter().flat_map(|rule| public_keys(rule.keys)).collect(),
            credentials: BTreeSet::new(),
            failure: None,
            differs: None,
        },
    }
}

fn public_keys(keys: Keys) -> impl Iterator<Item = String> {
    let public_key = |serial| match serial {
        0 => NOBODYS_KEY.to_owned(),
        _ => key(serial).public_key,
    };
    (0..16).filter(move |serial| keys.has(*serial)).map(public_key)
}

fn answer(heard: &Heard) -> Answer {
    match heard {
        Heard::Nothing => Answer::NotAsked,
        Heard::Open => Answer::Open(SOAK),
        Heard::Unreachable => Answer::Unreachable("down".into()),
        Heard::Said(rule, soak) => Answer::Answered {
            mark: rule.as_ref().map(|rule| rule.mark.clone()),
            held: if *soak == Soak::Passed { SOAK } else { Duration::ZERO },
            behind: Duration::ZERO,
        },
    }
}

fn look(sight: &Sight, pipeline: &PipelineRef) -> PipelineFound {
    let index = index_of(pipeline);
    if sight.access[index] != Access::Granted {
        return PipelineFound::Forbidden;
    }
    match sight.secrets[index] {
        Held::Absent => PipelineFound::Absent,
        Held::Foreign => PipelineFound::Foreign { ring: None, holds: None },
        Held::Ours(serial) => {
            let fingerprint = format!("SHA256:{serial}").parse().unwrap();
            let ledger = sight.ledger.as_ref();
            let Some(row) = ledger.and_then(|l| l.ledger.by_fingerprint(&fingerprint)) else {
                return PipelineFound::OursUnknownKey { holds: None };
            };
            let holds = row.state().is_accepted().then_some(row.number);
            let layout = Some(Layout::Cosign);
            PipelineFound::Ours { holds, layout, intact: true, fixed: false, leaving: false }
        }
    }
}
