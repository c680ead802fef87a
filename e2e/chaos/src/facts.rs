//! What is known of the rings: every version ever seen, what Kyverno has
//! acknowledged, and so which verdicts have to be which.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use signingkeyring_e2e_observer::{
    ledger::{Ledger, Version},
    marks::Marks,
};
use tokio::time::Instant;

use super::disturbances::{Disturbances, Scope};

/// What is known of one ring.
#[derive(Debug, Default)]
pub struct Ring {
    /// Its ledger as last seen.
    pub ledger: Option<Ledger>,
    /// Every version ever seen.
    pub seen: BTreeMap<u32, Seen>,
    /// Which versions each token was ever said to have asked for.
    pub tokens: BTreeMap<String, BTreeSet<u32>>,
    /// The values that asked for rotations.
    pub asked: Vec<String>,
    /// The versions that its spec revokes.
    pub revoked: Vec<u32>,
    /// How many versions may have been minted for another reason than a
    /// rotation that was asked for.
    pub allowed: u32,
    /// It has a schedule, by which a clock that jumps may rotate it.
    pub scheduled: bool,
    /// It is meant to audit, or to become so.
    pub audits: bool,
    /// The sequence from which on its rule refuses.
    enforces_from: Option<u64>,
    /// Kyverno has answered with a rule that refuses.
    enforced: bool,
    /// When somebody deleted or edited the policy of such a rule.
    touched: Option<Instant>,
    /// Its conditions, by type: status, reason and since when.
    conditions: BTreeMap<String, (String, String, Instant)>,
    /// `status.observedRotation`.
    pub observed_rotation: Option<String>,
}

impl Ring {
    /// The policy that holds its rule.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.ledger.as_ref().map(Ledger::policy)
    }

    /// A version in its ledger.
    #[must_use]
    pub fn version(&self, number: u32) -> Option<&Version> {
        self.ledger.as_ref()?.version(number)
    }

    /// The versions in its ledger.
    #[must_use]
    pub fn numbers(&self) -> Vec<u32> {
        let versions = self.ledger.as_ref().map(|ledger| ledger.versions.as_slice());
        versions.unwrap_or_default().iter().map(|version| version.number).collect()
    }

    /// The version that signs.
    #[must_use]
    pub fn current(&self) -> Option<u32> {
        self.ledger.as_ref()?.current().map(|version| version.number)
    }

    /// Whether its ledger says that images are refused.
    #[must_use]
    pub fn enforces(&self) -> bool {
        self.ledger.as_ref().is_some_and(Ledger::enforces)
    }
}

/// A version that was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Its fingerprints: one, or it was minted twice.
    pub fingerprints: BTreeSet<String>,
    /// The state it was last seen in.
    pub state: String,
    /// It has signed.
    pub activated: bool,
    /// The rule that does not accept it any more: when it was seen first, and
    /// its sequence.
    dropped: Option<(Instant, u64)>,
    /// Kyverno has answered with that rule, or a later one.
    refused: bool,
}

/// A moment at which it is known what the verdict on a ring's images has to
/// be. Two that are equal: known all the time between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    policy: String,
    disturbance: u64,
}

/// What an answer of Kyverno says for the first time.
#[derive(Debug, Default)]
pub struct News {
    /// How long it took until versions that fell out are refused.
    pub refused: Vec<Duration>,
    /// How long it took until rings whose policy somebody touched are back.
    pub back: Vec<Duration>,
}

/// All that is known.
#[derive(Debug, Default)]
pub struct Known {
    /// The rings by name.
    pub rings: BTreeMap<String, Ring>,
    /// What is broken on purpose.
    pub disturbances: Disturbances,
}

/// All that is known, shared by those who find out and those who judge.
#[derive(Debug, Default)]
pub struct Facts(Mutex<Known>);

impl Facts {
    /// Looks or changes.
    pub fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a disturbance before it is made. What is done to a policy is
    /// over for a ring once Kyverno has answered with its rule again.
    pub fn disturb(&self, scope: Scope) {
        let mut known = self.lock();
        if let Scope::Policy(policy) = &scope {
            for ring in known.rings.values_mut().filter(|ring| ring.policy() == Some(policy)) {
                if std::mem::take(&mut ring.enforced) {
                    ring.touched = Some(Instant::now());
                }
            }
        }
        known.disturbances.begin(scope);
    }

    /// What was disturbed is back.
    pub fn restored(&self, scope: Scope, newer_than: Option<Marks>) {
        self.lock().disturbances.end(scope, newer_than);
    }
}

impl Known {
    /// A ledger was seen.
    pub fn ledger(&mut self, ring: &str, ledger: Ledger) {
        let ring = self.rings.entry(ring.to_owned()).or_default();
        for version in &ledger.versions {
            let seen = ring.seen.entry(version.number).or_default();
            seen.fingerprints.insert(version.fingerprint.clone());
            seen.state.clone_from(&version.state);
            seen.activated |= version.has_signed();
            if !version.is_accepted() && seen.dropped.is_none() {
                seen.dropped = Some((Instant::now(), ledger.rule.sequence));
            }
        }
        for token in &ledger.tokens {
            ring.tokens.entry(token.hash.clone()).or_default().insert(token.version);
        }
        if ledger.enforces() {
            ring.enforces_from.get_or_insert(ledger.rule.sequence);
        } else {
            ring.enforces_from = None;
            ring.enforced = false;
        }
        ring.ledger = Some(ledger);
    }

    /// Kyverno answered for a policy.
    pub fn answer(&mut self, policy: &str, asked: Instant, marks: &Marks) -> News {
        self.disturbances.heard(policy, asked, marks);
        let is_undisturbed = self.disturbances.undisturbed(policy).is_some();
        let mut news = News::default();
        for (name, mark) in &marks.0 {
            let Some(ring) = self.rings.get_mut(name) else { continue };
            if ring.policy() != Some(policy) {
                continue;
            }
            ring.enforced |=
                is_undisturbed && ring.enforces_from.is_some_and(|from| mark.sequence >= from);
            if ring.enforced {
                let since = ring.touched.take();
                news.back.extend(since.map(|since| asked.saturating_duration_since(since)));
            }
            for seen in ring.seen.values_mut().filter(|seen| !seen.refused) {
                if let Some((since, _)) = seen.dropped.filter(|(_, rule)| mark.sequence >= *rule) {
                    seen.refused = true;
                    news.refused.push(asked.saturating_duration_since(since));
                }
            }
        }
        news
    }

    /// Whether Kyverno is there and asks what the ring's policy says, as far
    /// as it was not disturbed.
    #[must_use]
    pub fn in_place(&self, ring: &str) -> Option<Moment> {
        let policy = self.rings.get(ring)?.policy()?.to_owned();
        let disturbance = self.disturbances.undisturbed(&policy)?;
        Some(Moment { policy, disturbance })
    }

    /// The same, and the ring's rule refuses what has to be refused.
    #[must_use]
    pub fn enforced(&self, ring: &str) -> Option<Moment> {
        let moment = self.in_place(ring)?;
        let ring = self.rings.get(ring)?;
        (ring.enforced && !ring.audits).then_some(moment)
    }

    /// Whether images of a version have to be refused from now on.
    #[must_use]
    pub fn is_refused(&self, ring: &str, version: u32) -> bool {
        let seen = self.rings.get(ring).and_then(|ring| ring.seen.get(&version));
        seen.is_some_and(|seen| seen.refused)
    }

    /// A ring's condition was seen.
    pub fn condition(&mut self, ring: &str, kind: &str, status: &str, reason: &str) {
        let conditions = &mut self.rings.entry(ring.to_owned()).or_default().conditions;
        let changed = conditions.get(kind).is_none_or(|(s, r, _)| s != status || r != reason);
        if changed {
            let condition = (status.to_owned(), reason.to_owned(), Instant::now());
            conditions.insert(kind.to_owned(), condition);
        }
    }

    /// Since when a ring's condition has had a status and a reason.
    #[must_use]
    pub fn since(&self, ring: &str, kind: &str, status: &str, reason: &str) -> Option<Instant> {
        let (s, r, since) = self.rings.get(ring)?.conditions.get(kind)?;
        (s == status && r == reason).then_some(*since)
    }
}
