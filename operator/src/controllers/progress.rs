//! What tells passes over a name from each other, for the work queue: if all
//! come to the same, the name does not get on.

use std::hash::{DefaultHasher, Hash, Hasher};

use signingkeyring_core::{
    ledger::Ledger,
    plan::Action,
    policy::{Step, Write},
};

/// Of a pass over a ring: the state of its ledger, and what is made of it.
pub(super) fn of_ring(ledger: Option<&Ledger>, actions: &[Action]) -> u64 {
    hash((ledger.map(|ledger| ledger.sequence), actions))
}

/// Of a pass over a policy: what is wanted of it, whether that was found or had
/// to be written. Where it is undone each time, it is found now and then.
pub(super) fn of_policy(step: &Step) -> u64 {
    let content = match step {
        Step::UpToDate(content) | Step::Write(Write { content, .. }) => Some(content),
        Step::Wait | Step::Conflict | Step::AllRefused | Step::Delete => None,
    };
    let wanted = content.map(|content| (content.whole.spec, content.whole.own_metadata));
    hash((wanted, matches!(step, Step::Delete)))
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use signingkeyring_core::policy::{Content, Digest, Part, Whole};

    use super::*;

    #[test]
    fn what_is_planned_tells_passes_over_a_ring_apart() {
        let (add, remove) = ([Action::AddFinalizer], [Action::RemoveFinalizer]);
        assert_eq!(of_ring(None, &add), of_ring(None, &add));
        assert_ne!(of_ring(None, &add), of_ring(None, &remove));
        assert_ne!(of_ring(None, &add), of_ring(None, &[]));
    }

    #[test]
    fn what_is_wanted_tells_passes_over_a_policy_apart_and_not_whether_it_was_there() {
        let content = |spec| {
            let spec = Part { digest: Digest([spec; 32]), bytes: 1 };
            let whole = Whole { spec, own_metadata: Digest([0; 32]) };
            Content { rules: BTreeMap::new(), whole }
        };
        let write = |spec| {
            let write = Write { content: content(spec), drifted: true, expired: Vec::new() };
            of_policy(&Step::Write(write))
        };
        assert_eq!(write(1), of_policy(&Step::UpToDate(content(1))));
        assert_ne!(write(1), write(2));
        assert_ne!(of_policy(&Step::Delete), of_policy(&Step::Wait));
    }
}
