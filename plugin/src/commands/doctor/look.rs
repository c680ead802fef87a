//! What is seen of the installation.

use jiff::{Timestamp, fmt::rfc2822};
use k8s_openapi::{
    api::{
        admissionregistration::v1::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy,
            ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
        },
        apps::v1::Deployment,
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
        },
        coordination::v1::Lease,
    },
    apimachinery::pkg::version::Info,
};
use kube::{
    Api, ResourceExt,
    api::{ListParams, PostParams},
    client::Body,
};
use signingkeyring_convert as convert;
use signingkeyring_core::{
    guard::{Expected, Guard, NAME, compare},
    names,
    policy_ref::PolicyKind,
};
use signingkeyring_crds::SigningKeyRing;

use super::checks::{self, Check, Leader};
use crate::{
    clock,
    cluster::{Cluster, FoundRing},
    error::{Error, brief, is_code},
    ring::{is_ready, policy_kind},
};

/// The kinds that the operator needs, as the API names them.
const KINDS: [&str; 4] =
    ["signingkeyrings", "imageexclusionlists", "gatequestions", "unknownrings"];

/// The objects that Kyverno's admission controller writes its webhooks into.
const WEBHOOKS: [&str; 2] =
    ["kyverno-resource-mutating-webhook-cfg", "kyverno-resource-validating-webhook-cfg"];

/// The Deployment that verifies images, as Kyverno's chart calls it.
const ADMISSION_CONTROLLER: &str = "kyverno-admission-controller";

/// All checks.
///
/// # Errors
/// If the API server does not answer.
pub async fn all(cluster: &Cluster) -> Result<Vec<Check>, Error> {
    let (version, time) = server(cluster).await?;
    let rings = cluster.rings().await;
    let mut all = vec![
        checks::kubernetes(&version.major, &version.minor),
        checks::clock(clock::now(), time),
        crds(cluster).await,
        rights(cluster).await,
        kyverno(cluster).await,
        webhooks(cluster, rings.as_deref().map_or(true, |rings| placed(rings).next().is_some()))
            .await,
        operator(cluster).await,
        checks::guard(&guard(cluster).await.map_err(|error| brief(&error))),
    ];
    all.extend(of_rings(rings));
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

/// The rights that the commands need: what for, the verb, the group and the resource.
const RIGHTS: [(&str, &str, &str, &str); 6] = [
    ("list rings", "list", names::GROUP, "signingkeyrings"),
    ("rotate rings", "patch", names::GROUP, "signingkeyrings"),
    ("list exclusion lists", "list", names::GROUP, "imageexclusionlists"),
    ("list namespaces", "list", "", "namespaces"),
    ("list pods", "list", "", "pods"),
    ("create pods (for dry runs)", "create", "", "pods"),
];

async fn rights(cluster: &Cluster) -> Check {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let mut rights = Vec::new();
    for (what, verb, group, resource) in RIGHTS {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            ..ResourceAttributes::default()
        };
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(attributes),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        match reviews.create(&PostParams::default(), &review).await {
            Ok(answer) => rights.push((what, answer.status.is_some_and(|s| s.allowed))),
            Err(error) => {
                return Check::unknown("Your rights", brief(&error), "kubectl auth can-i --list");
            }
        }
    }
    checks::rights(&rights)
}

async fn kyverno(cluster: &Cluster) -> Check {
    let mut served = Vec::new();
    for (kind, version) in [
        (PolicyKind::ClusterPolicy, "kyverno.io/v1"),
        (PolicyKind::ImageValidatingPolicy, "policies.kyverno.io/v1"),
    ] {
        if let Ok(found) = cluster.client.list_api_group_resources(version).await
            && found.resources.iter().any(|resource| resource.name == kind.plural())
        {
            served.push(kind);
        }
    }
    let deployments: Api<Deployment> =
        Api::namespaced(cluster.client.clone(), &cluster.kyverno_namespace);
    let found = deployments.get_opt(ADMISSION_CONTROLLER).await.ok().flatten();
    let version = found.and_then(|deployment| {
        let pod = deployment.spec?.template.spec?;
        let image = pod.containers.into_iter().next()?.image?;
        let image = signingkeyring_core::images::Image::parse(&image)?;
        Some(image.tag()?.to_owned())
    });
    checks::kyverno(version.as_deref(), &served)
}

async fn webhooks(cluster: &Cluster, has_rules: bool) -> Check {
    let [mutating, validating] = WEBHOOKS;
    let api: Api<MutatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let mutating = api.get_opt(mutating).await.ok();
    let mutating = mutating.map(|found| found.and_then(|f| f.webhooks).map_or(0, |w| w.len()));
    let api: Api<ValidatingWebhookConfiguration> = Api::all(cluster.client.clone());
    let validating = api.get_opt(validating).await.ok();
    let validating = validating.map(|found| found.and_then(|f| f.webhooks).map_or(0, |w| w.len()));
    checks::webhooks(mutating, validating, has_rules)
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

fn of_rings(rings: Result<Vec<FoundRing>, Error>) -> [Check; 2] {
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
    let of = |kind: PolicyKind| placed(&rings).filter(|ring| policy_kind(ring) == kind).count();
    [checks::rings(rings.len(), &not_ready), checks::policy_kinds(PolicyKind::ALL.map(of))]
}

/// The rings that have a rule.
fn placed(rings: &[FoundRing]) -> impl Iterator<Item = &SigningKeyRing> {
    let read = rings.iter().filter_map(|found| found.0.as_ref().ok());
    read.filter(|ring| ring.status.as_ref().is_some_and(|status| status.policy.is_some()))
}
