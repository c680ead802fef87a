//! The guard, asked as ordinary users: what each may do, and what attacks on the
//! check meet with it and without it. The tests change what the others need, so
//! they take turns.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../faults/turn.rs"]
mod turn;

mod actions;
mod attacks;
mod fits;
mod marks;
mod prey;
mod race;
mod said;
mod table;
mod users;
