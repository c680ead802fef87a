//! The two controllers: one pass per ring, one pass per policy. The policies
//! for namespaces whose label names no ring have passes of their own.

mod announcements;
mod exclusions;
mod panics;
pub mod policies;
mod progress;
pub mod rechecks;
pub mod rings;
mod unknown;
