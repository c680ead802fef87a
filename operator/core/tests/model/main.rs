//! The planners, exhaustively: a model checker drives the real `plan` and the
//! real `plan_policy` through every interleaving of two replicas, another ring,
//! Kyverno, faults and user edits, within bounds, and judges every state that
//! it reaches.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod act;
mod bystander;
mod configurations;
mod cover;
mod facts;
mod machine;
mod mistakes;
mod oracle;
mod policy;
mod settle;
mod state;
mod sync;
mod transitions;
mod view;
mod words;
mod world;
