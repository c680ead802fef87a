//! The Kubernetes API of the operator: group `signing.odj.cloud`, version `v1alpha1`.
//!
//! Types and their validation only; what they mean is decided in `operator/core`.

mod exclusion_list;
mod gate_question;
mod pattern;
mod ring;
mod status;
mod unknown_rings;

pub use exclusion_list::{ImageExclusion, ImageExclusionList, ImageExclusionListSpec};
pub use gate_question::{GateQuestion, GateQuestionSpec};
pub use ring::{
    Day, ImportSource, Layout, Pipeline, PolicyAction, PolicyKind, PolicySpec, RegistryCredential,
    Revocation, RotationSpec, RotationWindow, SecretName, SigningKeyRing, SigningKeyRingSpec,
};
pub use status::{
    PipelineStatus, PolicyStatus, SigningKeyRingStatus, VersionCause, VersionEnd, VersionState,
    VersionStatus,
};
pub use unknown_rings::{UnknownRings, UnknownRingsSpec};
