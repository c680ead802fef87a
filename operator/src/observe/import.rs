//! Whether the key pair of `spec.importFrom` is there, from its Secret's
//! metadata.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use signingkeyring_core::snapshot::{ImportFound, LedgerFound, Ring};

use super::is_rights_problem;
use crate::{context::Context, error::brief};

/// Looks only while the ring has no version.
pub(super) async fn look(context: &Context, ring: &Ring, ledger: &LedgerFound) -> ImportFound {
    let (Some(from), LedgerFound::Absent) = (&ring.import, ledger) else {
        return ImportFound::NotAsked;
    };
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &from.namespace);
    match api.get_metadata_opt(&from.name).await {
        Ok(Some(_)) => ImportFound::Present,
        Ok(None) => ImportFound::Absent,
        Err(error) if is_rights_problem(&error) => ImportFound::Forbidden,
        Err(error) => ImportFound::Failed(brief(&error)),
    }
}
