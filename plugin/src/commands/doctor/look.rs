//! What is seen of the installation.

use jiff::{Timestamp, fmt::rfc2822};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
        coordination::v1::Lease,
    },
    apimachinery::pkg::version::Info,
};
use kube::{Api, ResourceExt, api::ListParams, client::Body};
use signingkeyring_convert as convert;
use signingkeyring_core::{
    guard::{Expected, Guard, NAME, compare},
    names,
    policy_ref::PolicyKind,
};
use signingkeyring_crds::SigningKeyRing;

use super::{
    checks::{self, Check, Leader},
    kyverno, rights,
};
use crate::{
    clock,
    cluster::{Cluster, FoundRing},
    error::{Error, brief, is_code},
    ring::{is_ready, policy_kind},
};

/// The kinds that the operator needs, as the API names them.
const KINDS: [&str; 4] =
    ["signingkeyrings", "imageexclusionlists", "gatequestions", "unknownrings"];

/// All checks.
///
/// # Errors
/// If the API server does not answer.
pub async fn all(cluster: &Cluster) -> Result<Vec<Check>, Error> {
    let (version, time) = server(cluster).await?;
    let rings = cluster.rings().await;
    let placed: Vec<&SigningKeyRing> = rings.iter().flatten().filter_map(placed).collect();
    let of = |kind| placed.iter().filter(|ring| policy_kind(ring) == kind).count();
    let by_kind = PolicyKind::ALL.map(of);
    let namespaces = cluster.labels().await;
    let mut all = vec![
        checks::kubernetes(&version.major, &version.minor),
        checks::clock(clock::now(), time),
        crds(cluster).await,
    ];
    all.extend(rights::look(cluster).await);
    all.extend([
        kyverno::look(cluster, rings.is_ok().then_some(by_kind)).await,
        match &rings {
            Ok(_) => kyverno::left_out(cluster, &placed, namespaces).await,
            Err(error) => {
                let help = "ask who may list the rings";
                Check::unknown(kyverno::WEBHOOKS, error.to_string(), help)
            }
        },
        operator(cluster).await,
        checks::guard(&guard(cluster).await.map_err(|error| brief(&error))),
    ]);
    all.extend(of_rings(&rings, by_kind));
    Ok(all)
}

/// The API server's version, and its time by the answer's header.
async fn server(cluster: &Cluster) -> Result<(Info, Option<Timestamp>), Error> {
    let what = "the API server";
    let failed = |error: String| Error::Failed(format!("{what}: {error}"));
    let request = http::Request::get("/version").body(Body::empty());
    let request = request.map_err(|error| failed(error.to_string()))?;
    let answer = cluster.client.send(request).await.map_err(|error| Error::api(what, error))?;
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    // The form of HTTP is that of mails, but for the name of the time zone.
    let date = date.map(|date| date.replace("GMT", "+0000"));
    let time = date.and_then(|date| rfc2822::parse(&date).ok()).map(|time| time.timestamp());
    let version = cluster.client.apiserver_version().await;
    Ok((version.map_err(|error| Error::api(what, error))?, time))
}

async fn crds(cluster: &Cluster) -> Check {
    match cluster.client.list_api_group_resources(names::API_VERSION).await {
        Ok(found) => {
            let is_served = |kind: &str| found.resources.iter().any(|served| served.name == kind);
            let missing: Vec<&str> = KINDS.into_iter().filter(|kind| !is_served(kind)).collect();
            checks::crds(&missing)
        }
        Err(error) if is_code(&error, 404) => checks::crds(&KINDS),
        Err(error) => Check::unknown("CRDs", brief(&error), "see what the API server says"),
    }
}

async fn operator(cluster: &Cluster) -> Check {
    let namespace = &cluster.operator_namespace;
    let leases: Api<Lease> = Api::namespaced(cluster.client.clone(), namespace);
    let leader = match leases.get_opt(names::LEASE).await {
        Ok(None) => Leader::None,
        Ok(Some(lease)) => {
            let spec = lease.spec.unwrap_or_default();
            Leader::Held {
                by: spec.holder_identity.filter(|by| !by.is_empty()),
                renewed: spec.renew_time.map(|time| time.0),
            }
        }
        Err(error) => Leader::Unseen(brief(&error)),
    };
    checks::operator(&leader, namespace, clock::now())
}

async fn guard(cluster: &Cluster) -> Result<Guard, kube::Error> {
    let ours = ListParams::default().labels(&format!("{}={NAME}", names::LABEL_NAME));
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(cluster.client.clone());
    let policies = policies.list(&ours).await?.items;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(cluster.client.clone());
    let bindings = bindings.list(&ListParams::default()).await?.items;
    let expected = Expected {
        enrolment_label: &cluster.enrolment_label,
        namespace: &cluster.operator_namespace,
        kyverno_namespace: &cluster.kyverno_namespace,
    };
    Ok(compare(&convert::guard::found(&policies, bindings), expected))
}

fn of_rings(rings: &Result<Vec<FoundRing>, Error>, by_kind: [usize; 2]) -> [Check; 2] {
    let rings = match rings {
        Ok(rings) => rings,
        Err(error) => {
            let unseen =
                |name| Check::unknown(name, error.to_string(), "ask who may list the rings");
            return ["Rings", "Policy kind"].map(unseen);
        }
    };
    let is_fine = |found: &&FoundRing| found.0.as_ref().is_ok_and(is_ready);
    let not_ready = rings.iter().filter(|found| !is_fine(found));
    let not_ready: Vec<String> = not_ready.map(ResourceExt::name_any).collect();
    [checks::rings(rings.len(), &not_ready), kyverno::kinds(by_kind)]
}

/// A ring that has a rule.
fn placed(found: &FoundRing) -> Option<&SigningKeyRing> {
    let ring = found.0.as_ref().ok()?;
    ring.status.as_ref().is_some_and(|status| status.policy.is_some()).then_some(ring)
}
