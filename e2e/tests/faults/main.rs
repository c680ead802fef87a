//! What the operator promises while something fails. Each of these tests stops
//! or breaks a part that the others need, so they take turns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod attack;
mod gate;
mod kindless;
mod ledger;
mod operator;
mod outdated;
mod packing;
mod restore;
mod rotations;
mod turn;
mod unknown;
mod upgrade;
mod urgency;
