//! The planner: case by case, and over any history of events.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod cases;
mod endings;
mod findings;
mod gate;
mod imports;
mod moves;
mod omissions;
mod promises;
mod records;
mod safety;
mod secrets;
mod settles;
mod times;
mod unborn;
mod unknown;
mod world;
