//! Exclusions that have expired, and when the next one does.

use std::time::Duration;

use jiff::Timestamp;

use super::snapshot::{Origin, PolicySeen, PolicySnapshot};
use crate::{images::Pattern, ledger::Exclusion};

/// The exclusions of the rings placed here.
fn own_exclusions(snapshot: &PolicySnapshot) -> impl Iterator<Item = (Origin, &Exclusion)> {
    snapshot.placed().filter(|(_, ring, _)| ring.sound).flat_map(|(name, _, table)| {
        let own = table.rule.settings.exclude.iter();
        own.map(move |exclusion| (Origin::Ring(name.to_owned()), exclusion))
    })
}

/// How long until the next of the policy's exclusions expires.
pub(super) fn next_expiry(snapshot: &PolicySnapshot) -> Option<Duration> {
    let own = own_exclusions(snapshot).map(|(_, exclusion)| exclusion);
    snapshot
        .listed
        .iter()
        .map(|(_, exclusion)| exclusion)
        .chain(own)
        .filter(|exclusion| exclusion.counts(snapshot.now))
        .filter_map(|exclusion| time_left(exclusion, snapshot.now))
        .min()
}

/// How long until an exclusion expires.
pub(super) fn time_left(exclusion: &Exclusion, now: Timestamp) -> Option<Duration> {
    Duration::try_from(exclusion.ends()?.duration_since(now)).ok()
}

/// The exclusions that the policy skipped until now and that have expired.
pub(super) fn expired(snapshot: &PolicySnapshot, found: &PolicySeen) -> Vec<(Origin, Exclusion)> {
    let listed = snapshot.listed.iter().map(|(list, e)| (Origin::List(list.clone()), e));
    let is_skipped = |exclusion: &Exclusion| {
        Pattern::parse(&exclusion.image).is_ok_and(|pattern| {
            pattern.spellings().iter().any(|glob| found.skipped.contains(glob))
        })
    };
    listed
        .chain(own_exclusions(snapshot))
        .filter(|(_, e)| !e.counts(snapshot.now) && is_skipped(e))
        .map(|(origin, exclusion)| (origin, exclusion.clone()))
        .collect()
}
