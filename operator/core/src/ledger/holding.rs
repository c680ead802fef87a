//! How firmly a ring has a key that another one would take over. A key belongs
//! to one ring: images that one signs would be admitted by the other.

use super::{Ledger, State, Version};
use crate::{fingerprint::Fingerprint, high_water::short};

/// How firmly a ring has a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// It does not know it.
    Unknown,
    /// It had it and gave it up before it signed.
    GivenUp,
    /// It has just taken it over: Kyverno has not acknowledged it, and no
    /// pipeline holds it.
    Tentative,
    /// It signs, did so, may soon, or is revoked.
    Firm,
}

impl Hold {
    /// Whether a ring with this hold keeps another one from taking the key
    /// over. Of two that have just done so, the older one goes first.
    #[must_use]
    pub fn forbids_import(self, is_older: bool) -> bool {
        match self {
            Self::Unknown => false,
            Self::Tentative => is_older,
            Self::GivenUp | Self::Firm => true,
        }
    }

    /// Whether another ring, which has just taken the key over, has to give it up
    /// for a ring with this hold. Of two rings never both have to.
    #[must_use]
    pub fn goes_first(self, is_older: bool) -> bool {
        match self {
            Self::Unknown | Self::GivenUp => false,
            Self::Tentative => is_older,
            Self::Firm => true,
        }
    }
}

impl Ledger {
    /// How firmly the ring has a key.
    #[must_use]
    pub fn hold(&self, fingerprint: &Fingerprint) -> Hold {
        if self.revoked.contains(&short(fingerprint.as_str())) {
            return Hold::Firm;
        }
        match self.by_fingerprint(fingerprint) {
            None => Hold::Unknown,
            Some(row) if row.state() == State::Retired && !row.has_signed() => Hold::GivenUp,
            Some(row) if self.tentative().is_some_and(|v| v.number == row.number) => {
                Hold::Tentative
            }
            Some(_) => Hold::Firm,
        }
    }

    /// The ring's first version, while nobody relies on it.
    #[must_use]
    pub fn tentative(&self) -> Option<&Version> {
        let first = self.pending().filter(|v| v.acknowledged_at().is_none())?;
        let used = self.versions.iter().any(Version::has_signed) || !self.publications.is_empty();
        (!used).then_some(first)
    }

    /// Whether the ring is where it began: every version was given up or revoked
    /// before it signed.
    #[must_use]
    pub fn awaits_its_first(&self) -> bool {
        let out = |v: &Version| !v.state().is_accepted() && !v.has_signed();
        !self.removed && self.versions.iter().all(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Hold; 4] = [Hold::Unknown, Hold::GivenUp, Hold::Tentative, Hold::Firm];

    #[test]
    fn never_do_two_rings_give_up_one_key_for_each_other() {
        // Only a ring whose own hold is tentative is asked.
        let [older, younger] = [Hold::Tentative; 2];
        assert!(older.goes_first(true) && !younger.goes_first(false));
        for other in ALL {
            for is_older in [true, false] {
                // Who must give up could not have taken it over either.
                assert!(!other.goes_first(is_older) || other.forbids_import(is_older), "{other:?}");
            }
        }
        // A younger one that just took it over gives it up, so the older may.
        assert!(!Hold::Tentative.forbids_import(false));
    }
}
