//! What the cluster's exclusion lists say.

use std::{collections::BTreeSet, time::Duration};

use jiff::{Timestamp, ToSpan, civil::Date, tz::TimeZone};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use signingkeyring_core::ledger::Exclusion;
use tracing::{info, warn};

use crate::{
    cache::LedgerRow, context::Context, controllers::policies::is_skipped, observe, telemetry,
};

/// What the cluster's exclusion lists say.
#[derive(Debug, Default)]
pub struct Lists {
    /// All their entries, sorted, each once.
    pub exclusions: Vec<Exclusion>,
    /// Which list each entry is from.
    origins: Vec<(String, Exclusion)>,
}

/// Reads every list. An entry that cannot be read does not count: the gate
/// stays closed for it.
#[must_use]
pub fn read(context: &Context) -> Lists {
    let mut lists = Lists::default();
    for list in context.cache.lists.state() {
        let name = list.name_any();
        let entries = match &list.0 {
            Ok(list) => list.spec.images.as_slice(),
            Err(invalid) => {
                if context.announced.first_time(&format!("{name} {}", invalid.error)) {
                    warn!(list = name, error = invalid.error, "exclusion list cannot be read");
                }
                &[]
            }
        };
        for entry in entries {
            match observe::exclusion(entry) {
                Ok(exclusion) => lists.origins.push((name.clone(), exclusion)),
                Err(problem) => {
                    if context.announced.first_time(&format!("{name} {problem}")) {
                        warn!(list = name, problem, "exclusion does not count");
                    }
                }
            }
        }
    }
    lists.exclusions = lists.origins.iter().map(|(_, exclusion)| exclusion.clone()).collect();
    lists.exclusions.sort();
    lists.exclusions.dedup();
    lists
}

/// How long until the next of the exclusions of a policy expires.
#[must_use]
pub fn next_expiry(
    lists: &Lists,
    placed: &[(String, LedgerRow)],
    now: Timestamp,
) -> Option<Duration> {
    let own = placed
        .iter()
        .filter_map(|(_, row)| row.ledger.as_ref().ok())
        .flat_map(|ledger| &ledger.rule.settings.exclude);
    let next = lists
        .exclusions
        .iter()
        .chain(own)
        .filter(|exclusion| exclusion.counts(now))
        .filter_map(|exclusion| end_of(exclusion.expires?))
        .min()?;
    Duration::try_from(next.duration_since(now)).ok()
}

/// The moment after a day's last, in UTC.
fn end_of(day: Date) -> Option<Timestamp> {
    let next = day.checked_add(1.day()).ok()?;
    Some(next.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

/// Says of each exclusion that a policy skipped until now that it has expired.
pub async fn announce_expired(
    context: &Context,
    lists: &Lists,
    placed: &[(String, LedgerRow)],
    skipped: &BTreeSet<String>,
) {
    let now = context.clock.now();
    let expired = |e: &Exclusion| !e.counts(now) && is_skipped(e, skipped);
    for (list, exclusion) in lists.origins.iter().filter(|(_, e)| expired(e)) {
        let uid = context.cache.lists.get(&ObjectRef::new(list)).and_then(|list| list.uid());
        let on = telemetry::list_reference(list, uid.as_deref());
        announce(context, &on, exclusion).await;
    }
    for (ring, row) in placed {
        let Ok(ledger) = &row.ledger else { continue };
        for exclusion in ledger.rule.settings.exclude.iter().filter(|e| expired(e)) {
            let uid = context.cache.ring(ring).and_then(|ring| ring.uid());
            let on = telemetry::ring_reference(ring, uid.as_deref());
            announce(context, &on, exclusion).await;
        }
    }
}

async fn announce(
    context: &Context,
    on: &k8s_openapi::api::core::v1::ObjectReference,
    exclusion: &Exclusion,
) {
    let name = on.name.as_deref().unwrap_or_default();
    if context.announced.first_time(&format!("{name} {exclusion:?} expired")) {
        info!(object = name, image = exclusion.image, "exclusion expired");
        let note = format!("{} has expired: its images need a signature", exclusion.image);
        context.events.publish(on, true, "ExclusionExpired", "Expire", &note).await;
    }
}
