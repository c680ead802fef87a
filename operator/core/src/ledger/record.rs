//! What is remembered of a version for those who audit: why it came, and when and how it
//! went. Nothing is decided by it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// What is remembered of a version. What was not noted at the time is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Record {
    /// What called for it.
    pub cause: Option<Cause>,
    /// When and how it went out of force.
    pub ended: Option<Ended>,
}

/// The end of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// How.
    pub by: End,
}

/// What called for a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Cause {
    /// The ring had none.
    First,
    /// A key pair that existed already was taken over.
    Import,
    /// It was minted to stand by, and nothing has called for it yet.
    Standby,
    /// Somebody asked by the annotation.
    Token,
    /// The schedule.
    Schedule,
    /// The version that signed was revoked.
    Revocation,
    /// The ledger was lost.
    Recovery,
}

/// How a version went out of force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum End {
    /// Another one began to sign, and there was no room in the window any more.
    Rotation,
    /// The window became smaller.
    Window,
    /// It was given up before it signed.
    Discard,
    /// Somebody revoked it.
    Revocation,
    /// The ledger was lost.
    Recovery,
}
