//! The planner, exhaustively: a model checker drives the real `plan` through
//! every interleaving of two replicas, a policy controller, Kyverno, faults
//! and user edits, within bounds, and judges every state that it reaches.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod act;
mod configurations;
mod facts;
mod machine;
mod mistakes;
mod oracle;
mod settle;
mod state;
mod transitions;
mod view;
mod world;
