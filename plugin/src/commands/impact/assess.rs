//! What becomes of each workload.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use signingkeyring_inspect::State;

use crate::{
    judge::{Fate, Found, Judge, refusal, signed_by},
    workloads::Workload,
};

/// What becomes of a ring's workloads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Assessment {
    pub ring: String,
    /// When that is.
    pub title: String,
    /// The versions that are not accepted any more then.
    pub ended: Vec<u32>,
    pub namespaces: Vec<String>,
    pub workloads: Vec<Judged>,
    /// How many images they name.
    pub images: usize,
    /// How many were looked at in registries, each by its digest and once.
    pub inspections: usize,
    /// The images to sign again, those that are refused soonest first.
    pub resign: Vec<String>,
}

/// A workload with what becomes of it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Judged {
    #[serde(flatten)]
    pub workload: Workload,
    pub result: Result,
    /// Each of its images.
    pub verdicts: Vec<Image>,
}

/// An image of a workload.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    pub image: String,
    pub signed_by: String,
    pub result: Result,
    /// Why it is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

/// Whether something would start. The worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Result {
    /// It would now, and not then.
    Breaks,
    /// It would not now, either.
    RefusedAlready,
    /// It cannot be told.
    Unknown,
    /// It would.
    Starts,
}

/// What is asked about.
#[derive(Debug)]
pub struct Then {
    /// How it is called.
    pub title: String,
    /// The versions that are not accepted any more.
    pub ended: Vec<u32>,
    /// The one of them that is revoked.
    pub revoked: Option<u32>,
    /// Whether something is changed, rather than looked at as it is.
    pub is_change: bool,
    /// Whether images are refused by the ring now, and whether they are then.
    pub enforced: (bool, bool),
}

impl Assessment {
    /// Judges workloads by what was found of their images, before and then.
    pub fn of(
        judge: &Judge,
        then: Then,
        namespaces: Vec<String>,
        workloads: Vec<Workload>,
        before: &BTreeMap<String, Found>,
        after: &BTreeMap<String, Found>,
    ) -> Self {
        let Then { title, ended, revoked, is_change, enforced } = then;
        let keys = judge.keys_without(&ended, revoked);
        let fates: BTreeMap<&String, (Fate, Fate)> = before
            .keys()
            .map(|image| {
                let now = judge.fate(before.get(image), &judge.keys);
                (image, (now, judge.fate(after.get(image), &keys)))
            })
            .collect();
        let mut judged: Vec<Judged> = workloads
            .into_iter()
            .map(|workload| {
                let verdicts: Vec<Image> = workload
                    .images
                    .iter()
                    .filter_map(|image| {
                        Some(verdict(&judge.ring, image, fates.get(image)?, enforced))
                    })
                    .collect();
                // Of a pod without images nothing is looked at.
                let result = verdicts.iter().map(|v| v.result).min().unwrap_or(Result::Starts);
                Judged { workload, result, verdicts }
            })
            .collect();
        judged.sort_by(|a, b| (a.result, &a.workload).cmp(&(b.result, &b.workload)));
        Self {
            ring: judge.ring.clone(),
            title,
            resign: resign(judge, before, &fates, is_change),
            ended,
            namespaces,
            images: before.len(),
            inspections: judge.inspections(),
            workloads: judged,
        }
    }

    /// Those that become of this.
    pub fn count(&self, result: Result) -> usize {
        self.workloads.iter().filter(|judged| judged.result == result).count()
    }

    /// Whether something would start now and not then.
    pub fn breaks(&self) -> bool {
        self.count(Result::Breaks) > 0
    }

    /// How many workloads cannot be judged, so that nobody knows whether they would start.
    pub fn unknown(&self) -> usize {
        self.count(Result::Unknown)
    }

    /// Whether anything would not start, or cannot be judged.
    pub fn is_open(&self) -> bool {
        self.workloads.iter().any(|judged| judged.result != Result::Starts)
    }
}

fn verdict(
    ring: &str,
    image: &str,
    (now, then): &(Fate, Fate),
    (enforced_now, enforced_then): (bool, bool),
) -> Image {
    let result = match (!enforced_now || now.starts(), then) {
        (_, fate) if !enforced_then || fate.starts() => Result::Starts,
        (_, Fate::Unknown(..)) => Result::Unknown,
        (true, _) => Result::Breaks,
        (false, _) => Result::RefusedAlready,
    };
    let because = match then {
        Fate::Excluded(by) => Some(format!("excluded by {by}")),
        Fate::Admitted(_) => None,
        Fate::Refused(why, signers) => Some(refusal(ring, *why, signers)),
        Fate::Unknown(why, _) => Some(why.clone()),
    };
    Image { image: image.to_owned(), signed_by: signed_by(ring, now.signers()), result, because }
}

/// The images to sign again, of those that a version of the ring signed that is not
/// revoked then: what nobody vouched for is not to be signed because it runs, nor what a
/// leaked key may have signed. After a change they are those that it refuses; without one, those that the version that signs has not
/// signed. By how soon they are refused, which is by the newest version that signed them.
fn resign(
    judge: &Judge,
    found: &BTreeMap<String, Found>,
    fates: &BTreeMap<&String, (Fate, Fate)>,
    is_change: bool,
) -> Vec<String> {
    let own = |signer: &&signingkeyring_inspect::Signer| {
        signer.ring == judge.ring && signer.state != State::Revoked
    };
    let mut by_version: BTreeSet<(u32, String)> = BTreeSet::new();
    for (image, (_, then)) in fates {
        let Some(Found::Inspected(inspection)) = found.get(*image) else { continue };
        let Ok(digest) = &inspection.digest else { continue };
        let Some(pinned) = inspection.image.with_digest(digest) else { continue };
        let signers: Vec<_> = then.signers().iter().filter(own).collect();
        let Some(version) = signers.iter().map(|signer| signer.version).max() else { continue };
        let is_current = signers.iter().any(|signer| signer.state == State::Current);
        if if is_change { then.is_refused() } else { !is_current } {
            by_version.insert((version, pinned.to_string()));
        }
    }
    by_version.into_iter().map(|(_, image)| image).collect()
}
