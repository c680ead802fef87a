//! What a version is good for, as the API says it.

use signingkeyring_core::ledger::State;
use signingkeyring_crds::VersionState;

/// From a status.
#[must_use]
pub const fn state(state: VersionState) -> State {
    match state {
        VersionState::Pending => State::Pending,
        VersionState::Standby => State::Standby,
        VersionState::Current => State::Current,
        VersionState::Accepted => State::Accepted,
        VersionState::Retired => State::Retired,
        VersionState::Revoked => State::Revoked,
    }
}

/// Into a status.
#[must_use]
pub const fn version_state(state: State) -> VersionState {
    match state {
        State::Pending => VersionState::Pending,
        State::Standby => VersionState::Standby,
        State::Current => VersionState::Current,
        State::Accepted => VersionState::Accepted,
        State::Retired => VersionState::Retired,
        State::Revoked => VersionState::Revoked,
    }
}
