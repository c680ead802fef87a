//! What the operator promises, on a cluster where nothing fails.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod api;
mod ci;
mod contents;
mod deletion;
mod drift;
mod exclusions;
mod imports;
mod lifecycle;
mod neighbours;
mod older_kyverno;
mod pipelines;
mod references;
mod requests;
mod revocation;
mod rights;
mod unborn;
mod unknown;
mod windows;
