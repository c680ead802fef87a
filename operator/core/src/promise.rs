//! What a condition promises: nothing, that the operator goes on by itself, or that
//! it does so once a person has done what the message says. The planner's tests and
//! the model hold every condition to it.

use crate::{
    grant,
    ledger::PipelineRef,
    names::{self, RingName},
    policy_ref::{PolicyKind, PolicyRef},
    snapshot::OperatorFacts,
};

/// What a condition promises.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promise {
    /// Nothing: it is as it should be.
    Nothing,
    /// The operator puts it right by its own writes, with a Kyverno and an API
    /// server that do their part.
    Itself,
    /// The operator goes on once a person has gone one of these ways.
    After(Vec<Way>),
}

/// What is done, in order.
pub type Way = Vec<Act>;

/// What a person does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Corrects the ring's object.
    CorrectSpec,
    /// Takes `spec.suspend` out.
    Unsuspend,
    /// Takes a pipeline out of `spec.pipelines`, or names another Secret there.
    TakeOut(PipelineRef),
    /// Corrects the entry of `spec.revoked`, or takes it out.
    CorrectRevocation,
    /// Takes `spec.importFrom` out, or names another key pair.
    TakeImportOut,
    /// Creates the Secret that `spec.importFrom` names.
    CreateImport,
    /// Lets the operator read it.
    GrantImport(PipelineRef),
    /// Takes the exclusions out that Kyverno refuses.
    CorrectExclusions,
    /// Takes the enrolment label off the ring's namespaces.
    Unenrol,
    /// Lets the ring go although namespaces are enrolled.
    AllowUnenforced,
    /// Goes on after a loss, after this version.
    Recover(u32),
    /// Restores the newest backup of the ledger.
    RestoreLedger,
    /// Deletes or renames what has the ledger's name and is not one.
    DeleteLedger,
    /// Has a policy's marks written anew.
    RewriteMarks(PolicyRef),
    /// Deletes an object that has a policy's name and is not the operator's.
    DeletePolicy(PolicyRef),
    /// Lets the operator publish.
    Grant(PipelineRef),
    /// Creates a pipeline's namespace.
    CreateNamespace(String),
    /// Sees to it that a namespace can end.
    EndNamespace(String),
    /// Deletes a Secret.
    DeleteSecret(PipelineRef),
    /// Takes somebody's finalizers off a Secret.
    ReleaseSecret(PipelineRef),
    /// Mends what the API server says of a Secret.
    MendSecret(PipelineRef),
    /// Mends what the API server says of a policy.
    MendPolicy,
    /// Brings Kyverno, its webhooks, or the CRDs by which it is told and asked back.
    MendKyverno,
    /// Takes away what answers in Kyverno's place.
    MendGate,
    /// Sees to it that Kyverno leaves nothing out, or accepts that it does, or lets
    /// the operator see it.
    CloseOmission,
    /// Lets the operator read Kyverno's ConfigMap.
    GrantSettings,
    /// Has the ring move to a policy of this kind.
    MoveTo(PolicyKind),
    /// Installs a Kyverno that has this kind.
    Serve(PolicyKind),
    /// Creates the namespace in which policies of one kind are asked, or puts it right.
    InstallProbe,
}

impl Act {
    /// The command that does it, as messages print it; of what only the person
    /// can word there is none.
    #[must_use]
    pub fn command(&self, operator: &OperatorFacts, ring: &RingName) -> Option<String> {
        let label = &operator.enrolment_label;
        Some(match self {
            Self::Unenrol => {
                format!("kubectl label namespace --selector={label}={ring} {label}-")
            }
            Self::AllowUnenforced => format!(
                "kubectl annotate --overwrite skr {ring} {}=true",
                names::ANNOTATION_ALLOW_UNENFORCED
            ),
            Self::Recover(last) => format!(
                "kubectl annotate --overwrite skr {ring} {}={last}",
                names::ANNOTATION_RECOVER
            ),
            Self::RewriteMarks(policy) => {
                format!(
                    "kubectl annotate {} {policy} {}-",
                    policy.kind().resource(),
                    names::ANNOTATION_MARKS
                )
            }
            Self::DeletePolicy(policy) => {
                format!("kubectl delete {} {policy}", policy.kind().resource())
            }
            Self::Grant(pipeline) => grant::publish(operator, pipeline),
            Self::GrantImport(from) => grant::import(operator, from),
            Self::GrantSettings => grant::settings(operator),
            Self::CreateNamespace(name) => format!("kubectl create namespace {name}"),
            Self::DeleteSecret(PipelineRef { namespace, name }) => {
                format!("kubectl delete secret {name} --namespace={namespace}")
            }
            Self::MoveTo(kind) => format!(
                "kubectl patch skr {ring} --type=merge \
                 --patch={{\"spec\":{{\"policy\":{{\"kind\":\"{}\"}}}}}}",
                kind.as_str()
            ),
            Self::InstallProbe => "kubectl apply -k manifests/probe".to_owned(),
            Self::DeleteLedger => format!(
                "kubectl delete secret {} --namespace={}",
                names::ledger(ring),
                operator.namespace
            ),
            Self::CorrectSpec
            | Self::Unsuspend
            | Self::TakeOut(_)
            | Self::CorrectRevocation
            | Self::TakeImportOut
            | Self::CreateImport
            | Self::CorrectExclusions
            | Self::RestoreLedger
            | Self::EndNamespace(_)
            | Self::ReleaseSecret(_)
            | Self::MendSecret(_)
            | Self::MendPolicy
            | Self::MendKyverno
            | Self::MendGate
            | Self::CloseOmission
            | Self::Serve(_) => return None,
        })
    }
}
