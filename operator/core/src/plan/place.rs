//! What the policies should say of a ring, and where: its action, its
//! exclusions, and the move from one policy to another.

use std::collections::BTreeSet;

use super::publish;
use crate::{
    facts::{Enforcement, Facts, PATIENCE, carrying},
    ledger::{Change, Leaving, Ledger, Phase, RuleSettings},
    policy_ref::PolicyRef,
    snapshot::{PolicyFound, Snapshot},
};

/// The rule of a ring that begins, or goes on with what a ledger from before says.
/// Where it stands already is its place, whatever is asked by now: it moves from there
/// as any rule does.
pub(super) fn first(snapshot: &Snapshot, before: Option<&RuleSettings>) -> RuleSettings {
    let mut rule = before.cloned().unwrap_or_else(|| RuleSettings {
        action: snapshot.ring.action,
        exclude: snapshot.ring.exclude.clone(),
        credentials: snapshot.ring.credentials.clone(),
        ..RuleSettings::of(snapshot.place.free)
    });
    let mut standing = carrying(snapshot);
    if let Some(policy) = standing.next() {
        rule.policy = policy;
        if before.is_none() {
            // Others may be there, for whom the policy asks with the same.
            rule.credentials = standing_credentials(snapshot, policy);
        }
        let leaving = standing.next();
        let before = rule.leaving.map(|leaving| leaving.policy);
        // How far the move had come is not known any more.
        rule.leaving = leaving.map(Leaving::beginning);
        if leaving != before {
            rule.left_credentials = leaving.map(|_| rule.credentials.clone()).unwrap_or_default();
        }
    }
    rule
}

/// The registry credentials with which a rule stands in a policy: those of the policy, or
/// else what is asked.
fn standing_credentials(snapshot: &Snapshot, policy: PolicyRef) -> BTreeSet<String> {
    match snapshot.policies.get(&policy).map(|seen| &seen.found) {
        Some(PolicyFound::Ours { credentials, .. }) if policy.kind().shares_credentials() => {
            credentials.clone()
        }
        _ => snapshot.ring.credentials.clone(),
    }
}

/// The change that brings the ring's rule to what is asked. A ring whose action changed, or
/// its kind, or its credentials where others share them, joins the new policy first and
/// leaves the old one last, in the phases of [`Phase`]; an old one that does not let go
/// would refuse what a newer key signs.
pub(super) fn change(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> Option<Change> {
    let now = &ledger.rule.settings;
    let mut wanted = RuleSettings { exclude: snapshot.ring.exclude.clone(), ..now.clone() };
    match now.leaving {
        // Each step of a move has Kyverno answer anew, and the soak begin again.
        _ if publish::goes_first(snapshot, facts, ledger) => {}
        None => start(snapshot, now, &mut wanted),
        Some(leaving) => go_on(snapshot, facts, leaving, &mut wanted),
    }
    if !wanted.policy.kind().shares_credentials() {
        wanted.credentials.clone_from(&snapshot.ring.credentials);
    }
    if wanted.leaving.is_none() {
        wanted.left_credentials.clear();
    }
    wanted.action = wanted.policy.action();
    (wanted != *now).then_some(Change::Rule(wanted))
}

/// Whether a policy of the rule is one that the ring asks for.
fn fits(snapshot: &Snapshot, now: &RuleSettings, policy: PolicyRef) -> bool {
    let (ring, kind) = (&snapshot.ring, policy.kind());
    let same = !kind.shares_credentials() || now.credentials_in(policy) == &ring.credentials;
    policy.action() == ring.action && kind == ring.kind && same
}

/// Has a rule that rests begin to move, if it is to.
fn start(snapshot: &Snapshot, now: &RuleSettings, wanted: &mut RuleSettings) {
    let (place, asked) = (snapshot.place, &snapshot.ring.credentials);
    let fits = fits(snapshot, now, now.policy);
    let crowded = place.crowded && place.free != now.policy;
    if !fits && place.free == now.policy {
        // What nobody shares the policy with changes where it is.
        wanted.credentials.clone_from(asked);
    } else if crowded || !fits {
        leave(wanted, now, place.free, Phase::Arriving, asked);
    }
}

/// Has a rule that moves take its next step.
fn go_on(snapshot: &Snapshot, facts: &Facts<'_>, leaving: Leaving, wanted: &mut RuleSettings) {
    let now = wanted.clone();
    let asked = asked(snapshot, &now, leaving);
    let alike = leaving.policy.action() == now.policy.action();
    let (here, there) = (Here::of(snapshot, facts), There::of(snapshot, facts));
    match step(asked, leaving.phase, alike, here, there) {
        Step::Rest => {}
        // What verifies last asks from the beginning.
        Step::Next(Phase::Arrived) if now.policy.kind().verifies_last() => {
            wanted.leaving = Some(Leaving { phase: Phase::Released, ..leaving });
        }
        Step::Next(phase) => wanted.leaving = Some(Leaving { phase, ..leaving }),
        Step::End => wanted.leaving = None,
        Step::Forget => {
            wanted.leaving = None;
            start(snapshot, &now, wanted);
        }
        Step::TurnAround(phase) => {
            // Where it only passes through it is as it was for who shares the policy.
            let credentials = match asked {
                Asked::There => &snapshot.ring.credentials,
                Asked::Here | Asked::Elsewhere => now.credentials_in(leaving.policy),
            };
            leave(wanted, &now, leaving.policy, phase, credentials);
        }
    }
}

/// Where a rule that moves is asked to be by now.
#[derive(Clone, Copy)]
enum Asked {
    /// Where it is going.
    Here,
    /// Where it comes from.
    There,
    /// In a third policy.
    Elsewhere,
}

fn asked(snapshot: &Snapshot, now: &RuleSettings, leaving: Leaving) -> Asked {
    let back = leaving.policy;
    if fits(snapshot, now, now.policy) {
        Asked::Here
    } else if fits(snapshot, now, back) || snapshot.place.free == back {
        Asked::There
    } else {
        Asked::Elsewhere
    }
}

/// Whether Kyverno enforces a rule that moves where it is going.
#[derive(Clone, Copy)]
enum Here {
    /// It does not, and does not come to it by itself.
    Broken,
    /// Not yet, or it cannot be told.
    Unheard,
    /// It does.
    Heard,
    /// It has for the soak: whatever was on its way to be admitted has met the rule by
    /// then, in every replica of Kyverno.
    Soaked,
}

/// The same of the policy that it is moving away from.
#[derive(Clone, Copy)]
enum There {
    /// Its kind is not served, or Kyverno is too old for it: there is nothing that could be
    /// let go of.
    Gone,
    /// Kyverno has yet to load what the policy says of the ring by now.
    Unheard,
    /// It has.
    Heard,
    /// There is nothing to be loaded, or it cannot be told, and was waited for.
    GivenUp,
}

/// What becomes of a rule that moves.
enum Step {
    /// It waits.
    Rest,
    /// The next phase begins.
    Next(Phase),
    /// The policy that it comes from is left.
    End,
    /// It goes back to where it comes from, and is in this phase of that move.
    TurnAround(Phase),
    /// It forgets where it comes from, and begins to leave where it was going.
    Forget,
}

/// The table of moves: the first line that fits counts.
const fn step(asked: Asked, phase: Phase, alike: bool, here: Here, there: There) -> Step {
    use Phase::{Arrived, Arriving, Released};
    match (asked, phase, here, there) {
        // A move that is asked back while under way turns around.
        (Asked::There, Arriving | Arrived, _, There::Heard) => Step::TurnAround(Released),
        (Asked::There, Arriving | Arrived, _, _) => Step::TurnAround(Arrived),
        (Asked::There, Released, _, _) => Step::TurnAround(Arriving),
        // One that leads somewhere else by now does before it has arrived: two policies
        // can be named, and each has to be let go of.
        (Asked::Elsewhere, Arriving | Arrived, Here::Broken | Here::Unheard, There::Heard) => {
            Step::TurnAround(Released)
        }
        // It would wait for ever.
        (Asked::Elsewhere, _, Here::Broken, There::Gone) => Step::Forget,
        (Asked::Elsewhere, Released, Here::Broken, _) => Step::TurnAround(Arriving),
        (_, _, Here::Broken | Here::Unheard, _) => Step::Rest,
        (_, _, _, There::Gone) => Step::End,
        (_, Arriving, Here::Soaked, _) if alike => Step::Next(Arrived),
        // Under another action the old policy has to have stepped back, too.
        (_, Arriving, Here::Soaked, There::Heard | There::GivenUp) => Step::Next(Released),
        (_, Arriving, _, _) => Step::Rest,
        (_, Arrived, _, _) => Step::Next(Released),
        (_, Released, _, There::Heard | There::GivenUp) => Step::End,
        (_, Released, _, There::Unheard) => Step::Rest,
    }
}

/// Has a rule move on to a policy, and leave the one that it is in now.
fn leave(
    wanted: &mut RuleSettings,
    now: &RuleSettings,
    policy: PolicyRef,
    phase: Phase,
    credentials: &BTreeSet<String>,
) {
    wanted.policy = policy;
    wanted.credentials.clone_from(credentials);
    wanted.leaving = Some(Leaving { policy: now.policy, phase });
    wanted.left_credentials.clone_from(&now.credentials);
}

impl Here {
    fn of(snapshot: &Snapshot, facts: &Facts<'_>) -> Self {
        match facts.enforcement_here {
            Enforcement::Acknowledged(held) if held >= snapshot.ring.soak => Self::Soaked,
            Enforcement::Acknowledged(_) => Self::Heard,
            Enforcement::KyvernoMissing(_) | Enforcement::Conflict(_) => Self::Broken,
            Enforcement::PolicyMissing(_, None) => Self::Unheard,
            Enforcement::Silent(_, _, held) if held < PATIENCE => Self::Unheard,
            said if cannot_be_told(said) => Self::Broken,
            _ => Self::Unheard,
        }
    }
}

/// Whether a policy cannot be written, or Kyverno not be asked about it.
const fn cannot_be_told(said: Enforcement<'_>) -> bool {
    use Enforcement::{
        Behind, Differs, Open, PolicyMissing, Rejected, Silent, Unaskable, Unreadable,
    };
    matches!(
        said,
        PolicyMissing(..)
            | Open(_)
            | Rejected(..)
            | Differs { .. }
            | Behind { failure: Some(_), .. }
            | Unaskable { .. }
            | Silent(..)
            | Unreadable(..)
    )
}

impl There {
    fn of(snapshot: &Snapshot, facts: &Facts<'_>) -> Self {
        let left = facts.ledger.and_then(|ledger| ledger.rule.settings.leaving);
        let is_useless = left.is_some_and(|l| snapshot.unusable.contains_key(&l.policy.kind()));
        let waited = matches!(facts.enforcement_here, Enforcement::Acknowledged(held)
            if held >= PATIENCE);
        match facts.enforcement_there {
            Some(Enforcement::KyvernoMissing(_)) => Self::Gone,
            Some(Enforcement::Acknowledged(_)) => Self::Heard,
            None | Some(Enforcement::Conflict(_)) => Self::GivenUp,
            // Of what still stands there afterwards a rotation knows.
            Some(said) if is_useless || cannot_be_told(said) && waited => Self::GivenUp,
            Some(_) => Self::Unheard,
        }
    }
}
