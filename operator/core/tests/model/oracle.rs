//! The invariants, from their text and not from the planner: what a write may
//! do, and what a state may be.

use std::sync::Arc;

use signingkeyring_core::{high_water::HighWater, ledger::State as Row};

use crate::{
    bystander::{BYSTANDER, PAIRS},
    facts::{Keys, serial_of},
    machine::Machine,
    policy::{Does, Policy, Rule},
    state::{Access, Held, Invariant, Spec, State, rules},
    view::{self, POLICIES},
};

/// A ring's rule in a policy before a write and after it.
type Change<'a> = (Option<&'a Rule>, Option<&'a Rule>);

impl State {
    pub fn break_(&mut self, invariant: Invariant) {
        self.broken.get_or_insert(invariant);
    }

    pub fn demand(&mut self, invariant: Invariant, holds: bool) {
        if !holds {
            self.break_(invariant);
        }
    }

    /// The pairs that the pipelines of a spec sign with, whether or not the
    /// operator may look. In a namespace that is being deleted nothing new starts.
    pub fn in_use(&self, spec: &Spec) -> Keys {
        let signs = |index: &usize| spec.pipelines[*index] && self.access[*index] != Access::Ending;
        let held = (0..2).filter(signs).map(|index| &self.secrets[index]);
        held.fold(Keys::default(), |keys, held| match held {
            Held::Ours(serial) => keys.with(*serial),
            Held::Absent | Held::Foreign => keys,
        })
    }

    /// A namespace is gone with what was in it, and there again.
    pub fn end(&mut self, pipeline: usize) {
        self.secrets[pipeline] = Held::Absent;
        self.access[pipeline] = Access::Withdrawn;
    }

    /// Whether Kyverno has accepted a pair for as long as it has to before it
    /// signs: for the soak, unless it replaces a revoked one.
    pub fn may_sign(&self, serial: u8) -> bool {
        let past = &self.past;
        let hurries = past.signed.has(serial) || past.revoked.has(past.signed.last());
        if hurries { past.acknowledged.has(serial) } else { past.rested.has(serial) }
    }

    /// The pairs that the user revokes; a policy need not wait for the ledger
    /// to leave them out.
    fn asked_to_revoke(&self) -> Keys {
        let Some((spec, stored)) = self.spec.as_ref().zip(self.ledger.as_ref()) else {
            return Keys(0);
        };
        let asked = |number: u32| u8::try_from(number).is_ok_and(|n| spec.revoked.has(n));
        let rows = stored.ledger.versions.iter().filter(|row| asked(row.number));
        rows.map(|row| serial_of(&row.public_key.text())).fold(Keys(0), Keys::with)
    }

    /// Whether a pipeline's Secret stays with a key. What is in a namespace that is being
    /// deleted goes with it.
    fn is_left(&self, pipeline: usize) -> bool {
        let ends = self.access[pipeline] == Access::Ending;
        matches!(self.secrets[pipeline], Held::Ours(_)) && !ends
    }

    fn leaves_any(&self) -> bool {
        (0..2).any(|pipeline| self.is_left(pipeline))
    }

    pub fn holds_any(&self) -> bool {
        self.secrets.iter().any(|held| matches!(held, Held::Ours(_)))
    }
}

impl Machine {
    /// What a policy is about to hold, or nothing if it is about to be
    /// deleted, and which rings its writer knows to be removed.
    pub fn judge_policy(
        &self,
        state: &mut State,
        policy: usize,
        next: Option<&Policy>,
        removed: [bool; 2],
    ) {
        let before = state.policies[policy].clone();
        let change = |ring: usize| {
            let was = before.as_ref().and_then(|before| before.rule(ring)).map(Arc::as_ref);
            (was, next.and_then(|next| next.rule(ring)).map(Arc::as_ref))
        };
        let minted = (0..=state.past.minted).fold(Keys(0), Keys::with);
        judge_change(state, change(0), minted);
        self.judge_rule(state, policy, change(0), removed[0]);
        let pairs = PAIRS.into_iter().fold(Keys(0).with(0), Keys::with);
        judge_change(state, change(BYSTANDER), pairs);
        self.judge_bystander(state, policy, change(BYSTANDER), removed[BYSTANDER]);
    }

    /// What a policy is content with that holds no key but those that the
    /// rings' ledgers have ever had.
    pub fn judge_rest(&self, state: &mut State, stored: &Policy) {
        let minted = (0..=state.past.minted).fold(Keys(0), Keys::with);
        let pairs = PAIRS.into_iter().fold(Keys(0).with(0), Keys::with);
        for (ring, known) in [(0, minted), (BYSTANDER, pairs)] {
            let keys = stored.rule(ring).map_or(Keys(0), |rule| rule.keys);
            state.demand(Invariant::KnownKeysOnly, keys.less(known) == Keys(0));
        }
    }

    /// What a policy is about to say of the ring under test.
    fn judge_rule(&self, state: &mut State, policy: usize, (was, is): Change<'_>, removed: bool) {
        if state.past.removed {
            // While the ring is on its way out, who has not seen that yet may
            // put its rule back once more.
            let returns = was.is_none() && is.is_some();
            state.demand(Invariant::KnownKeysOnly, !(returns && (removed || state.spec.is_none())));
            return;
        }
        let keys = match is {
            Some(rule) => {
                state.demand(Invariant::RevokedStaysRevoked, rule.keys != Keys(0));
                let returns = rule.keys.and(state.past.banned) != Keys(0);
                state.demand(Invariant::RevokedStaysRevoked, !returns);
                rule.keys
            }
            None => {
                let keys = elsewhere(state, policy).map(|rule| rule.keys);
                // A policy that never had the rule does not lose it.
                state.demand(Invariant::ClosedNotOpen, was.is_none() || keys.is_some());
                keys.unwrap_or_default()
            }
        };
        let refuses = |rule: Option<&Rule>| rule.is_some_and(|rule| rule.does == Does::All);
        let action = |place: usize| POLICIES[place].action();
        let alike = state
            .ledger
            .as_deref()
            .is_none_or(|ledger| view::places(ledger).all(|place| action(place) == action(policy)));
        // Between two actions a Pod may be let go without having been asked about.
        if alike && refuses(was) && !refuses(is) {
            let whole = elsewhere(state, policy).is_some_and(|rule| rule.does == Does::All);
            state.demand(Invariant::ClosedNotOpen, whole);
        }
        let Some(was) = was else { return };
        let dropped = was.keys.less(keys);
        let asked = state.asked_to_revoke();
        match &state.ledger {
            // Nobody says that a key is to go.
            None => state.demand(Invariant::ClosedNotOpen, dropped == Keys(0)),
            Some(stored) if is.is_some() && was.mark.state == stored.state => {
                let stripped = dropped.and(stored.accepted).less(asked);
                state.demand(Invariant::NoGap, stripped == Keys(0));
            }
            Some(_) => {}
        }
        if let Some(spec) = &state.spec {
            let revoked = state.past.revoked.or(asked);
            let gap = state.in_use(spec).and(dropped).less(revoked) != Keys(0);
            let banned = dropped.and(state.past.revoked);
            state.past.banned = state.past.banned.or(banned);
            state.demand(Invariant::NoGap, !gap);
        }
    }

    /// What a policy is about to say of the other ring.
    fn judge_bystander(
        &self,
        state: &mut State,
        policy: usize,
        (was, is): Change<'_>,
        removed: bool,
    ) {
        let now = self.bystander(state, false);
        let serves = now.filter(|stored| policy == 0 && !stored.ledger.removed);
        let Some(stored) = serves else {
            let returns = was.is_none() && is.is_some();
            state.demand(Invariant::KnownKeysOnly, !(returns && (removed || now.is_none())));
            return;
        };
        let Some(was) = was else { return };
        state.demand(Invariant::ClosedNotOpen, is.is_some());
        let dropped = was.keys.less(is.map_or(Keys(0), |rule| rule.keys));
        state.demand(Invariant::NoGap, dropped.and(stored.accepted) == Keys(0));
    }

    /// A key is about to be handed to a pipeline.
    pub fn judge_write(&self, state: &mut State, index: usize, serial: u8) {
        let before = state.secrets[index];
        state.demand(Invariant::NotOursNotTouched, before != Held::Foreign);
        state.demand(Invariant::Silence, before != Held::Ours(serial));
        state.demand(Invariant::NoGap, state.may_sign(serial));
        state.demand(Invariant::RevokedStaysRevoked, !state.past.revoked.has(serial));
        // Kyverno follows all policies of a kind in one watch: of one that the ring has
        // left, it has loaded what the policy holds when it answers for the other.
        let loaded = rules(&state.loaded);
        let named: Vec<usize> = state.ledger.iter().flat_map(|l| view::places(l)).collect();
        let kind = |place: usize| POLICIES[place].kind();
        let heard = |place: &usize| named.iter().any(|named| kind(*named) == kind(*place));
        let unheard = (0..loaded.len()).filter(|place| !heard(place));
        let named = named.iter().copied().chain(unheard).map(|place| loaded[place]);
        let held = named.chain(rules(&state.policies)).flatten();
        let held = held.filter(|rule| rule.does != Does::Nothing);
        let accepted = held.map(|rule| rule.keys).reduce(Keys::and);
        let accepted = accepted.is_none_or(|keys| keys.or(state.asked_to_revoke()).has(serial));
        state.demand(Invariant::NoGap, accepted);
        // Nobody's key is the only one there.
        let covered = state.cover.is_some_and(|cover| cover.stands || cover.loaded);
        state.demand(Invariant::NoGap, !covered);
    }

    /// A pipeline was to get a key that the ledger does not hold.
    pub fn judge_missing_key(&self, state: &mut State) {
        state.break_(Invariant::PrivateKeysKnown);
    }

    /// A pipeline's Secret is about to be deleted.
    pub fn judge_deletion(&self, state: &mut State, index: usize) {
        state.demand(Invariant::NotOursNotTouched, state.secrets[index] != Held::Foreign);
    }

    /// The Secret of a standby key is about to be deleted.
    pub fn judge_key_deletion(&self, state: &mut State, name: &str) {
        let named = state.ledger.as_ref().is_some_and(|stored| {
            let keys = stored.ledger.versions.iter().filter_map(|v| v.private_key());
            keys.filter_map(|key| key.secret.as_deref()).any(|secret| secret == name)
        });
        state.demand(Invariant::PrivateKeysKnown, state.past.removed || !named);
    }

    /// The ring's annotation is about to be written: it never forgets.
    pub fn judge_record(&self, state: &mut State, mark: &HighWater) {
        state.demand(Invariant::Silence, state.recorded.as_ref() != Some(mark));
        let kept = state.recorded.as_ref().is_none_or(|before| before.is_within(mark));
        state.demand(Invariant::NoMintOverALoss, kept);
    }

    /// The ledger is about to be deleted: no key may be left behind.
    pub fn judge_ledger_deletion(&self, state: &mut State) {
        let forgotten = (state.leaves_any() && !state.past.lost) || !state.key_secrets.is_empty();
        state.demand(Invariant::PrivateKeysKnown, !forgotten);
        let removed = state.ledger.as_ref().is_some_and(|stored| stored.ledger.removed);
        state.demand(Invariant::NoMintOverALoss, removed);
    }

    /// The ring is about to go.
    pub fn judge_end(&self, state: &mut State) {
        // After a loss an empty ledger that says no more than that may stay.
        let forgotten = !state.past.lost && (state.leaves_any() || state.ledger.is_some());
        state.demand(Invariant::PrivateKeysKnown, !forgotten);
        let left = rules(&state.policies) == [None; 3];
        state.demand(Invariant::ClosedNotOpen, left);
    }

    /// What holds in every state.
    pub fn judge(&self, state: &mut State) {
        if !state.past.lost {
            let forgotten = (0..2).any(|index| {
                let listed = state
                    .ledger
                    .as_ref()
                    .is_some_and(|l| l.ledger.publications.contains(&view::pipeline(index)));
                state.is_left(index) && !listed
            });
            state.demand(Invariant::PrivateKeysKnown, !forgotten);
        }
        if let Some(stored) = &state.ledger {
            let stays = stored.ledger.versions.iter().all(|row| {
                let revoked = state.past.revoked.has(serial_of(&row.public_key.text()));
                !revoked || (row.state() == Row::Revoked && row.private_key().is_none())
            });
            state.demand(Invariant::RevokedStaysRevoked, stays);
        }
        if state.past.enforced && !state.past.removed {
            let open = rules(&state.loaded) == [None; 3];
            state.demand(Invariant::ClosedNotOpen, !open);
        }
    }
}

/// What Kyverno has loaded of the ring under test in another policy that its ledger names.
fn elsewhere(state: &State, policy: usize) -> Option<&Rule> {
    let loaded = rules(&state.loaded);
    let mut others = state.ledger.iter().flat_map(|ledger| view::places(ledger));
    others.find_map(|place| loaded[place].filter(|_| place != policy).map(Arc::as_ref))
}

/// What a write may make of any ring's rule: no key but those that the ring's
/// ledger has ever had, and nothing older than what stands there.
fn judge_change(state: &mut State, (was, is): Change<'_>, known: Keys) {
    let Some(is) = is else { return };
    state.demand(Invariant::KnownKeysOnly, is.keys.less(known) == Keys(0));
    let older = was.is_some_and(|was| is.mark.state.sequence < was.mark.state.sequence);
    state.demand(Invariant::NoGap, !older);
}
