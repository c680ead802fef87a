//! Settling: from every state, once faults and edits end and everybody does
//! their part, the ring comes to rest, rests where it should, and stays quiet.
//!
//! The checker's own `eventually` overlooks cycles, so this is checked from
//! every state that is reached, as something that always holds.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use signingkeyring_core::ledger::State as Row;

use crate::{
    bystander::BYSTANDER,
    facts::{Keys, STRANGER, Stored, hash_of, serial_of},
    machine::{Machine, Move, Watch},
    policy::{Policy, Rule},
    state::{Budget, Held, Spec, State, rules},
    view,
};

/// More moves than any ring needs that does come to rest.
const PATIENCE: usize = 200;

/// Whether the states that were looked at settle, by their hash.
pub type Verdicts = Mutex<HashMap<u64, bool>>;

/// What those do who are neither the operator nor a user of the ring.
#[derive(Clone, Copy, PartialEq)]
pub enum Others {
    /// They bring Kyverno back and grant access.
    Help,
    /// Nothing.
    Stay,
}

impl Machine {
    /// The next move if nothing fails and nobody edits, or nothing at rest.
    pub fn fair(&self, state: &State) -> Option<State> {
        self.next_fair(state, Others::Help)
    }

    /// The same, with or without those who bring Kyverno back, let namespaces end and grant access.
    pub fn next_fair(&self, state: &State, others: Others) -> Option<State> {
        let helping = [
            Move::KyvernoComes,
            Move::NamespaceEnds(0),
            Move::NamespaceEnds(1),
            Move::Grant(0),
            Move::Grant(1),
        ];
        let replicas = 0..state.replicas.len();
        let each = |make: fn(usize) -> Move| replicas.clone().map(make);
        let moves = helping
            .into_iter()
            .filter(|_| others == Others::Help)
            .chain(each(Move::Act))
            .chain(each(Move::Write))
            .chain(self.writers().flat_map(|replica| {
                let places = self.configuration.places.iter();
                places.map(move |place| Move::Sync(replica, *place, [Watch::Current; 2]))
            }))
            .chain(self.configuration.places.iter().map(|place| Move::Load(*place)))
            .chain(each(|replica| Move::Cover(replica, Watch::Current)))
            .chain([Move::LoadCover])
            .chain(each(Move::Ask))
            .chain(each(|replica| Move::Plan(replica, Watch::Current)))
            .chain((state.bystander > 0).then_some(Move::Bystander));
        for step in moves {
            if let Some(mut next) = self.step(state, &step) {
                self.judge(&mut next);
                return Some(next);
            }
        }
        None
    }

    /// Whether a state settles, and rightly. What breaks an invariant on its
    /// way does so in a state that the checker reaches too.
    pub fn settles(&self, state: &State) -> bool {
        let none = Budget { edits: 0, crashes: 0, outages: 0, withdrawals: 0, endings: 0, days: 0 };
        let mut at = State { left: none, ..state.clone() };
        let mut way = Vec::new();
        let verdict = loop {
            if at.broken.is_some() {
                return true;
            }
            let hash = hash_of(&at);
            if let Some(known) = self.verdicts.lock().unwrap().get(&hash) {
                break *known;
            }
            way.push(hash);
            if way.len() > PATIENCE {
                break false;
            }
            match self.fair(&at) {
                Some(next) => at = next,
                None => break self.rests_rightly(&at),
            }
        };
        self.verdicts.lock().unwrap().extend(way.into_iter().map(|hash| (hash, verdict)));
        verdict
    }

    fn rests_rightly(&self, state: &State) -> bool {
        let covered = state.cover.is_some_and(|cover| cover.stands || cover.loaded);
        if state.loaded != state.policies || covered || !self.serves_bystander(state) {
            return false;
        }
        let Some(spec) = &state.spec else {
            return (state.past.lost || state.ledger.is_none())
                && rules(&state.policies) == [None; 3]
                && (state.past.lost || !state.secrets.iter().any(is_ours));
        };
        if spec.deleting && spec.allow_unenforced {
            return false;
        }
        if state.past.raised {
            // Stalled, with none but the ring's own keys.
            let rule = rules(&state.policies)[0].map(|rule| rule.keys);
            return rule.is_some_and(|keys| !keys.has(STRANGER));
        }
        if state.past.lost {
            // Stalled: what is in force stays in force.
            return state.ledger.is_none() || state.past.minted == 0;
        }
        self.serves(state, spec)
            && (spec.suspend || spec.deleting || self.is_up_to_date(state, spec))
    }

    /// The other ring's rule is where its ledger says, and what it says.
    fn serves_bystander(&self, state: &State) -> bool {
        let here = |policy: &Option<Arc<Policy>>| {
            policy.as_ref().and_then(|policy| policy.rule(BYSTANDER).cloned())
        };
        let [enforced, others @ ..] = state.policies.each_ref().map(here);
        let stored = self.bystander(state, false).filter(|stored| !stored.ledger.removed);
        let right = match (enforced, stored) {
            (Some(rule), Some(stored)) => says(&rule, stored),
            (rule, stored) => rule.is_none() && stored.is_none(),
        };
        right && others == [None, None]
    }

    /// The policies and the pipelines are what the ledger says, and no key is
    /// left where none belongs.
    fn serves(&self, state: &State, spec: &Spec) -> bool {
        let Some(stored) = &state.ledger else { return spec.deleting };
        let ledger = &stored.ledger;
        let signs = ledger.current().map_or(0, |row| serial_of(&row.public_key.text()));
        let rules = rules(&state.policies);
        let enforced = rules.iter().enumerate().all(|(policy, rule)| match rule {
            Some(rule) => policy == spec.place && says(rule, stored),
            None => policy != spec.place,
        });
        let published = (0..2).all(|index| match state.secrets[index] {
            Held::Ours(serial) => {
                let listed = ledger.publications.contains(&view::pipeline(index));
                // A switch that a suspension has stopped half way stays so.
                let stopped = spec.suspend && stored.accepted.has(serial);
                spec.pipelines[index] && (serial == signs || stopped) && listed
            }
            Held::Absent => !spec.pipelines[index] || signs == 0,
            Held::Foreign => true,
        });
        let named = state.key_secrets.iter().all(|(serial, _)| {
            let row =
                ledger.versions.iter().find(|row| serial_of(&row.public_key.text()) == *serial);
            row.is_some_and(|row| row.private_key().is_some())
        });
        let applied = stored.ledger.versions.iter().all(|row| {
            let revoked = u8::try_from(row.number).is_ok_and(|number| spec.revoked.has(number));
            !revoked || row.state() == Row::Revoked
        });
        !ledger.removed && applied && named && enforced && published
    }

    /// All that was asked for is done.
    fn is_up_to_date(&self, state: &State, spec: &Spec) -> bool {
        let Some(stored) = &state.ledger else { return false };
        let (ledger, past) = (&stored.ledger, &state.past);
        let every = self.configuration.every;
        let due = every.is_some_and(|every| state.day >= past.began_on + every);
        let signs = ledger.current().map_or(0, |row| serial_of(&row.public_key.text()));
        let standby = ledger.standby().map(|row| serial_of(&row.public_key.text()));
        let window = past.signed.newest(spec.keep).less(past.revoked);
        signs == past.signed.last()
            && !past.revoked.has(signs)
            && (spec.token == 0 || past.answered.has(spec.token))
            && !due
            && ledger.pending().is_none()
            && standby.is_some() == spec.standby
            && stored.accepted == standby.map_or(window, |serial| window.with(serial))
    }
}

/// Whether a rule is what a ledger says.
fn says(rule: &Rule, stored: &Stored) -> bool {
    rule.mark.state == stored.state
        && rule.keys == nobody_if_empty(stored.accepted)
        && rule.high_water == stored.ledger.high_water()
}

/// A rule without any key holds the one that nobody can sign with.
fn nobody_if_empty(keys: Keys) -> Keys {
    if keys == Keys(0) { keys.with(0) } else { keys }
}

fn is_ours(held: &Held) -> bool {
    matches!(held, Held::Ours(_))
}
