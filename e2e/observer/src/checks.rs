//! The invariants, checked on every state of a view in the API server's order.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{
    history::{Event, Id, Kind},
    invariant::Invariant,
    ledger::{Ledger, is_ledger},
    parse,
};

mod state;

pub use state::Expected;
use state::State;

/// Checks a history; returns what was violated, each with its invariant.
#[must_use]
pub fn check(history: &[Event], expected: &Expected<'_>) -> Vec<String> {
    let mut state = State::new(expected);
    for event in history {
        state.step(event);
    }
    state.at_the_end();
    state.violations
}

impl State<'_> {
    fn step(&mut self, event: &Event) {
        let before = self.now.remove(&event.id);
        if let Some(object) = &event.object {
            self.now.insert(event.id.clone(), object.clone());
        }
        if self.expected.foreign.contains(&event.id) {
            return self.foreign(event, before.as_ref());
        }
        match (event.id.kind, &event.object) {
            (Kind::Secret, Some(secret)) if is_ledger(secret) => self.ledger(event, secret),
            (Kind::Ring, Some(ring)) if event.id.name == self.expected.ring => {
                self.released |= parse::is_deleting(ring) && parse::may_leave_enrolled(ring);
            }
            (Kind::Secret, Some(secret)) => self.published(event, secret, before.as_ref()),
            (kind, _) if kind.is_policy() => self.policy(event),
            _ => {}
        }
    }

    /// `not-ours-not-touched`. Kyverno's writing of a policy's status is no touch.
    fn foreign(&mut self, event: &Event, before: Option<&Value>) {
        let name = &event.id.name;
        let Some(object) = &event.object else {
            return self.violated(
                Invariant::NotOursNotTouched,
                event.version,
                &format!("foreign {name} was deleted"),
            );
        };
        let Some(before) = before else { return };
        let fields = |object: &Value| {
            let metadata = &object["metadata"];
            [&metadata["labels"], &metadata["annotations"], &object["spec"], &object["data"]]
                .map(Value::clone)
        };
        if fields(before) != fields(object) {
            self.violated(
                Invariant::NotOursNotTouched,
                event.version,
                &format!("foreign {name} was written"),
            );
        }
    }

    /// `no-mint-over-a-loss` and `revoked-stays-revoked`, as far as the ledger
    /// goes.
    fn ledger(&mut self, event: &Event, secret: &Value) {
        if !self.is_its_ledger(&event.id) {
            return;
        }
        let version = event.version;
        let rows = match Ledger::of_secret(secret) {
            Ok(ledger) => {
                self.removed |= ledger.removed;
                ledger.versions
            }
            Err(error) => {
                let what = format!("the ledger cannot be read: {error:#}");
                return self.violated(Invariant::NoMintOverALoss, version, &what);
            }
        };
        let newest = rows.iter().map(|row| row.number).max().unwrap_or(0);
        let newest_ever = self.versions.keys().next_back().copied().unwrap_or(0);
        if newest < newest_ever {
            let what = format!("after version {newest_ever} the newest is version {newest}");
            self.violated(Invariant::NoMintOverALoss, version, &what);
        }
        for row in rows {
            let known =
                self.versions.entry(row.number).or_insert_with(|| row.public_key.clone()).clone();
            if known != row.public_key {
                let what = format!("version {} has two keys", row.number);
                self.violated(Invariant::NoMintOverALoss, version, &what);
            }
            let number = *self.numbers.entry(row.public_key.clone()).or_insert(row.number);
            if number != row.number {
                let what = format!("versions {number} and {} have one key", row.number);
                self.violated(Invariant::NoMintOverALoss, version, &what);
            }
            match row.state.as_str() {
                "Current" => {
                    self.signed.insert(row.number);
                }
                "Revoked" => {
                    self.revoked.insert(row.public_key.clone());
                }
                _ => {}
            }
            if row.state != "Revoked" && self.revoked.contains(&row.public_key) {
                let what = format!("version {} was revoked and is {}", row.number, row.state);
                self.violated(Invariant::RevokedStaysRevoked, version, &what);
            }
        }
    }

    /// `no-gap`: a pipeline gets a key only after every policy with the
    /// ring's rule accepts it.
    fn published(&mut self, event: &Event, secret: &Value, before: Option<&Value>) {
        let ring = self.expected.ring;
        let Some(key) = parse::published(secret, ring) else { return };
        if before.and_then(|before| parse::published(before, ring)).as_ref() == Some(&key) {
            return;
        }
        let rules = self.rules();
        if rules.is_empty() || rules.iter().any(|(_, rule)| !rule.keys.contains(&key)) {
            let number = self.number(&key);
            let what =
                format!("{} got version {number}, which is not accepted", event.id.namespace);
            self.violated(Invariant::NoGap, event.version, &what);
        }
        if self.revoked.contains(&key) {
            let number = self.number(&key);
            self.violated(
                Invariant::RevokedStaysRevoked,
                event.version,
                &format!("revoked version {number} was published"),
            );
        }
    }

    /// `no-gap`, `closed-not-open` and `revoked-stays-revoked`, as far as the
    /// policies go.
    fn policy(&mut self, event: &Event) {
        let rules = self.rules();
        let ring = self.ring().cloned();
        let may_leave =
            ring.as_ref().is_none_or(parse::is_deleting) && (self.released || !self.is_enrolled());
        self.enforced |= !rules.is_empty();
        if self.enforced && rules.is_empty() && !may_leave {
            self.violated(Invariant::ClosedNotOpen, event.version, "the rule is in no policy");
        }
        if self.removed {
            self.leaves(event, &rules);
        }
        self.unpinned(event, &rules);
        for (Id { name: policy, .. }, rule) in &rules {
            if !rule.is_whole {
                self.violated(
                    Invariant::ClosedNotOpen,
                    event.version,
                    &format!("the rule in {policy} verifies nothing"),
                );
            }
            for key in self.revoked.clone() {
                let dropped = (policy.clone(), key.clone());
                if !rule.keys.contains(&key) {
                    self.dropped.insert(dropped);
                } else if self.dropped.contains(&dropped) {
                    let number = self.number(&key);
                    let what = format!("revoked version {number} is accepted again in {policy}");
                    self.violated(Invariant::RevokedStaysRevoked, event.version, &what);
                }
            }
        }
        let pipelines = ring.as_ref().map(parse::pipelines).unwrap_or_default();
        for (key, holder) in self.held(&pipelines) {
            let missing = rules.iter().any(|(_, rule)| !rule.keys.contains(&key));
            if missing && !may_leave && !self.is_revoked(&key) {
                let number = self.number(&key);
                let what = format!("version {number} left a policy and {holder} holds it");
                self.violated(Invariant::NoGap, event.version, &what);
            }
        }
    }

    /// `no-gap`: where tags are refused they are pinned before, so that a signed image
    /// is admitted by its tag.
    fn unpinned(&mut self, event: &Event, rules: &[(Id, parse::Rule)]) {
        let pins = self.pins();
        for (id, rule) in rules.iter().filter(|(id, _)| id.kind == Kind::ImageValidatingPolicy) {
            let pin = parse::pin_of(&id.name).unwrap_or_default();
            if rule.action == "Enforce" && !pins.contains_key(&pin) {
                let what = format!("tags are refused by {} and not pinned", id.name);
                self.violated(Invariant::NoGap, event.version, &what);
            }
        }
    }

    /// `known-keys-only`: once nothing knows a ring any more, its rule does not
    /// come back.
    fn leaves(&mut self, event: &Event, rules: &[(Id, parse::Rule)]) {
        let policy = &event.id.name;
        if !rules.iter().any(|(held, _)| *held == event.id) {
            self.left.insert(policy.clone());
        } else if self.left.contains(policy) {
            let what = format!("the rule of the removed ring is back in {policy}");
            self.violated(Invariant::KnownKeysOnly, event.version, &what);
        }
    }

    /// `exactly-once`, and the `window` without what is revoked.
    fn at_the_end(&mut self) {
        let minted = self.versions.len();
        if minted != self.expected.minted {
            let what = format!("{} keys were asked for, {minted} minted", self.expected.minted);
            self.violated(Invariant::ExactlyOnce, 0, &what);
        }
        self.pins_at_the_end();
        let Some(ring) = self.ring() else {
            for (policy, _) in self.rules() {
                let what = format!("the ring is gone and its rule is in {}", policy.name);
                self.violated(Invariant::KnownKeysOnly, 0, &what);
            }
            return;
        };
        if parse::is_deleting(ring) {
            return;
        }
        let keep = usize::try_from(ring["spec"]["keepVersions"].as_u64().unwrap_or(3)).unwrap_or(3);
        let ledger = self.now.iter().find(|(id, _)| self.is_its_ledger(id));
        let ledger =
            ledger.map(|(_, secret)| secret).and_then(|secret| Ledger::of_secret(secret).ok());
        let rows = ledger.map(|ledger| ledger.versions).unwrap_or_default();
        let state =
            |number: u32| rows.iter().find(|r| r.number == number).map(|r| r.state.as_str());
        let window = self.signed.iter().rev().take(keep);
        let mut accepted: BTreeSet<u32> =
            window.copied().filter(|number| state(*number) != Some("Revoked")).collect();
        let waiting = rows.iter().filter(|r| ["Pending", "Standby"].contains(&r.state.as_str()));
        accepted.extend(waiting.map(|row| row.number));
        let rules = self.rules();
        if rules.len() != 1 {
            self.violated(
                Invariant::Window,
                0,
                &format!("the rule is in {} policies", rules.len()),
            );
        }
        for (Id { name: policy, .. }, rule) in rules {
            let found: BTreeSet<u32> = rule.keys.iter().map(|key| self.number(key)).collect();
            // With no accepted key the rule holds one that no ledger knows.
            let empty = accepted.is_empty() && found == BTreeSet::from([0]);
            if found != accepted && !empty {
                let what = format!("{policy} accepts {found:?}, the window is {accepted:?}");
                self.violated(Invariant::Window, 0, &what);
            }
        }
    }

    /// `settles`: in the end a pin holds the rings of its policy and no others, and
    /// leaves the images as they are that need no signature.
    fn pins_at_the_end(&mut self) {
        let rules = self.rules();
        for (pin, excluded) in self.pins() {
            let verifies = |(id, _): &&(Id, parse::Rule)| {
                parse::pin_of(&id.name).is_some_and(|name| name == pin)
            };
            let rule = rules.iter().find(verifies).map(|(_, rule)| rule);
            if rule.is_none_or(|rule| rule.skipped != excluded) {
                let what = format!("{pin} pins other images than are verified");
                self.violated(Invariant::Settles, 0, &what);
            }
        }
    }
}

#[cfg(test)]
mod tests;
