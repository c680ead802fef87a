//! The two controllers: one pass per ring, one pass per policy.

pub mod policies;
pub mod rings;
