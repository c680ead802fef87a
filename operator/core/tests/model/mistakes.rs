//! Planted mistakes: the real planner with one thing wrong, and the invariant
//! whose violation the checker has to find. A model that cannot fail proves
//! nothing.

use std::time::Duration;

use signingkeyring_core::{
    ledger::{Change, Leaving, Ledger, Mint, Phase, RuleSettings},
    marks::Mark,
    pass,
    plan::{Action, Plan},
    snapshot::{Answer, LedgerFound, PipelineFound, Snapshot},
};
use stateright::{Checker, HasDiscoveries, Model};

use crate::{
    configurations::{Configuration, named, say},
    cover,
    machine::{Machine, Planner, Subject},
    sync::{Composer, PolicyPlanner},
};

mod policies;

use policies::{
    adopts, believes, counts_rules, forgets_others, forgets_removal, overwrites, reaccepts,
    renders_nothing,
};

struct Mistake {
    name: &'static str,
    subject: Subject,
    /// Where it is looked for.
    configuration: &'static str,
    violates: &'static str,
}

const fn mistake(
    name: &'static str,
    planner: Planner,
    configuration: &'static str,
    violates: &'static str,
) -> Mistake {
    let subject = Subject { plan: planner, ..Subject::REAL };
    Mistake { name, subject, configuration, violates }
}

const fn composed(
    name: &'static str,
    compose: Composer,
    configuration: &'static str,
    violates: &'static str,
) -> Mistake {
    let subject = Subject { compose, ..Subject::REAL };
    Mistake { name, subject, configuration, violates }
}

const fn policy_mistake(
    name: &'static str,
    plan_policy: PolicyPlanner,
    configuration: &'static str,
    violates: &'static str,
) -> Mistake {
    let subject = Subject { plan_policy, ..Subject::REAL };
    Mistake { name, subject, configuration, violates }
}

const MISTAKES: &[Mistake] = &[
    mistake("switch before the acknowledgement", unacknowledged, "rotation", "no-gap"),
    mistake("switch before the soak", impatient, "rotation", "no-gap"),
    mistake("prune before the switch", prunes_early, "rotation", "no-gap"),
    mistake("a window too wide by one", too_wide, "window", "window"),
    mistake("mint twice", mints_twice, "rotation", "exactly-once"),
    mistake("forget the token", forgets_token, "rotation", "exactly-once"),
    composed("re-accept a revoked version", reaccepts, "revocation", "revoked-stays-revoked"),
    composed("no key at zero keys", renders_nothing, "revocation", "revoked-stays-revoked"),
    mistake("bring back what a revocation freed", widens, "revocation", "window"),
    mistake("mint where none may be yet", ignores_suspension, "unborn", "suspended-is-frozen"),
    mistake("mint over a loss", sees_no_evidence, "loss", "no-mint-over-a-loss"),
    mistake("publish before it is written down", publishes_unlisted, "birth", "private-keys-known"),
    mistake("write without change", rewrites, "rotation", "silence"),
    mistake("touch a foreign Secret", sees_no_owner, "pipelines", "not-ours-not-touched"),
    mistake("leave the old policy at once", moves_early, "move", "closed-not-open"),
    mistake("leave the other kind of policy at once", moves_early, "kinds", "closed-not-open"),
    mistake("leave the other kind before it lets go", does_not_release, "kinds", "no-gap"),
    mistake("let go of the old policy at once", releases_early, "kinds", "closed-not-open"),
    mistake("go to a third policy from a second", wanders, "kinds+", "closed-not-open"),
    mistake("switch although suspended", wakes, "suspension", "suspended-is-frozen"),
    mistake("switch while the ring is still covered", sees_no_cover, "unknown", "no-gap"),
    Mistake {
        name: "let go of a ring that has no rule yet",
        subject: Subject { plan_cover: cover::lets_go_early, ..Subject::REAL },
        configuration: "unknown",
        violates: "closed-not-open",
    },
    Mistake {
        name: "go by what the leader before has heard",
        subject: Subject { inherits: true, ..Subject::REAL },
        configuration: "leaders",
        violates: "no-gap",
    },
    mistake("never activate", never_activates, "rotation", "settles"),
    policy_mistake("write a key of no ledger", adopts, "shared rotation", "known-keys-only"),
    policy_mistake(
        "keep a rule whose keys nobody knows",
        believes,
        "shared edit",
        "known-keys-only",
    ),
    policy_mistake("strip a newer replica's key", overwrites, "shared rotation", "no-gap"),
    policy_mistake(
        "rest on another rule than planned",
        counts_rules,
        "shared rotation",
        "true-words",
    ),
    policy_mistake(
        "bring back a removed ring's rule",
        forgets_removal,
        "shared deletion",
        "known-keys-only",
    ),
    policy_mistake(
        "drop the other ring's rule",
        forgets_others,
        "shared rotation",
        "closed-not-open",
    ),
];

fn with(snapshot: &Snapshot, change: impl FnOnce(&mut Snapshot)) -> Snapshot {
    let mut changed = snapshot.clone();
    change(&mut changed);
    changed
}

fn ledger(snapshot: &mut Snapshot) -> Option<&mut Ledger> {
    match &mut snapshot.ledger {
        LedgerFound::Present(ledger) => Some(ledger),
        _ => None,
    }
}

/// Takes every gate for one that acknowledged long ago.
fn unacknowledged(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| {
        let state = ledger(seen).map(|ledger| ledger.rule_state());
        let mark = state.map(|state| Mark { state, rule: "x".into() });
        for policy in seen.policies.values_mut() {
            let (held, behind) = (Duration::MAX, Duration::ZERO);
            policy.answer = Answer::Answered { mark: mark.clone(), held, behind };
        }
    }))
}

fn sees_no_cover(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| seen.covers.clear()))
}

fn impatient(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| seen.ring.soak = Duration::ZERO))
}

/// Takes every pipeline for one that holds the newest key already.
fn prunes_early(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| {
        let newest = ledger(seen).and_then(|l| l.newest()).map(|row| row.number);
        for found in seen.pipelines.values_mut() {
            if let PipelineFound::Ours { holds, .. } = found {
                *holds = newest;
            }
        }
    }))
}

fn too_wide(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| seen.ring.keep += 1))
}

/// Mints once more for a token whose version has just become current.
fn mints_twice(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| {
        if let Some(ledger) = ledger(seen)
            && ledger.pending().is_none()
            && ledger.newest().is_some_and(|row| row.number == 2)
        {
            ledger.tokens.clear();
        }
    }))
}

fn forgets_token(snapshot: &Snapshot) -> Plan {
    let mut plan = pass::plan(snapshot);
    for action in &mut plan.actions {
        if let Action::Mint(Mint::New { token, .. }) = action {
            *token = None;
        }
    }
    plan
}

fn sees_no_evidence(snapshot: &Snapshot) -> Plan {
    if matches!(snapshot.ledger, LedgerFound::Present(_)) {
        return pass::plan(snapshot);
    }
    pass::plan(&with(snapshot, |seen| {
        seen.witnesses.clear();
        seen.policies.clear();
        seen.pipelines.clear();
    }))
}

fn publishes_unlisted(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| {
        let pipelines: Vec<_> = seen.ring.pipelines.keys().cloned().collect();
        if let Some(ledger) = ledger(seen) {
            pipelines.into_iter().for_each(|pipeline| ledger.publications.hold(pipeline));
        }
    }))
}

/// Takes every Secret of ours for one that somebody else has edited.
fn rewrites(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| {
        for found in seen.pipelines.values_mut() {
            if let PipelineFound::Ours { intact, .. } = found {
                *intact = false;
            }
        }
    }))
}

fn sees_no_owner(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| {
        for found in seen.pipelines.values_mut() {
            if let PipelineFound::Foreign { .. } = found {
                *found = PipelineFound::Absent;
            }
        }
    }))
}

/// Widens the window by what was revoked.
fn widens(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| {
        let revoked = ledger(seen).map_or(0, |ledger| ledger.revoked.len());
        seen.ring.keep += u32::try_from(revoked).unwrap();
    }))
}

/// Mints the first version although the ring is suspended.
fn ignores_suspension(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| {
        if let LedgerFound::Present(ledger) = &seen.ledger
            && ledger.is_unborn()
        {
            seen.ring.suspend = false;
        }
    }))
}

fn wakes(snapshot: &Snapshot) -> Plan {
    pass::plan(&with(snapshot, |seen| seen.ring.suspend = false))
}

fn moves_early(snapshot: &Snapshot) -> Plan {
    let mut plan = pass::plan(snapshot);
    for action in &mut plan.actions {
        if let Action::Commit(Change::Rule(settings)) = action {
            settings.leaving = None;
        }
    }
    plan
}

/// Leaves the old policy although Kyverno may have its rule.
fn does_not_release(snapshot: &Snapshot) -> Plan {
    let mut plan = pass::plan(snapshot);
    for action in &mut plan.actions {
        if let Action::Commit(Change::Rule(settings)) = action {
            settings.leaving = settings.leaving.filter(|left| left.phase != Phase::Released);
        }
    }
    plan
}

/// Has the old policy look at nothing before the new one was heard of.
fn releases_early(snapshot: &Snapshot) -> Plan {
    let mut plan = pass::plan(snapshot);
    for action in &mut plan.actions {
        if let Action::Commit(Change::Rule(settings)) = action
            && let Some(leaving) = &mut settings.leaving
        {
            leaving.phase = Phase::Released;
        }
    }
    plan
}

/// Takes the place that is asked by now for the one that it is on its way to.
fn wanders(snapshot: &Snapshot) -> Plan {
    let mut plan = pass::plan(snapshot);
    if let LedgerFound::Present(ledger) = &snapshot.ledger
        && let now = &ledger.rule.settings
        && now.leaving.is_some()
        && now.policy != snapshot.place.free
        && now.leaving.is_none_or(|left| left.policy != snapshot.place.free)
    {
        let (policy, leaving) = (snapshot.place.free, Some(Leaving::beginning(now.policy)));
        let settings = RuleSettings { policy, leaving, action: policy.action(), ..now.clone() };
        plan.actions = vec![Action::Commit(Change::Rule(settings))];
    }
    plan
}

fn never_activates(snapshot: &Snapshot) -> Plan {
    let mut plan = pass::plan(snapshot);
    plan.actions.retain(|action| !matches!(action, Action::Commit(Change::Activate { .. })));
    plan
}

#[test]
fn the_checker_finds_every_planted_mistake() {
    let mut missed = Vec::new();
    for mistake in MISTAKES {
        let configuration: Configuration = named(mistake.configuration);
        let machine = Machine::new(configuration, mistake.subject);
        let checker = machine
            .checker()
            .threads(2)
            .finish_when(HasDiscoveries::AnyOf([mistake.violates].into()))
            .spawn_bfs()
            .join();
        match checker.discovery(mistake.violates) {
            Some(path) => say(&format!(
                "planted: {:<36} breaks \"{}\" after {} moves, {} states",
                mistake.name,
                mistake.violates,
                path.into_actions().len(),
                checker.unique_state_count(),
            )),
            None => {
                let found: Vec<_> = checker.discoveries().into_keys().collect();
                missed.push(format!("{}: found only {found:?}", mistake.name));
            }
        }
    }
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}
