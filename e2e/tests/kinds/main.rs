//! The kinds of policy side by side on one cluster: what differs by kind, and rings
//! that move from one kind to the other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod moves;
mod private;
mod rows;
mod table;

use std::sync::{Mutex, PoisonError};

/// Runs a test while no other does: what is asked in a second is counted.
fn in_turn(test: impl AsyncFnOnce(&'static common::Shared) -> anyhow::Result<()>) {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed is no reason for the next not to run.
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    common::run(test);
}
