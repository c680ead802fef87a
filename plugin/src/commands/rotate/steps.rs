//! The steps of a rotation, as a ring's status tells of them.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use signingkeyring_core::condition::{Kind, Status};
use signingkeyring_crds::{SigningKeyRing, VersionState};

use crate::{
    age,
    ring::{condition, versions},
    text::{Line, Span, Style},
};

/// Something that has happened.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    at: Timestamp,
    style: Style,
    what: String,
}

impl Step {
    /// It, with how long after the beginning it was.
    pub fn line(&self, begun: Timestamp) -> Line {
        let after = format!("+{}", age::since(begun, self.at));
        Line::new(Style::Dim, format!("{after:>6}  ")).and(Span::new(self.style, &self.what))
    }
}

/// How far a rotation has come.
#[derive(Debug)]
pub struct Steps {
    token: String,
    begun: Timestamp,
    /// What each version was when it was looked at last.
    states: BTreeMap<u32, VersionState>,
    /// The versions of which it was said that Kyverno accepts them.
    acknowledged: BTreeSet<u32>,
    /// The pipelines that were said to hold a version.
    switched: BTreeSet<(String, u32)>,
    /// What is waited for.
    waits: String,
    is_done: bool,
}

impl Steps {
    /// Begins with the ring as it was before.
    pub fn new(before: &SigningKeyRing, token: &str, begun: Timestamp) -> Self {
        Self {
            token: token.to_owned(),
            begun,
            states: versions(before).iter().map(|v| (v.version, v.state)).collect(),
            acknowledged: acknowledged(before).into_keys().collect(),
            switched: holders(before),
            waits: String::new(),
            is_done: false,
        }
    }

    /// Whether the version that was asked for signs.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// What has happened since.
    pub fn observe(&mut self, ring: &SigningKeyRing, now: Timestamp) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut step = |at, style, what| steps.push(Step { at, style, what });
        // In the order in which one leads to the next.
        let mut turned = Vec::new();
        for version in versions(ring).iter().rev() {
            let before = self.states.insert(version.version, version.state);
            if before.is_none() {
                let what = format!("version {} is minted", version.version);
                step(version.created_at.0, Style::Plain, what);
            }
            if before != Some(version.state) {
                turned.push(version);
            }
        }
        for (number, at) in acknowledged(ring) {
            if self.acknowledged.insert(number) {
                let what = format!("Kyverno has accepted version {number} for the whole soak");
                step(at, Style::Plain, what);
            }
        }
        let holders = holders(ring);
        for (secret, version) in holders.difference(&self.switched) {
            // When that was nobody says, but not after the version began to sign.
            let signs = turned.iter().find(|turned| turned.version == *version);
            let signs = signs.and_then(|turned| turned.activated_at.as_ref());
            let at = signs.map_or(now, |signs| signs.0.min(now));
            step(at, Style::Plain, format!("pipeline {secret} holds version {version}"));
        }
        self.switched = holders;
        turned.sort_by_key(|version| version.state != VersionState::Current);
        for version in turned {
            let number = version.version;
            match version.state {
                VersionState::Current => {
                    let at = version.activated_at.as_ref().map_or(now, |time| time.0);
                    step(at, Style::Good, format!("version {number} signs"));
                }
                VersionState::Standby => {
                    step(now, Style::Plain, format!("version {number} stands by"));
                }
                VersionState::Retired => {
                    let what =
                        format!("version {number} is retired: its images may not start again");
                    let at = version.ended_at.as_ref().map_or(now, |time| time.0);
                    step(at, Style::Warn, what);
                }
                VersionState::Revoked => {
                    step(now, Style::Bad, format!("version {number} is revoked"));
                }
                VersionState::Pending | VersionState::Accepted => {}
            }
        }
        let waits = condition(ring, Kind::Reconciling)
            .filter(|condition| condition.status == Status::True.as_str())
            .map(|condition| condition.message.clone())
            .unwrap_or_default();
        if waits != self.waits && !waits.is_empty() {
            step(now, Style::Dim, waits.clone());
        }
        self.waits = waits;
        let observed = ring.status.as_ref().and_then(|status| status.observed_rotation.as_ref());
        self.is_done = observed == Some(&self.token);
        // What the API has in whole seconds may seem to be from before.
        for step in &mut steps {
            step.at = step.at.max(self.begun);
        }
        steps
    }
}

/// The versions that Kyverno had accepted for the whole soak, and when.
fn acknowledged(ring: &SigningKeyRing) -> BTreeMap<u32, Timestamp> {
    let known = versions(ring).iter();
    known.filter_map(|v| Some((v.version, v.acknowledged_at.as_ref()?.0))).collect()
}

fn holders(ring: &SigningKeyRing) -> BTreeSet<(String, u32)> {
    let pipelines = ring.status.iter().flat_map(|status| &status.pipelines);
    pipelines
        .filter_map(|pipeline| {
            let secret = format!("{}/{}", pipeline.namespace, pipeline.secret_name);
            Some((secret, pipeline.version?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use signingkeyring_crds::PipelineStatus;

    use super::*;
    use crate::{ring::tests::ring, text::plain};

    use VersionState::{Accepted, Current, Pending, Retired};

    #[test]
    fn each_step_is_told_once_and_at_its_time() {
        let begun: Timestamp = "2026-11-14T10:00:00Z".parse().unwrap();
        let holding = |mut ring: SigningKeyRing, version| {
            ring.status.as_mut().unwrap().pipelines = vec![PipelineStatus {
                namespace: "ci".into(),
                secret_name: "image-signing".into(),
                version: Some(version),
                state: "Published".into(),
            }];
            ring
        };
        let mut steps = Steps::new(&holding(ring(&[Accepted, Accepted, Current]), 3), "t", begun);
        let mut told = String::new();
        let mut tell = |steps: &mut Steps, ring: &SigningKeyRing, seconds: i64| {
            let now = begun + jiff::SignedDuration::from_secs(seconds);
            let new: Vec<Line> = steps.observe(ring, now).iter().map(|s| s.line(begun)).collect();
            told.push_str(&plain(&new));
        };
        let minted = holding(ring(&[Accepted, Accepted, Current, Pending]), 3);
        tell(&mut steps, &minted, 1);
        tell(&mut steps, &minted, 2);
        let mut switched = holding(minted.clone(), 4);
        for version in
            switched.status.as_mut().unwrap().versions.iter_mut().filter(|v| v.version == 4)
        {
            version.acknowledged_at = Some(Time(begun + jiff::SignedDuration::from_secs(11)));
        }
        tell(&mut steps, &switched, 12);
        assert!(!steps.is_done());
        let mut done = holding(ring(&[Retired, Accepted, Accepted, Current]), 4);
        done.status.as_mut().unwrap().observed_rotation = Some("t".into());
        tell(&mut steps, &done, 13);
        assert!(steps.is_done());
        insta::assert_snapshot!(told, @r"
           +0s  version 4 is minted
          +11s  Kyverno has accepted version 4 for the whole soak
          +12s  pipeline ci/image-signing holds version 4
           +0s  version 4 signs
          +13s  version 1 is retired: its images may not start again
        ");
    }
}
