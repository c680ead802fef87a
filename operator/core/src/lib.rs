//! The pure part of the operator: what a ring's state is, what to do next and
//! what Kyverno is told.
//!
//! ```text
//!  observe (operator)          this crate                         act (operator)
//!  stores, gate, Secrets ──► Snapshot ──► Facts ──► plan() ──► writes, in order
//!                               ▲           └────► report() ──► status  │
//!                               └─────────────── findings ──────────────┘
//!
//!  stores ──► PolicySnapshot ──► plan_policy() ──► compose() ──► one policy's write
//! ```
//!
//! Nothing here is async, reads a clock, draws randomness or can hold a
//! private key: time and everything seen are parameters, and what comes out
//! is plain data. The manifest enforces it: there is no client to depend on.

// What is read from a cluster is foreign data: whatever stands there, no index
// of it may panic.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

pub mod account;
mod api_enum;
pub mod condition;
pub mod duration;
pub mod event;
pub mod facts;
pub mod fingerprint;
mod grant;
pub mod guard;
pub mod high_water;
pub mod images;
pub mod ledger;
pub mod marks;
pub mod names;
pub mod omissions;
pub mod pass;
pub mod plan;
pub mod policy;
pub mod policy_ref;
pub mod promise;
pub mod public_key;
pub mod report;
pub mod schedule;
pub mod snapshot;
pub mod token;
pub mod usable;
