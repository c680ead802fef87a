//! The two controllers: one pass per ring, one pass per policy.

mod exclusions;
mod panics;
pub mod policies;
mod progress;
pub mod rings;
