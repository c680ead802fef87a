//! What is excluded, and what comes of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{Timestamp, civil::Date};
use kube::{ResourceExt, core::DeserializeGuard};
use serde::Serialize;
use signingkeyring_convert::exclusion;
use signingkeyring_core::{
    images::{Cover, Excluded, Image, Pattern, minimal},
    ledger::Exclusion,
    policy_ref::PolicyKind,
};
use signingkeyring_crds::{ImageExclusion, ImageExclusionList};

use crate::{cluster::FoundRing, ring::policy_kind};

/// The images of a pod that runs in a ring's namespace.
#[derive(Debug)]
pub struct Running {
    /// The ring.
    pub ring: String,
    /// What it is of, with its namespace.
    pub workload: String,
    /// Its images.
    pub images: Vec<String>,
}

/// All exclusions.
#[derive(Debug, Serialize)]
pub struct View {
    pub exclusions: Vec<Entry>,
    /// Lists and rings that cannot be read, with the reason.
    pub unreadable: Vec<String>,
}

/// An exclusion.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Entry {
    pub image: String,
    pub from: From,
    pub reason: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires: Option<String>,
    pub state: State,
    /// What is wrong with one that cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Another one that has all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redundant_by: Option<String>,
    /// The running pods with an image that it excludes.
    pub pods: usize,
    /// What these are of, as far as there is room for their names.
    pub used_by: Vec<String>,
    /// How many more there are.
    #[serde(skip_serializing_if = "is_zero")]
    pub used_by_more: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
const fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The most workloads that are named for one exclusion.
const NAMED: usize = 20;

/// Who excludes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum From {
    /// A list, for all rings.
    List(String),
    /// A ring, for itself.
    Ring(String),
}

impl std::fmt::Display for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::List(name) => write!(f, "list {name}"),
            Self::Ring(name) => write!(f, "ring {name}"),
        }
    }
}

/// Whether an exclusion counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum State {
    /// It does.
    Counts,
    /// It does, and soon will not.
    Expiring,
    /// It does not any more.
    Expired,
    /// It never did.
    Unreadable,
}

impl View {
    /// Whether somebody has to look after one.
    pub fn is_open(&self) -> bool {
        !self.unreadable.is_empty()
            || self.exclusions.iter().any(|entry| entry.state != State::Counts)
    }
}

/// Makes it.
pub fn of(
    lists: &[DeserializeGuard<ImageExclusionList>],
    rings: &[FoundRing],
    running: &[Running],
    soon: Duration,
    now: Timestamp,
) -> View {
    let mut found: Vec<(From, &ImageExclusion)> = Vec::new();
    let mut unreadable = Vec::new();
    for list in lists {
        match &list.0 {
            Ok(list) => {
                let from = From::List(list.name_any());
                found.extend(list.spec.images.iter().map(|entry| (from.clone(), entry)));
            }
            Err(invalid) => unreadable.push(format!("list {}: {}", list.name_any(), invalid.error)),
        }
    }
    for ring in rings {
        match &ring.0 {
            Ok(ring) => {
                let from = From::Ring(ring.name_any());
                let own = &ring.spec.policy.exclude;
                found.extend(own.iter().map(|entry| (from.clone(), entry)));
            }
            Err(invalid) => unreadable.push(format!("ring {}: {}", ring.name_any(), invalid.error)),
        }
    }
    let read: Vec<(Entry, Option<Pattern>)> =
        found.into_iter().map(|(from, entry)| read(from, entry, soon, now)).collect();
    let used = Used::of(running, rings);
    let redundant = redundant(&read);
    let exclusions = read
        .into_iter()
        .zip(redundant)
        .map(|((mut entry, pattern), redundant_by)| {
            if let Some(pattern) = pattern {
                let (pods, workloads) = used.by(&entry.from, &pattern);
                entry.pods = pods;
                entry.used_by_more = workloads.len().saturating_sub(NAMED);
                let named = workloads.into_iter().take(NAMED);
                entry.used_by = named.map(str::to_owned).collect();
            }
            entry.redundant_by = redundant_by;
            entry
        })
        .collect();
    View { exclusions, unreadable }
}

/// Reads one, with its pattern if it counts.
fn read(
    from: From,
    entry: &ImageExclusion,
    soon: Duration,
    now: Timestamp,
) -> (Entry, Option<Pattern>) {
    let (state, problem) = match exclusion(entry) {
        Err(problem) => (State::Unreadable, Some(problem)),
        Ok(exclusion) => (state(&exclusion, soon, now), None),
    };
    let counts = matches!(state, State::Counts | State::Expiring);
    let pattern = Pattern::parse(&entry.image).ok().filter(|_| counts);
    let entry = Entry {
        image: entry.image.clone(),
        from,
        reason: entry.reason.clone(),
        owner: entry.owner.clone(),
        expires: entry.expires.clone(),
        state,
        problem,
        redundant_by: None,
        pods: 0,
        used_by: Vec::new(),
        used_by_more: 0,
    };
    (entry, pattern)
}

fn state(exclusion: &Exclusion, soon: Duration, now: Timestamp) -> State {
    let then = now.checked_add(soon).unwrap_or(Timestamp::MAX);
    match (exclusion.counts(now), exclusion.counts(then)) {
        (false, _) => State::Expired,
        (true, false) => State::Expiring,
        (true, true) => State::Counts,
    }
}

/// For each, another one that has all of it and lasts as long. Of two that are alike the
/// first stays.
fn redundant(entries: &[(Entry, Option<Pattern>)]) -> Vec<Option<String>> {
    // Only what the smallest set does without, or what is there twice, is looked for.
    let all = || entries.iter().filter_map(|(_, pattern)| pattern.clone());
    let needed: BTreeSet<Pattern> = minimal(all().collect()).into_iter().collect();
    let mut times: BTreeMap<Pattern, usize> = BTreeMap::new();
    all().for_each(|pattern| *times.entry(pattern).or_default() += 1);
    let is_alone = |pattern: &Pattern| needed.contains(pattern) && times.get(pattern) == Some(&1);
    let by = |(at, (entry, pattern)): (usize, &(Entry, Option<Pattern>))| {
        let pattern = pattern.as_ref().filter(|pattern| !is_alone(pattern))?;
        let mut others = entries.iter().enumerate().filter(|(other, _)| *other != at);
        let (_, (other, _)) = others.find(|(position, (other, wider))| {
            // A ring's own counts for nobody else.
            let reaches = matches!(other.from, From::List(_)) || other.from == entry.from;
            let covers = wider.as_ref().is_some_and(|wider| {
                [wider.clone()].into_iter().collect::<Cover>().covers(pattern)
            });
            let is_first = *position < at || last_day(other) > last_day(entry);
            reaches
                && covers
                && last_day(other) >= last_day(entry)
                && (is_first || wider.as_ref() != Some(pattern))
        })?;
        Some(format!("{} of {}", other.image, other.from))
    };
    entries.iter().enumerate().map(by).collect()
}

fn last_day(entry: &Entry) -> Date {
    entry.expires.as_deref().and_then(|text| text.parse().ok()).unwrap_or(Date::MAX)
}

/// The images that run.
struct Used<'a> {
    running: Vec<Pod<'a>>,
}

/// A pod that runs.
struct Pod<'a> {
    ring: &'a str,
    kind: PolicyKind,
    workload: &'a str,
    images: Vec<Image>,
}

impl<'a> Used<'a> {
    fn of(running: &'a [Running], rings: &[FoundRing]) -> Self {
        let kinds: BTreeMap<String, _> = rings
            .iter()
            .filter_map(|found| {
                let ring = found.0.as_ref().ok()?;
                Some((ring.name_any(), policy_kind(ring)))
            })
            .collect();
        let read = |pod: &'a Running| {
            let images = pod.images.iter().filter_map(|image| Image::parse(image)).collect();
            let kind = *kinds.get(&pod.ring)?;
            Some(Pod { ring: &pod.ring, kind, workload: &pod.workload, images })
        };
        Self { running: running.iter().filter_map(read).collect() }
    }

    /// How many pods have an image that a pattern excludes, and what they are of. A tag
    /// beside a digest counts: whether it stands only the registry knows.
    fn by(&self, from: &From, pattern: &Pattern) -> (usize, BTreeSet<&str>) {
        let reaches = |ring: &str| match from {
            From::List(_) => true,
            From::Ring(own) => own == ring,
        };
        let uses = |pod: &&Pod<'_>| {
            let mut images = pod.images.iter();
            images.any(|image| pattern.excludes(pod.kind, image) != Excluded::No)
        };
        let users = || self.running.iter().filter(|pod| reaches(pod.ring)).filter(uses);
        (users().count(), users().map(|pod| pod.workload).collect())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use signingkeyring_crds::VersionState;

    use super::*;
    use crate::{ring::tests::ring, text::plain};

    fn list(name: &str, entries: &serde_json::Value) -> DeserializeGuard<ImageExclusionList> {
        serde_json::from_value(json!({
            "apiVersion": "signing.odj.cloud/v1alpha1", "kind": "ImageExclusionList",
            "metadata": {"name": name}, "spec": {"images": entries},
        }))
        .unwrap()
    }

    #[test]
    fn what_is_of_no_use_any_more_is_told() {
        let lists = [
            list(
                "odj",
                &json!([
                    {"image": "quay.io/jetstack/*", "reason": "cert-manager", "owner": "platform"},
                    {"image": "quay.io/jetstack/app:1", "reason": "in the tree"},
                    {"image": "redis:7.2", "reason": "r", "expires": "2026-12-01"},
                    {"image": "docker.io/library/old:*", "reason": "r", "expires": "2026-11-23"},
                    {"image": "http://x", "reason": "typo"},
                ]),
            ),
            list("other", &json!([{"image": "quay.io/jetstack/*", "reason": "again"}])),
        ];
        let mut ring = ring(&[VersionState::Current]);
        ring.spec.policy.exclude = vec![ImageExclusion {
            image: "ghcr.io/own/*".into(),
            reason: "ours\x1b[2J".into(),
            ..ImageExclusion::default()
        }];
        let pod = |ring: &str, workload: &str, images: &[&str]| Running {
            ring: ring.into(),
            workload: workload.into(),
            images: images.iter().map(|image| (*image).to_owned()).collect(),
        };
        let mut running = vec![
            pod("checkout", "dev/Deployment cache", &["redis:7.2", "x"]),
            pod("checkout", "dev/Deployment cache", &["redis:7.2"]),
            pod("gone", "x/Pod y", &["ghcr.io/own/a"]),
        ];
        let many = (0..25).map(|n| format!("dev/Job app-{n:02}"));
        running.extend(many.map(|job| pod("checkout", &job, &["quay.io/jetstack/app:1"])));
        let now: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let rings = [DeserializeGuard(Ok(ring))];
        let view = of(&lists, &rings, &running, Duration::from_secs(14 * 86_400), now);
        assert!(view.is_open());
        assert_eq!((view.exclusions[0].used_by.len(), view.exclusions[0].used_by_more), (20, 5));
        let lines = super::super::print::lines(&view, now, true);
        insta::assert_snapshot!(plain(&lines));
    }
}
