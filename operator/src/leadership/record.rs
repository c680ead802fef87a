//! What a replica makes of the Lease, by its own clock that never jumps. What other machines'
//! clocks wrote there is for people.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use signingkeyring_core::names;
use tokio::time::Instant;

/// So long a Lease counts after its last renewal was seen.
pub(super) const DURATION: Duration = Duration::from_secs(10);

/// What somebody wrote there holds nobody up for longer. It ends nobody's sooner, who may not
/// have seen it.
const LONGEST_DURATION: Duration = Duration::from_secs(60);

/// The Lease as it was last seen.
#[derive(Clone, Debug)]
pub(super) struct Record {
    lease: Lease,
    /// When this process saw its present content first.
    since: Instant,
    /// Whether it is there: one that was deleted still counts, as its holder may not know.
    exists: bool,
}

impl Record {
    /// What was stored by this process, or found first.
    pub(super) const fn new(lease: Lease, now: Instant) -> Self {
        Self { lease, since: now, exists: true }
    }

    /// Takes in what was found. Its time begins anew whenever its content changes.
    pub(super) fn found(before: Option<Self>, lease: Option<Lease>, now: Instant) -> Option<Self> {
        match (before, lease) {
            (Some(before), Some(lease)) if before.lease.spec == lease.spec => {
                Some(Self { lease, exists: true, ..before })
            }
            (_, Some(lease)) => Some(Self::new(lease, now)),
            // Its last renewal may not have been seen.
            (Some(before), None) if before.exists => {
                Some(Self { exists: false, since: now, ..before })
            }
            (before, None) => before,
        }
    }

    /// Who holds it, if somebody does.
    pub(super) fn holder(&self) -> Option<&str> {
        let holder = self.lease.spec.as_ref()?.holder_identity.as_deref()?;
        (!holder.is_empty()).then_some(holder)
    }

    /// When it ends, unless it is renewed.
    pub(super) fn ends(&self) -> Instant {
        let seconds = self.lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        let duration = seconds.and_then(|seconds| u64::try_from(seconds).ok());
        let duration = duration.map_or(DURATION, Duration::from_secs);
        self.since + duration.clamp(DURATION, LONGEST_DURATION)
    }

    /// Whether a replica may take it, or renew it.
    pub(super) fn is_free_for(&self, replica: &str, now: Instant) -> bool {
        let free = match self.holder() {
            Some(holder) => holder == replica,
            None => self.is_released(),
        };
        free || now >= self.ends()
    }

    /// Whether nobody holds it because its holder let go. One that somebody else took the
    /// holder's name out of still says when that was acquired, and who that was does not know.
    fn is_released(&self) -> bool {
        self.lease.spec.as_ref().is_none_or(|spec| spec.acquire_time.is_none())
    }

    /// The Lease as a replica takes or renews it: the write succeeds only if nobody else has
    /// written it since it was seen.
    pub(super) fn taken(record: Option<&Self>, replica: &str, now: Timestamp) -> Lease {
        let before = record.and_then(|record| record.lease.spec.clone()).unwrap_or_default();
        let is_renewed = before.holder_identity.as_deref() == Some(replica);
        let now = MicroTime(now);
        let transitions = before.lease_transitions.unwrap_or(0);
        let spec = LeaseSpec {
            holder_identity: Some(replica.to_owned()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if is_renewed { before.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(transitions.saturating_add(i32::from(!is_renewed))),
            ..LeaseSpec::default()
        };
        Lease { metadata: Self::metadata(record), spec: Some(spec) }
    }

    /// The Lease of which its holder lets go.
    pub(super) fn released(&self) -> Lease {
        let before = self.lease.spec.clone().unwrap_or_default();
        let spec = LeaseSpec {
            lease_transitions: before.lease_transitions,
            lease_duration_seconds: before.lease_duration_seconds,
            renew_time: before.renew_time,
            ..LeaseSpec::default()
        };
        Lease { metadata: self.lease.metadata.clone(), spec: Some(spec) }
    }

    fn metadata(record: Option<&Self>) -> ObjectMeta {
        let found = record.filter(|record| record.exists);
        found.map(|record| record.lease.metadata.clone()).unwrap_or_else(|| ObjectMeta {
            name: Some(names::LEASE.to_owned()),
            labels: Some([(names::LABEL_MANAGED_BY.to_owned(), names::MANAGER.to_owned())].into()),
            ..ObjectMeta::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: &str = "me";

    fn lease(holder: Option<&str>, renewals: i64, seconds: Option<i32>) -> Lease {
        let renewed = Timestamp::from_second(renewals).unwrap();
        let spec = LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            renew_time: Some(MicroTime(renewed)),
            lease_transitions: Some(4),
            ..LeaseSpec::default()
        };
        let version = Some("7".to_owned());
        let metadata = ObjectMeta { resource_version: version, ..ObjectMeta::default() };
        Lease { metadata, spec: Some(spec) }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_is_anothers_until_nobody_has_renewed_it_for_its_duration_by_the_own_clock() {
        let start = Instant::now();
        // Whatever time the other's clock wrote there.
        for renewed in [0, 4_000_000_000] {
            let at = |record: Option<Record>, lease, after| {
                Record::found(record, Some(lease), start + seconds(after)).unwrap()
            };
            let record = at(None, lease(Some("other"), renewed, Some(10)), 0);
            assert!(!record.is_free_for(ME, start + seconds(9)));
            assert!(record.is_free_for(ME, start + seconds(10)));
            assert!(record.is_free_for("other", start));
            // Seen again it is no younger; renewed it is.
            let record = at(Some(record), lease(Some("other"), renewed, Some(10)), 8);
            assert!(record.is_free_for(ME, start + seconds(10)));
            let record = at(Some(record), lease(Some("other"), renewed + 1, Some(10)), 9);
            assert!(!record.is_free_for(ME, start + seconds(18)));
            assert!(record.is_free_for(ME, start + seconds(19)));
        }
    }

    #[test]
    fn a_lease_of_nobody_is_free_and_one_that_was_deleted_is_still_its_holders() {
        let start = Instant::now();
        for nobody in [None, Some("")] {
            assert!(Record::new(lease(nobody, 1, Some(10)), start).is_free_for(ME, start));
        }
        assert!(Record::new(Lease::default(), start).is_free_for(ME, start), "without a spec");
        let mut emptied = lease(None, 1, Some(10));
        emptied.spec.as_mut().unwrap().acquire_time = Some(MicroTime(Timestamp::UNIX_EPOCH));
        let emptied = Record::new(emptied, start);
        assert!(!emptied.is_free_for(ME, start + seconds(9)), "nobody let go of it");
        assert!(emptied.is_free_for(ME, start + seconds(10)));
        let record = Record::new(lease(Some("other"), 1, Some(10)), start);
        let gone = |record, after| Record::found(Some(record), None, start + seconds(after));
        // It may have been renewed since it was seen, but not since it was seen to be gone.
        let record = gone(gone(record, 5).unwrap(), 9).unwrap();
        assert!(!record.is_free_for(ME, start + seconds(14)));
        assert!(record.is_free_for(ME, start + seconds(15)));
        let taken = Record::taken(Some(&record), ME, Timestamp::UNIX_EPOCH);
        assert_eq!(taken.metadata.resource_version, None, "it is created");
        assert!(Record::found(None, None, start).is_none());
    }

    #[test]
    fn what_somebody_wrote_as_its_duration_holds_nobody_up_for_long() {
        let start = Instant::now();
        let ends = |seconds| Record::new(lease(Some("other"), 1, seconds), start).ends() - start;
        assert_eq!(ends(Some(15)), seconds(15));
        assert_eq!(ends(Some(1)), DURATION, "its holder may not have seen that");
        assert_eq!(ends(Some(i32::MAX)), LONGEST_DURATION);
        assert_eq!(ends(Some(i32::MIN)), DURATION);
        assert_eq!(ends(None), DURATION);
    }

    #[test]
    fn who_takes_it_is_counted_and_who_renews_it_is_not() {
        let (start, now) = (Instant::now(), Timestamp::from_second(9).unwrap());
        let taken = |holder| {
            let record = Record::new(lease(holder, 1, Some(10)), start);
            let taken = Record::taken(Some(&record), ME, now);
            assert_eq!(taken.metadata.resource_version.as_deref(), Some("7"), "compare-and-swap");
            taken.spec.unwrap()
        };
        let renewed = taken(Some(ME));
        assert_eq!((renewed.lease_transitions, renewed.acquire_time), (Some(4), None));
        assert_eq!(renewed.renew_time, Some(MicroTime(now)));
        let acquired = taken(Some("other"));
        assert_eq!(acquired.lease_transitions, Some(5));
        assert_eq!(acquired.acquire_time, Some(MicroTime(now)));
        assert_eq!(acquired.holder_identity.as_deref(), Some(ME));
    }

    #[test]
    fn who_lets_go_leaves_it_to_the_next() {
        let record = Record::new(lease(Some(ME), 1, Some(10)), Instant::now());
        let released = record.released();
        assert_eq!(released.metadata.resource_version.as_deref(), Some("7"), "compare-and-swap");
        let record = Record::new(released, Instant::now());
        assert_eq!(record.holder(), None);
        let next = Record::taken(Some(&record), "other", Timestamp::UNIX_EPOCH);
        assert_eq!(next.spec.unwrap().lease_transitions, Some(5));
    }
}
