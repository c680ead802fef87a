//! From the Kubernetes API's objects to the types of `operator/core`, and back: what the
//! operator and the plugin both have to read.

// What is read from a cluster is foreign data: whatever stands there, no index
// of it may panic.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

mod exclusion;
pub mod guard;
mod record;
mod version;
pub mod webhooks;

pub use exclusion::exclusion;
pub use record::{record, version_cause, version_end};
pub use version::{state, version_state};
