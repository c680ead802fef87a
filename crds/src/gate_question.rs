//! `GateQuestion`: how the operator asks Kyverno what it enforces.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

/// A question of the operator to Kyverno, which is never stored.
///
/// To learn whether Kyverno enforces a policy, the operator has the API server
/// make a dry run of a GateQuestion that has the policy's name, in its own
/// namespace. It goes through the webhook through which every pod goes, and a
/// rule of the policy puts what Kyverno has loaded of it into the annotation
/// signing.odj.cloud/gate-answer of what comes back. Being no pod, it is not
/// stopped by what a platform asks of pods: quotas, limits, Pod Security, other
/// policies, injectors.
///
/// Nobody else needs it. One that is created for real does nothing, but in the
/// operator's namespace it stands in the way of the question of its name, and may
/// be deleted at any time; what refused it would refuse the dry run too. The kind
/// has to be there before Kyverno loads a policy: the operator writes none without
/// it.
#[derive(CustomResource, KubeSchema, Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[kube(
    group = "signing.odj.cloud",
    version = "v1alpha1",
    kind = "GateQuestion",
    plural = "gatequestions",
    namespaced,
    category = "signing",
    derive = "Default",
    derive = "PartialEq"
)]
pub struct GateQuestionSpec {}
