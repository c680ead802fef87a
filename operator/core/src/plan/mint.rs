//! Whether a new version is due: because there is none, because somebody
//! asked, because of the schedule, because the one that signed was revoked, or
//! to stand by.

use super::{Action, place};
use crate::{
    facts::{Facts, highest_sequence},
    ledger::{Cause, Change, Ledger, Mint, RuleSettings, Version, token_hash},
    snapshot::{Import, ImportFound, Revoked, Snapshot},
};

/// The first commit of a ring: its first version, if that can be made at once.
/// Otherwise its rule alone, so that nothing unsigned runs in its namespaces
/// while it waits, and so that the version stands above what a policy says of
/// the ring already.
pub(super) fn begin(snapshot: &Snapshot, facts: &Facts<'_>) -> Action {
    let rule = place::first(snapshot, None);
    let above = highest_sequence(snapshot);
    let at_once = snapshot.can_seal && snapshot.import.is_none() && above == 0;
    match first(snapshot, facts, &rule).filter(|_| at_once) {
        Some(mint) => Action::Mint(mint),
        None => Action::Commit(Change::Begin { rule, above }),
    }
}

/// The first version. The token present now belongs to it and asks for nothing.
fn first(snapshot: &Snapshot, facts: &Facts<'_>, rule: &RuleSettings) -> Option<Mint> {
    if snapshot.ring.suspend || snapshot.ring.deleting {
        return None;
    }
    let token = facts.token.map(token_hash);
    let rule = rule.clone();
    match &snapshot.import {
        None => {
            let version = free_number(snapshot, 0);
            Some(Mint::New { version, token, cause: Cause::First, rule })
        }
        Some(Import { from, found: ImportFound::Present }) => {
            Some(Mint::Import { version: 1, from: from.clone(), token, rule })
        }
        Some(_) => None,
    }
}

/// The next version, if one is due. What is asked while a version is pending
/// waits until that one is current, and is answered by one more; what is asked
/// while one stands by is answered by that one.
pub(super) fn next(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> Option<Mint> {
    if ledger.is_unborn() {
        return first(snapshot, facts, &ledger.rule.settings);
    }
    let waiting = ledger.pending().is_some() || ledger.standby().is_some();
    if waiting || snapshot.ring.deleting || snapshot.ring.suspend {
        return None;
    }
    let version = free_number(snapshot, ledger.newest().map_or(0, |v| v.number));
    let rule = ledger.rule.settings.clone();
    if let Some(Import { from, found }) = &snapshot.import {
        // Nobody asked for another key than that one.
        let is_there = *found == ImportFound::Present;
        let token = facts.asked.map(token_hash);
        return is_there.then(|| Mint::Import { version, from: from.clone(), token, rule });
    }
    let due = facts.rotation_due || ledger.current().is_none();
    // What is asked and has to wait is not answered by one that only stands by.
    let token = facts.asked.filter(|_| due).map(token_hash);
    let cause = if due { cause(facts, ledger) } else { Cause::Standby };
    (due || snapshot.ring.standby).then_some(Mint::New { version, token, cause, rule })
}

/// What calls for another version, where one is due.
fn cause(facts: &Facts<'_>, ledger: &Ledger) -> Cause {
    if ledger.lost_its_signer() {
        Cause::Revocation
    } else if facts.asked.is_some() {
        Cause::Token
    } else if ledger.current().is_some() {
        Cause::Schedule
    } else {
        Cause::First
    }
}

/// Gives up a key pair that was just taken over and that another ring has first.
/// Its private key is destroyed by the same commit. What is left of the race: the
/// other ring's commit may take longer than this one's soak to get here.
pub(super) fn give_up(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let asked = snapshot.shares_key_with.is_some() && !snapshot.ring.suspend;
    let version = ledger.tentative().filter(|_| asked)?.number;
    Some(Change::Discard { version })
}

/// Has the version that was to stand by, or does, answer what was asked, or
/// replace a version that was revoked.
pub(super) fn promote(snapshot: &Snapshot, facts: &Facts<'_>, ledger: &Ledger) -> Option<Change> {
    let waiting = standing_by(ledger).filter(|_| !snapshot.ring.suspend)?;
    let due = facts.rotation_due || ledger.current().is_none();
    due.then(|| Change::Promote {
        version: waiting.number,
        token: facts.asked.map(token_hash),
        cause: cause(facts, ledger),
    })
}

/// Gives up a version that was to stand by, where none is wanted any more or
/// its private key is gone. It never reached a pipeline.
pub(super) fn discard(snapshot: &Snapshot, ledger: &Ledger) -> Option<Change> {
    let waiting = standing_by(ledger).filter(|_| !snapshot.ring.suspend)?;
    (has_lost_its_key(snapshot, waiting) || !snapshot.ring.standby)
        .then_some(Change::Discard { version: waiting.number })
}

/// Whether the Secret of its own that holds a version's private key is gone, or
/// holds something else by now.
pub(super) fn has_lost_its_key(snapshot: &Snapshot, version: &Version) -> bool {
    let secret = version.private_key().and_then(|key| key.secret.as_ref());
    secret
        .is_some_and(|secret| !snapshot.key_secrets.get(secret).is_some_and(|secret| secret.is_fit))
}

fn standing_by(ledger: &Ledger) -> Option<&Version> {
    ledger.standby().or_else(|| ledger.pending().filter(|v| v.is_spare()))
}

/// The lowest number after `last` that no revocation names: a version that
/// is revoked before it exists is not to be born.
pub(super) fn free_number(snapshot: &Snapshot, last: u32) -> u32 {
    let mut number = last.saturating_add(1);
    while snapshot.ring.revoked.contains(&Revoked::Version(number)) {
        number = number.saturating_add(1);
    }
    number
}
