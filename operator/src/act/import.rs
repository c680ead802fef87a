//! Takes over an existing cosign key pair.

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use signingkeyring_core::{
    ledger::PipelineRef,
    snapshot::{self, Finding},
};

use super::Halt;
use crate::{
    context::Context,
    error::{Error, brief, is_code},
    keys::{KeyPair, fingerprint_of_file, opening_cost},
    observe::{Observed, belongs_to_a_ring, is_known, known_to},
    secrets::Wiped,
};

/// Reads a key pair in cosign's layout and looks whether its parts fit, and
/// whether no ring has it: a key signs for one ring.
///
/// # Errors
/// If the Secret cannot be read, is not a P-256 key pair that its password
/// opens, or that of a ring; the text says what to do.
pub(super) async fn read(
    context: &Context,
    observed: &Observed,
    from: &PipelineRef,
) -> Result<KeyPair, Halt> {
    let api: Api<Secret> = Api::namespaced(context.client.clone(), &from.namespace);
    let mut secret = match api.get(&from.name).await {
        Ok(secret) => Wiped(secret),
        Err(error) if is_code(&error, 404) || is_code(&error, 403) => {
            return Err(unfit(brief(&error)));
        }
        Err(error) => return Err(Error::api(format!("Secret {from}"), error).into()),
    };
    if let Some(why) = belongs_to_a_ring(secret.0.annotations()) {
        return Err(unfit(why));
    }
    let mut entry = |name: &str| {
        let missing =
            format!("it has no entry {name}; cosign generate-key-pair makes such Secrets");
        secret.take(name).ok_or_else(|| unfit(missing))
    };
    let private = entry("cosign.key")?;
    let password = entry("cosign.password")?;
    let public = secret.take("cosign.pub");
    let cost = opening_cost(&private).map_err(|e| unfit(e.to_string()))?;
    let pair = context.sealings.compute(cost, move || KeyPair::imported(private, password)).await?;
    let pair = pair.map_err(|e| unfit(e.to_string()))?;
    // Without one nothing is missing: it is computed.
    if let Some(public) = public {
        let found = fingerprint_of_file(&public);
        let why = match &found {
            Ok(found) if found == pair.fingerprint() => None,
            Ok(_) => Some("belongs to another private key than its cosign.key"),
            Err(_) => Some("is no P-256 public key in PEM"),
        };
        if let Some(why) = why {
            return Err(unfit(misfit(from, why)));
        }
    }
    let (ring, fingerprint) = (&observed.snapshot.name, pair.fingerprint());
    if let Some(other) = known_to(context, ring, fingerprint) {
        return Err(unfit(snapshot::known_to(&other)));
    }
    if is_known(observed.snapshot.ledger.table(), fingerprint) {
        let why = "this ring had this key and gave it up, or revoked it. Have spec.importFrom name \
                   another key pair, or take it out, and one is generated";
        return Err(unfit(why.to_owned()));
    }
    Ok(pair)
}

/// What to do about a public key that does not belong to the private one. Which
/// of the two is meant only its owner knows.
fn misfit(from: &PipelineRef, why: &str) -> String {
    let PipelineRef { namespace, name } = from;
    format!(
        "its cosign.pub {why}. Have spec.importFrom name another key pair, or take it out, and \
         one is generated. Or, if cosign.key is the key you mean, take cosign.pub out of the \
         Secret, or put in what this prints: cosign public-key --key k8s://{namespace}/{name}"
    )
}

fn unfit(why: String) -> Halt {
    Halt::Found(Finding::ImportFailed(why))
}
