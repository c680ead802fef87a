//! What is explored with another ring in the same policy.

use super::Configuration;
use crate::{bystander::Bystander, machine::Edit, state::Budget, view::AUDIT};

/// Two rings in one policy.
///
/// A policy says nothing of a ring whose rule has left it, so nothing keeps a
/// replica that is far behind from putting the rule back by a write that it
/// planned before. Only who led before may be that far behind, by the write that it
/// had sent; so where a ring is removed and two work at once, a replica has either late
/// watches or late writes here.
pub fn all() -> Vec<Configuration> {
    let with = |name, bystander| Configuration { bystander, ..Configuration::new(name) };
    let remembers = |name, bystander| Configuration { remembers: true, ..with(name, bystander) };
    let crash = Budget { outages: 0, ..Configuration::new("").budget };
    let edit = Budget { crashes: 0, ..crash };
    vec![
        Configuration {
            keep: 1,
            edits: &[Edit::Rotate],
            budget: crash,
            ..remembers("shared rotation", Bystander::Rotates)
        },
        Configuration {
            keep: 1,
            slow_watches: false,
            writes_later: true,
            edits: &[Edit::Rotate],
            budget: edit,
            ..with("shared rotation+", Bystander::Rotates)
        },
        Configuration {
            rotations: 1,
            edits: &[Edit::Revoke(2)],
            budget: edit,
            ..remembers("shared revocation", Bystander::Rotates)
        },
        Configuration {
            edits: &[Edit::RaiseMark],
            budget: edit,
            ..remembers("shared edit", Bystander::Rotates)
        },
        Configuration {
            keep: 1,
            replicas: 1,
            slow_watches: false,
            edits: &[Edit::RaiseMark, Edit::Rotate, Edit::Revoke(1)],
            budget: Budget { edits: 2, ..edit },
            ..remembers("shared edit+", Bystander::Rotates)
        },
        Configuration {
            slow_watches: false,
            edits: &[Edit::Move(AUDIT)],
            budget: edit,
            ..remembers("shared move", Bystander::Rotates)
        },
        Configuration {
            edits: &[Edit::Delete, Edit::AllowUnenforced],
            budget: Budget { edits: 2, ..crash },
            ..remembers("shared deletion", Bystander::Rotates)
        },
        Configuration {
            slow_watches: false,
            writes_later: true,
            edits: &[Edit::Delete, Edit::AllowUnenforced],
            budget: Budget { edits: 2, ..edit },
            ..with("shared deletion+", Bystander::Rotates)
        },
        Configuration {
            keep: 1,
            edits: &[Edit::Rotate],
            budget: crash,
            ..remembers("shared removal", Bystander::Leaves)
        },
        Configuration {
            replicas: 1,
            edits: &[Edit::Rotate, Edit::Delete, Edit::AllowUnenforced],
            budget: Budget { edits: 3, ..crash },
            ..remembers("shared removal+", Bystander::Leaves)
        },
    ]
}
