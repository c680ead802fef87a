//! What tells passes over a name from each other, for the work queue: if all
//! come to the same, the name does not get on.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use signingkeyring_core::{
    ledger::Ledger,
    plan::Action,
    policy::{Step, Write, snapshot::RingSeen, unknown::UnknownStep},
};

use crate::workqueue::Key;

/// Of a pass that waits for others.
pub(super) const WAITS: Key = Key { value: 0, is_idle: true };

/// Of a pass over a ring: the state of its ledger, and what is made of it.
pub(super) fn of_ring(ledger: Option<&Ledger>, actions: &[Action]) -> Key {
    Key {
        value: hash((ledger.map(|ledger| ledger.sequence), actions)),
        is_idle: actions.is_empty(),
    }
}

/// Of a pass over a policy: the states of its rings' ledgers, and what is wanted
/// of it, whether that was found or had to be written. Where it is undone each
/// time, it is found now and then.
pub(super) fn of_policy(rings: &BTreeMap<String, RingSeen>, step: &Step) -> Key {
    let tables = rings.iter().map(|(name, ring)| (name, ring.table.as_ref().map(|t| t.sequence)));
    let tables: Vec<_> = tables.collect();
    let content = match step {
        Step::UpToDate(content) | Step::Write(Write { content, .. }) => Some(content),
        Step::Wait | Step::ReadAnew(_) | Step::Conflict | Step::AllRefused | Step::Delete => None,
    };
    let wanted = content.map(|content| (content.whole.spec, content.whole.own_metadata));
    let value = hash((tables, wanted, matches!(step, Step::Delete)));
    let is_idle = !matches!(step, Step::Write(_) | Step::Delete);
    Key { value, is_idle }
}

/// Of a pass over a policy that holds no ring: what is wanted of it. Its
/// sequence moves with every write of what somebody undoes.
pub(super) fn of_unknown(step: &UnknownStep) -> Key {
    let content = match step {
        UnknownStep::UpToDate(content) | UnknownStep::Write { content, .. } => Some(content),
        _ => None,
    };
    let wanted = content.map(|content| (&content.mark.state.key_set, &content.mark.rule));
    let value = hash((wanted, matches!(step, UnknownStep::Delete)));
    let is_idle = !matches!(step, UnknownStep::Write { .. } | UnknownStep::Delete);
    Key { value, is_idle }
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use signingkeyring_core::{
        high_water::HighWater,
        policy::{Content, Digest, Part, Whole},
    };

    use super::*;

    #[test]
    fn what_is_planned_tells_passes_over_a_ring_apart() {
        let (add, remove) = ([Action::AddFinalizer(None)], [Action::RemoveFinalizer]);
        assert_eq!(of_ring(None, &add), of_ring(None, &add));
        assert_ne!(of_ring(None, &add), of_ring(None, &remove));
        assert_ne!(of_ring(None, &add), of_ring(None, &[]));
    }

    #[test]
    fn what_is_wanted_tells_passes_over_a_policy_apart_and_not_whether_it_was_there() {
        let nobody = BTreeMap::new();
        let content = |spec| {
            let spec = Part { digest: Digest([spec; 32]), bytes: 1 };
            let whole = Whole { spec, own_metadata: Digest([0; 32]) };
            Content { rules: BTreeMap::new(), whole }
        };
        let write = |spec| {
            let (content, expired) = (content(spec), Vec::new());
            let write = Write { content, drifted: true, expired, urgent_for: None };
            of_policy(&nobody, &Step::Write(write))
        };
        assert_eq!(write(1).value, of_policy(&nobody, &Step::UpToDate(content(1))).value);
        assert!(!write(1).is_idle && of_policy(&nobody, &Step::UpToDate(content(1))).is_idle);
        assert_ne!(write(1), write(2));
        assert_ne!(of_policy(&nobody, &Step::Delete), of_policy(&nobody, &Step::Wait));
        // A ring that is placed there is news, too.
        let ring = RingSeen {
            table: None,
            sound: false,
            was_removed: false,
            exists: true,
            revoked: Vec::new(),
            remembered: HighWater::default(),
            reported: BTreeSet::new(),
            read_anew: false,
        };
        let somebody = BTreeMap::from([("ring".to_owned(), ring)]);
        assert_ne!(of_policy(&nobody, &Step::Wait), of_policy(&somebody, &Step::Wait));
    }
}
