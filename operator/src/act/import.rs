//! Takes over an existing cosign key pair.

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use signingkeyring_core::{ledger::PipelineRef, snapshot::Finding};

use super::{Halt, secrets::Wiped};
use crate::{
    context::Context,
    error::{Error, brief, is_code},
    keys::{KeyPair, fingerprint_of, opening_cost},
};

/// Reads a key pair in cosign's layout and looks whether its parts fit.
///
/// # Errors
/// If the Secret cannot be read or is not a P-256 key pair that its password
/// opens; the text says what to do.
pub(super) async fn read(context: &Context, from: &PipelineRef) -> Result<KeyPair, Halt> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &from.namespace);
    let secret = match api.get(&from.name).await {
        Ok(secret) => secret,
        Err(error) if is_code(&error, 404) || is_code(&error, 403) => {
            return Err(unfit(brief(&error)));
        }
        Err(error) => return Err(Error::api(format!("Secret {from}"), error).into()),
    };
    let mut secret = Wiped(secret);
    let mut entry = |name: &str| {
        let missing =
            format!("it has no entry {name}; cosign generate-key-pair makes such Secrets");
        secret.take(name).ok_or_else(|| unfit(missing))
    };
    let private = entry("cosign.key")?;
    let password = entry("cosign.password")?;
    let public = entry("cosign.pub")?;
    let cost = opening_cost(&private).map_err(|e| unfit(e.to_string()))?;
    let pair = context.sealings.compute(cost, move || KeyPair::imported(private, password)).await?;
    let pair = pair.map_err(|e| unfit(e.to_string()))?;
    let public = String::from_utf8_lossy(&public);
    if fingerprint_of(&public).as_ref() != Ok(pair.fingerprint()) {
        let why = "its cosign.pub is not the public key of its cosign.key".to_owned();
        return Err(unfit(why));
    }
    Ok(pair)
}

fn unfit(why: String) -> Halt {
    Halt::Found(Finding::ImportFailed(why))
}
