//! One pass over a ring, as its controller calls it: what to do, and what to
//! say once that is done.

use crate::{
    facts::Facts,
    plan::{self, Plan},
    report::{self, Report},
    snapshot::Snapshot,
};

/// Plans a pass from what was observed.
pub fn plan(snapshot: &Snapshot) -> Plan {
    plan::plan(snapshot, &Facts::of(snapshot))
}

/// Reports on what was observed, and on what was learned since.
#[must_use]
pub fn report(snapshot: &Snapshot) -> Report {
    report::report(snapshot, &Facts::of(snapshot))
}
