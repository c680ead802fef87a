//! What is remembered of a version, as its ring's status says it.

use signingkeyring_core::ledger::{Cause, End, Ended, Record};
use signingkeyring_crds::{VersionCause, VersionEnd, VersionStatus};

/// From a status. An end without its time, or the other way round, is none.
#[must_use]
pub fn record(status: &VersionStatus) -> Record {
    let at = status.ended_at.as_ref().map(|time| time.0);
    let ended = at.zip(status.ended_by).map(|(at, by)| Ended { at, by: end(by) });
    Record { cause: status.cause.map(cause), ended }
}

/// Into a status.
#[must_use]
pub const fn version_cause(cause: Cause) -> VersionCause {
    match cause {
        Cause::First => VersionCause::First,
        Cause::Import => VersionCause::Import,
        Cause::Standby => VersionCause::Standby,
        Cause::Token => VersionCause::Token,
        Cause::Schedule => VersionCause::Schedule,
        Cause::Revocation => VersionCause::Revocation,
        Cause::Recovery => VersionCause::Recovery,
    }
}

/// Into a status.
#[must_use]
pub const fn version_end(end: End) -> VersionEnd {
    match end {
        End::Rotation => VersionEnd::Rotation,
        End::Window => VersionEnd::Window,
        End::Discard => VersionEnd::Discard,
        End::Revocation => VersionEnd::Revocation,
        End::Recovery => VersionEnd::Recovery,
    }
}

const fn cause(cause: VersionCause) -> Cause {
    match cause {
        VersionCause::First => Cause::First,
        VersionCause::Import => Cause::Import,
        VersionCause::Standby => Cause::Standby,
        VersionCause::Token => Cause::Token,
        VersionCause::Schedule => Cause::Schedule,
        VersionCause::Revocation => Cause::Revocation,
        VersionCause::Recovery => Cause::Recovery,
    }
}

const fn end(end: VersionEnd) -> End {
    match end {
        VersionEnd::Rotation => End::Rotation,
        VersionEnd::Window => End::Window,
        VersionEnd::Discard => End::Discard,
        VersionEnd::Revocation => End::Revocation,
        VersionEnd::Recovery => End::Recovery,
    }
}
