//! Whether the key pair of `spec.importFrom` is there, from its Secret's
//! metadata.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use signingkeyring_core::{
    ledger::PipelineRef,
    snapshot::{Import, ImportFound, LedgerFound},
};
use signingkeyring_crds::SigningKeyRingSpec;

use super::is_rights_problem;
use crate::{context::Context, error::brief};

/// Looks only while the ring has no version.
pub(super) async fn look(
    context: &Context,
    spec: &SigningKeyRingSpec,
    ledger: &LedgerFound,
) -> Option<Import> {
    let asked = spec.import_from.as_ref().filter(|_| matches!(ledger, LedgerFound::Absent))?;
    let from =
        PipelineRef { namespace: asked.secret.namespace.clone(), name: asked.secret.name.clone() };
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &from.namespace);
    let found = match api.get_metadata_opt(&from.name).await {
        Ok(Some(_)) => ImportFound::Present,
        Ok(None) => ImportFound::Absent,
        Err(error) if is_rights_problem(&error) => ImportFound::Forbidden,
        Err(error) => ImportFound::Failed(brief(&error)),
    };
    Some(Import { from, found })
}
