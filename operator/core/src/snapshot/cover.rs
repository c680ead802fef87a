//! Whether a policy for namespaces whose label names no ring still covers those
//! of a ring that has come meanwhile.

/// Such a policy as it bears on one ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CoverSeen {
    /// The object.
    pub found: CoverFound,
    /// What its gate rule answered.
    pub answer: CoverAnswer,
}

/// The object as found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoverFound {
    /// It does not exist, or is not ours.
    Absent,
    /// It names the ring.
    Names,
    /// It does not name the ring.
    Others,
}

/// What its gate rule answered since the object is as it was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CoverAnswer {
    /// Nothing, or not readably.
    Unheard,
    /// What the object says.
    AsFound,
    /// Something else: Kyverno has yet to load the object.
    Other,
    /// The question passed without an answer.
    Open,
}

/// Why namespaces of a ring are still covered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Covered {
    /// The policy names the ring.
    Named,
    /// It does not, or is gone, and Kyverno answers with what it was before.
    Loaded,
    /// It does not, or is gone, and Kyverno was not heard to know.
    Unheard,
}

impl CoverSeen {
    /// Whether, and why, the ring's namespaces are covered. A policy that is
    /// gone was let go of when nothing answers for it.
    #[must_use]
    pub const fn covers(self) -> Option<Covered> {
        match (self.found, self.answer) {
            (CoverFound::Names, _) => Some(Covered::Named),
            (CoverFound::Others, CoverAnswer::AsFound)
            | (CoverFound::Absent, CoverAnswer::Open) => None,
            (_, CoverAnswer::Other | CoverAnswer::AsFound) => Some(Covered::Loaded),
            (_, CoverAnswer::Unheard | CoverAnswer::Open) => Some(Covered::Unheard),
        }
    }
}
