//! Which key signed an image, and whether Kyverno would admit it.
//!
//! ```text
//!  Image ──► Inspector ──► Inspection ──► judge(kind, ring, keys) ──► Verdict
//!            registries     what is there   pure: as often as wanted
//! ```
//!
//! What is read is kept by digest for as long as the process lives, and judged as often
//! as somebody asks what would be if. No Kubernetes: who asks says which keys there are.
//!
//! The verdict is that of Kyverno 1.19 by the operator's policies, which is not always
//! cosign's: `docs/signature-corpus.md`. What a registry does not say is
//! [`Unreadable`], and never taken for an image without signatures.

// What is read from a registry is foreign data: whatever stands there, no index of it
// may panic.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

mod bundle;
mod digest;
mod inspection;
mod inspector;
mod key;
mod manifest;
mod payload;
mod read;
mod registry;
mod unreadable;
mod verdict;

pub use inspection::{Bundle, Content, Inspection, Part, Signature};
pub use inspector::{Inspector, NoInspector};
pub use key::{BadKey, Key};
pub use registry::Limits;
pub use signingkeyring_core::{
    images::{Excluded, Image, Pattern},
    ledger::State,
    policy_ref::PolicyKind,
};
pub use unreadable::Unreadable;
pub use verdict::{Format, Outcome, Refusal, Signer, Verdict};
