//! A Kubernetes operator for image-signing key rings: observe, plan, act.
//!
//! `watches` and `probe` keep a picture of the cluster, `observe` makes a
//! snapshot of it for one ring, `signingkeyring_core::plan` decides, `act`
//! writes. See ARCHITECTURE.md.

pub mod act;
pub mod cache;
pub mod clock;
pub mod context;
pub mod controllers;
pub mod error;
pub mod gate;
pub mod http;
pub mod keys;
pub mod kyverno;
pub mod observe;
pub mod probe;
pub mod queue;
pub mod runtime;
pub mod settings;
pub mod telemetry;
pub mod watches;
