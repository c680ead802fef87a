//! Images by which the gate can be tried.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use signingkeyring_inspect::{Refusal, State};

use crate::judge::{Fate, Found, Judge};

/// An image to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// It.
    pub image: String,
    /// What is known of it.
    pub kind: Kind,
    /// Whether it has to be admitted; nothing if that cannot be told.
    pub starts: Option<bool>,
}

/// What is known of an image that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Kind {
    /// Nobody signed it.
    Unsigned,
    /// A version signed it that is not accepted.
    NotAccepted,
    /// The version that signs did.
    Current,
    /// Named by who calls.
    Named,
}

impl Kind {
    /// As people call it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "unsigned",
            Self::NotAccepted => "of a version that is not accepted",
            Self::Current => "of the version that signs",
            Self::Named => "named",
        }
    }
}

/// One image of each kind, and those that are named.
pub fn probes(judge: &Judge, found: &BTreeMap<String, Found>, named: &[String]) -> Vec<Probe> {
    let mut by_kind: BTreeMap<Kind, Probe> = BTreeMap::new();
    let mut probes = Vec::new();
    for (image, found) in found {
        let fate = judge.fate(Some(found), &judge.keys);
        let kind = kind(&judge.ring, &fate);
        if named.contains(image) {
            let starts = match &fate {
                Fate::Unknown(..) => None,
                known => Some(known.starts()),
            };
            let kind = kind.unwrap_or(Kind::Named);
            probes.push(Probe { image: image.clone(), kind, starts });
        } else if let Some(kind) = kind {
            by_kind.entry(kind).or_insert_with(|| Probe {
                image: image.clone(),
                kind,
                starts: Some(fate.starts()),
            });
        }
    }
    // What is named stands for its kind.
    let is_named = |kind: Kind| probes.iter().any(|probe: &Probe| probe.kind == kind);
    let others: Vec<Probe> = by_kind.into_values().filter(|probe| !is_named(probe.kind)).collect();
    probes.extend(others);
    probes.sort_by_key(|probe| probe.kind);
    probes
}

fn kind(ring: &str, fate: &Fate) -> Option<Kind> {
    match fate {
        Fate::Refused(Some(Refusal::Unsigned), _) => Some(Kind::Unsigned),
        Fate::Refused(Some(Refusal::NotAccepted), signers)
            if signers.iter().any(|signer| signer.ring == ring) =>
        {
            Some(Kind::NotAccepted)
        }
        Fate::Admitted(signers)
            if signers.iter().any(|s| s.ring == ring && s.state == State::Current) =>
        {
            Some(Kind::Current)
        }
        _ => None,
    }
}

/// The images in which signatures are kept.
pub fn signatures(found: &BTreeMap<String, Found>) -> BTreeSet<String> {
    let kept = found.values().filter_map(|found| {
        let Found::Inspected(inspection) = found else { return None };
        let digest = inspection.digest.as_ref().ok()?.strip_prefix("sha256:")?;
        let image = &inspection.image;
        let has_some = !inspection.signatures.found.is_empty();
        has_some.then(|| format!("{}/{}:sha256-{digest}.sig", image.registry(), image.repository()))
    });
    kept.take(1).collect()
}

/// The first of these that nobody signed.
pub fn unsigned(judge: &Judge, found: &BTreeMap<String, Found>) -> Option<Probe> {
    probes(judge, found, &[]).into_iter().find(|probe| probe.kind == Kind::Unsigned)
}

/// The kinds of which there is none.
pub fn missing(probes: &[Probe]) -> Vec<Kind> {
    let kinds = [Kind::Unsigned, Kind::NotAccepted, Kind::Current];
    kinds.into_iter().filter(|kind| probes.iter().all(|probe| probe.kind != *kind)).collect()
}
