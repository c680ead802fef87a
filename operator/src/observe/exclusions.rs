//! What the cluster's exclusion lists say.

use kube::ResourceExt;
use signingkeyring_core::ledger::Exclusion;
use tracing::warn;

use super::exclusion;
use crate::context::Context;

/// Reads every list; each entry comes with the name of its list. An entry that
/// cannot be read does not count: the gate stays closed for it.
pub(super) fn listed(context: &Context) -> Vec<(String, Exclusion)> {
    let mut listed = Vec::new();
    for list in context.cache.lists.state() {
        let name = list.name_any();
        let entries = match &list.0 {
            Ok(list) => list.spec.images.as_slice(),
            Err(invalid) => {
                if context.announced.first_time(&format!("{name} {}", invalid.error)) {
                    warn!(list = name, error = invalid.error, "exclusion list cannot be read");
                }
                &[]
            }
        };
        for entry in entries {
            match exclusion(entry) {
                Ok(exclusion) => listed.push((name.clone(), exclusion)),
                Err(problem) => {
                    if context.announced.first_time(&format!("{name} {problem}")) {
                        warn!(list = name, problem, "exclusion does not count");
                    }
                }
            }
        }
    }
    listed
}
