//! Times that a clock which was ahead left in a ledger.

use jiff::{SignedDuration, Timestamp};

use super::{Ledger, Life, Past, Purpose, Signed, Version};

/// How far ahead of the clock a time may be: clocks of two machines are never
/// quite the same.
const TOLERANCE: SignedDuration = SignedDuration::from_mins(5);

impl Ledger {
    /// Whether a version was created, acknowledged or activated in the future.
    #[must_use]
    pub(crate) fn is_ahead_of(&self, now: Timestamp) -> bool {
        // Where there is no later time, nothing is later.
        let latest = now.checked_add(TOLERANCE).unwrap_or(Timestamp::MAX);
        let mut times = self.versions.iter().flat_map(|version| {
            let ended = version.record.ended.map(|ended| ended.at);
            let known = [version.acknowledged_at(), version.activated_at(), ended];
            known.into_iter().flatten().chain([version.created_at])
        });
        times.any(|time| time > latest)
    }

    /// Has nothing have happened later than now; what came first still does.
    pub(super) fn correct_times(&mut self, now: Timestamp) {
        for Version { created_at, life, record, .. } in &mut self.versions {
            *created_at = now.min(*created_at);
            let (acknowledged, activated) = times(life);
            let ended = record.ended.as_mut().map(|ended| &mut ended.at);
            for time in acknowledged.into_iter().chain(activated).chain(ended) {
                *time = now.min(*time);
            }
        }
    }
}

/// When Kyverno had accepted a version, and when it began to sign.
fn times(life: &mut Life) -> (Option<&mut Timestamp>, Option<&mut Timestamp>) {
    match life {
        Life::Pending { purpose: Purpose::Sign { acknowledged_at }, .. }
        | Life::Retired(Past::Unsigned { acknowledged_at, .. })
        | Life::Revoked(Past::Unsigned { acknowledged_at, .. }) => (acknowledged_at.as_mut(), None),
        Life::Pending { purpose: Purpose::StandBy, .. } => (None, None),
        Life::Standby { acknowledged_at, .. } => (Some(acknowledged_at), None),
        Life::Current { acknowledged_at, activated_at, .. }
        | Life::Accepted { signed: Signed { acknowledged_at, activated_at, .. }, .. }
        | Life::Retired(Past::Signed(Signed { acknowledged_at, activated_at, .. }))
        | Life::Revoked(Past::Signed(Signed { acknowledged_at, activated_at, .. })) => {
            (acknowledged_at.as_mut(), Some(activated_at))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ledger::{Cause, End, Ended, Mint, NewKey, PrivateKeyRef, RuleSettings},
        policy_ref::{Action, PolicyRef},
    };

    fn key() -> PrivateKeyRef {
        PrivateKeyRef { digest: String::new(), secret: None }
    }

    /// A ledger with one version.
    fn first() -> Ledger {
        let policy = PolicyRef::new(Action::Enforce, 1);
        let rule = RuleSettings::of(policy);
        let mint = Mint::New { version: 1, token: None, cause: Cause::First, rule };
        let new = NewKey {
            public_key: "-----BEGIN PUBLIC KEY-----\na\n-----END PUBLIC KEY-----\n".to_owned(),
            fingerprint: "SHA256:a".parse().unwrap(),
            private_key: key(),
        };
        Ledger::mint(None, &mint, new, time("2026-11-25T10:00:00Z")).unwrap()
    }

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn signed(acknowledged: &str, activated: &str) -> Signed {
        Signed {
            acknowledged_at: Some(time(acknowledged)),
            activated_at: time(activated),
            spare: false,
        }
    }

    #[test]
    fn the_times_of_every_state_are_found() {
        let (early, late) = ("2026-11-25T10:00:00Z", "2126-11-25T10:00:00Z");
        let unsigned = |at| Past::Unsigned { acknowledged_at: Some(time(at)), spare: false };
        let lives = |at| {
            [
                Life::Pending {
                    purpose: Purpose::Sign { acknowledged_at: Some(time(at)) },
                    private_key: key(),
                },
                Life::Standby { acknowledged_at: time(at), private_key: key() },
                Life::Current {
                    acknowledged_at: Some(time(early)),
                    activated_at: time(at),
                    private_key: key(),
                },
                Life::Current {
                    acknowledged_at: Some(time(at)),
                    activated_at: time(early),
                    private_key: key(),
                },
                Life::Accepted { signed: signed(early, at), key_digest: None },
                Life::Accepted { signed: signed(at, early), key_digest: None },
                Life::Retired(unsigned(at)),
                Life::Retired(Past::Signed(signed(early, at))),
                Life::Revoked(unsigned(at)),
                Life::Revoked(Past::Signed(signed(at, early))),
            ]
        };
        let now = time("2026-11-25T12:00:00Z");
        let ledger = |life: &Life, created_at| {
            let mut ledger = first();
            ledger.versions[0].life = life.clone();
            ledger.versions[0].created_at = time(created_at);
            ledger
        };
        for (sound, ahead) in lives(early).iter().zip(&lives(late)) {
            let ledgers = [ledger(ahead, early), ledger(ahead, late), ledger(sound, late)];
            for mut ledger in ledgers {
                assert!(ledger.is_ahead_of(now), "{ledger:?}");
                ledger.correct_times(now);
                assert!(!ledger.is_ahead_of(now), "{ledger:?}");
                assert_eq!(Ledger::parse(&ledger.to_json()).as_ref(), Ok(&ledger));
            }
            if !sound.state().is_accepted() {
                let mut ledger = ledger(sound, early);
                let at = time(late);
                ledger.versions[0].record.ended = Some(Ended { at, by: End::Window });
                assert!(ledger.is_ahead_of(now));
                ledger.correct_times(now);
                assert!(!ledger.is_ahead_of(now));
            }
            let mut right = ledger(sound, early);
            assert!(!right.is_ahead_of(now));
            let before = right.clone();
            right.correct_times(now);
            assert_eq!(right, before);
        }
    }

    #[test]
    fn the_ends_of_time_are_times_like_any_other() {
        let mut ledger = first();
        for now in [Timestamp::MIN, Timestamp::MAX] {
            for time in [Timestamp::MIN, Timestamp::MAX] {
                ledger.versions[0].created_at = time;
                assert_eq!(ledger.is_ahead_of(now), time > now);
                ledger.correct_times(now);
                assert!(ledger.versions[0].created_at <= now);
            }
        }
    }
}
