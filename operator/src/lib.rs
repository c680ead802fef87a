//! A Kubernetes operator for image-signing key rings: observe, plan, act.
//!
//! `watches` and `probe` keep a picture of the cluster, `observe` makes a
//! snapshot of it for one ring or one policy, `signingkeyring_core` plans the
//! pass, `act` writes. See ARCHITECTURE.md.

// What is read from a cluster is foreign data: whatever stands there, no index
// of it may panic.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

mod act;
mod cache;
pub mod clock;
mod context;
mod controllers;
mod error;
mod gate;
mod gathering;
mod guard;
mod handover;
mod hash;
mod http;
mod identity;
mod key_orders;
pub mod keys;
mod kinds;
mod kyverno;
mod leadership;
pub mod lock;
mod observe;
mod packed;
mod probe;
mod rechecks;
mod revoking;
mod rotations;
pub mod runtime;
mod sealings;
mod secrets;
pub mod settings;
pub mod telemetry;
mod watches;
mod workqueue;
