//! What the operator promises, on a cluster where nothing fails.

#[path = "../common/mod.rs"]
mod common;

mod api;
mod deletion;
mod drift;
mod exclusions;
mod lifecycle;
mod pipelines;
mod rights;
