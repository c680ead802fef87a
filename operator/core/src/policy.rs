//! The policies' side of the planner: what a policy object is seen to hold,
//! what it should hold, and whether to write, delete or leave it.
//!
//! ```text
//!  PolicySnapshot ──► plan_policy() ──► PolicyPlan ──► compose() ──► one write
//! ```
//!
//! The planner sees rules as marks, keys and digests and never as JSON, so that
//! a snapshot is small and a decision cannot rest on foreign data by accident.
//! Only who writes a policy composes its JSON, from the plan.
//!
//! Namespaces whose label names no ring have a policy without rings, which has a
//! snapshot and a plan of its own (`unknown`).

pub mod cluster_policy;
mod content;
mod difference;
mod digest;
pub mod exclusions;
mod expiry;
pub mod image_validating;
mod kept;
mod kinds;
mod known;
mod narrow;
mod object;
pub mod packing;
mod plan;
mod refusal;
pub mod snapshot;
pub mod unknown;
mod urgent;

pub use content::{Backend, Content, ContentRule, Source, Whole};
pub use digest::{Digest, Part};
pub use kinds::{Inputs, Renderer};
pub use object::{Metadata, NOBODYS_KEY, Rendered};
pub use plan::{Kept, KeptBecause, PolicyPlan, Step, Write, plan_policy};
pub use refusal::{Trial, suspects};
pub use snapshot::{Origin, PolicySnapshot};
