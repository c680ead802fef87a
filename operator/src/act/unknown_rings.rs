//! Tells the guard which labels name no ring, so that no note of a ring's policies gets
//! onto the pods of such namespaces (`manifests/guard/marks.yaml`).

use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use signingkeyring_core::names;
use signingkeyring_crds::UnknownRings;
use tracing::warn;

use crate::{
    context::Context,
    error::{Error, is_code},
};

/// The guard is told of no more values: the CRD takes no more.
const MOST: usize = 10_000;

/// Has the guard know these values of the label, which are sorted, and no others.
///
/// # Errors
/// If they can be neither read nor written. Then no ring waits until the guard is told.
pub async fn tell_guard(context: &Context, mut values: Vec<String>) -> Result<(), Error> {
    let left_out = values.len().saturating_sub(MOST);
    values.truncate(MOST);
    if left_out > 0 && context.announced.first_time(&format!("{left_out} not told to the guard")) {
        warn!(left_out, "too many labels name no ring: the guard is not told of some");
    }
    let told = &context.cache.unknown_told;
    if told.is(&values) {
        return Ok(());
    }
    match write(context, &values).await {
        Ok(()) => told.set(values),
        Err(error) => {
            told.forget();
            return Err(error);
        }
    }
    Ok(())
}

async fn write(context: &Context, values: &[String]) -> Result<(), Error> {
    let namespace = &context.settings.namespace;
    let name = names::UNKNOWN_RINGS;
    let api: Api<UnknownRings> = Api::namespaced(context.client.clone(), namespace);
    let failed = |error| Error::api(format!("UnknownRings {namespace}/{name}"), error);
    if context.cache.unknown_told.is_uncertain() {
        let found = match api.get_opt(name).await {
            Ok(found) => found.map(|found| found.spec.names).unwrap_or_default(),
            // Not to be seen with rights that are older than this: there is nothing to take back.
            Err(error) if values.is_empty() && is_code(&error, 403) => Vec::new(),
            Err(error) => return Err(failed(error)),
        };
        if found == values {
            return Ok(());
        }
    }
    let wanted = json!({
        "apiVersion": names::API_VERSION,
        "kind": "UnknownRings",
        "metadata": {"name": name, "labels": {names::LABEL_MANAGED_BY: names::MANAGER}},
        "spec": {"names": values},
    });
    let params = PatchParams::apply(names::MANAGER).force();
    api.patch(name, &params, &Patch::Apply(wanted)).await.map(drop).map_err(failed)
}
