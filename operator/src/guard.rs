//! Looks at the guard as it is installed, and says how it differs from the
//! operator's settings. Nothing waits for it, and nothing depends on it.

use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use kube::{Api, api::ListParams};
use signingkeyring_convert as convert;
use signingkeyring_core::{
    guard::{Expected, Found, Guard, NAME, compare},
    names,
};
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use crate::{context::Context, error::brief};

/// How often it is looked at.
const INTERVAL: Duration = Duration::from_secs(300);

/// One that is installed together with the operator may come a moment later.
const GRACE: Duration = Duration::from_secs(5);

/// How long the API server may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at it from time to time and says what has changed; it never ends.
pub(crate) async fn run(context: &Context) {
    let mut said: Option<Guard> = None;
    let mut is_first = true;
    loop {
        // Somebody may have edited or deleted what it is told.
        context.cache.unknown_told.doubt();
        context.wake_unknown();
        match timeout(PATIENCE, look(context)).await {
            Ok(Ok(found)) => {
                let settings = &context.settings;
                let guard = compare(
                    &found,
                    Expected {
                        enrolment_label: &settings.enrolment_label,
                        namespace: &settings.namespace,
                        kyverno_namespace: &settings.kyverno_namespace,
                    },
                );
                if is_first && guard != Guard::Fits {
                    is_first = false;
                    sleep(GRACE).await;
                    continue;
                }
                context.metrics.guard(guard.state());
                if said.as_ref() != Some(&guard) {
                    say(&guard);
                    said = Some(guard);
                }
            }
            Ok(Err(error)) => unseen(context, &mut said, &brief(&error)),
            Err(_) => unseen(context, &mut said, "no answer"),
        }
        is_first = false;
        sleep(INTERVAL).await;
    }
}

/// What was seen before does not count any more. It is said once each time.
fn unseen(context: &Context, said: &mut Option<Guard>, why: &str) {
    context.metrics.guard(Guard::UNKNOWN);
    if said.take().is_some() || context.announced.first_time("guard not seen") {
        warn!(why, "whether the guard fits cannot be seen");
    }
}

fn say(guard: &Guard) {
    match guard {
        Guard::Absent => info!(
            "no guard is installed (manifests/guard): whoever may write Kyverno policies in a \
             namespace, label namespaces or patch rings may undo the check"
        ),
        Guard::Fits => info!("the guard fits"),
        Guard::Differs(differences) => {
            for difference in differences {
                warn!(
                    difference,
                    "the guard does not fit the operator's settings: it refuses too little, or, \
                     with another label, pods that Kyverno has verified"
                );
            }
        }
    }
}

async fn look(context: &Context) -> Result<Vec<Found>, kube::Error> {
    let ours = ListParams::default().labels(&format!("{}={NAME}", names::LABEL_NAME));
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(context.client.clone());
    let policies = policies.list(&ours).await?.items;
    // Whoever bound them: a binding needs no label to be one.
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(context.client.clone());
    let bindings = bindings.list(&ListParams::default()).await?.items;
    Ok(convert::guard::found(&policies, bindings))
}
