//! Kyverno: its version, its webhooks, and the kinds of policy that rings are in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{
    Api,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use signingkeyring_core::{images::Image, omissions::Labels, policy_ref::PolicyKind};
use signingkeyring_crds::SigningKeyRing;

use super::checks::{Check, Health};
use crate::{
    cluster::Cluster,
    error::Error,
    left_out::{self, LeftOut},
};

/// The Deployment that verifies images, as Kyverno's chart calls it.
const ADMISSION_CONTROLLER: &str = "kyverno-admission-controller";

/// The oldest Kyverno that is tested, the oldest that executes ImageValidatingPolicies as
/// they are written here, and the first that is announced to take no ClusterPolicies.
const OLDEST: (u32, u32) = (1, 18);
const NEWER_KIND: (u32, u32) = (1, 19);
const NO_OLDER_KIND: (u32, u32) = (1, 20);

/// So many sentences about webhooks are shown.
const SENTENCES: usize = 5;

/// What is seen of Kyverno's version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Version {
    /// It is the tag of its image.
    Named(String),
    /// By its CRDs it is 1.19 or newer.
    Newer,
    /// By its CRDs it is older.
    Older,
    /// Nothing.
    Unseen,
}

impl Version {
    /// Major and minor, if the tag has them.
    fn numbers(&self) -> Option<(u32, u32)> {
        let Self::Named(tag) = self else { return None };
        let mut parts = tag.trim_start_matches('v').split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }
}

/// Looks at all of it. `placed` counts the rings in each kind, if that can be seen.
pub async fn look(cluster: &Cluster, placed: Option<[usize; 2]>) -> Check {
    let mut served = Vec::new();
    for kind in PolicyKind::ALL {
        if let Ok(found) = cluster.client.list_api_group_resources(kind.api_version()).await
            && found.resources.iter().any(|resource| resource.name == kind.plural())
        {
            served.push(kind);
        }
    }
    check(&version(cluster).await, &served, placed)
}

async fn version(cluster: &Cluster) -> Version {
    let deployments: Api<Deployment> =
        Api::namespaced(cluster.client.clone(), &cluster.kyverno_namespace);
    let found = deployments.get_opt(ADMISSION_CONTROLLER).await.ok().flatten();
    let tag = found.and_then(|deployment| {
        let pod = deployment.spec?.template.spec?;
        let image = Image::parse(&pod.containers.into_iter().next()?.image?)?;
        Some(image.tag()?.to_owned())
    });
    match tag {
        Some(tag) => Version::Named(tag),
        None => by_crds(cluster).await,
    }
}

/// By what its CRD of the newer kind has since then.
async fn by_crds(cluster: &Cluster) -> Version {
    let kind = PolicyKind::ImageValidatingPolicy;
    let gvk = GroupVersionKind::gvk("apiextensions.k8s.io", "v1", "CustomResourceDefinition");
    let crds: Api<DynamicObject> =
        Api::all_with(cluster.client.clone(), &ApiResource::from_gvk(&gvk));
    let found = match crds.get_opt(kind.crd()).await {
        Ok(Some(found)) => found,
        Ok(None) => return Version::Older,
        Err(_) => return Version::Unseen,
    };
    let versions = found.data.pointer("/spec/versions").and_then(|all| all.as_array());
    let has = |schema: &serde_json::Value| {
        kind.newest_field().is_none_or(|field| schema.pointer(field).is_some())
    };
    let schemas = versions.into_iter().flatten();
    let mut schemas = schemas.filter_map(|version| version.pointer("/schema/openAPIV3Schema"));
    if schemas.any(has) { Version::Newer } else { Version::Older }
}

/// What comes of version, kinds and rings.
pub fn check(version: &Version, served: &[PolicyKind], placed: Option<[usize; 2]>) -> Check {
    let name = "Kyverno";
    // Where nobody knows, there may be some of each.
    let [older, newer] = placed.unwrap_or([1, 1]);
    let of_placed = |found, help| match placed {
        Some(_) => Check::wrong(name, found, help),
        None => {
            Check::unknown(name, format!("{found}; which kind rings are in cannot be seen"), help)
        }
    };
    if served.is_empty() {
        let help = "install Kyverno 1.19: rings are enforced by nothing";
        return Check::wrong(name, "none of its kinds of policy is served", help);
    }
    let kinds: Vec<&str> = served.iter().map(|kind| kind.as_str()).collect();
    let kinds = format!("serves {}", kinds.join(" and "));
    let said = match version {
        Version::Named(version) => version.clone(),
        Version::Newer => "1.19 or newer by its CRDs".to_owned(),
        Version::Older => "older than 1.19 by its CRDs".to_owned(),
        Version::Unseen => {
            return Check::unknown(
                name,
                format!("its version cannot be seen; {kinds}"),
                "name its namespace with --kyverno-namespace, or ask who may read Deployments \
                 there",
            );
        }
    };
    let numbers = version.numbers();
    let is_before = |than| numbers.map_or(*version == Version::Older, |numbers| numbers < than);
    let found = format!("{said}, {kinds}");
    if numbers.is_some_and(|numbers| numbers < OLDEST) {
        return Check::wrong(name, found, "upgrade it: 1.18 and 1.19 are tested");
    }
    if newer > 0 && is_before(NEWER_KIND) {
        let help = "it executes the ImageValidatingPolicies of rings in another way: upgrade it \
                    to 1.19, or have these rings move with spec.policy.kind: ClusterPolicy";
        return of_placed(found, help);
    }
    if older > 0 && numbers.is_some_and(|numbers| numbers >= NO_OLDER_KIND) {
        let help = "it is announced to take no changes of ClusterPolicies: have their rings move \
                    with spec.policy.kind: ImageValidatingPolicy";
        return of_placed(found, help);
    }
    match version {
        Version::Named(tag) if numbers.is_none() => Check::unknown(
            name,
            format!("{tag}, {kinds}"),
            "the tag of its image tells no version: 1.18 and 1.19 are tested",
        ),
        _ => Check::fine(name, found),
    }
}

/// What its webhooks and settings leave out of the rings' checks.
pub async fn left_out(
    cluster: &Cluster,
    rings: &[&SigningKeyRing],
    namespaces: Result<BTreeMap<String, Labels>, Error>,
) -> Check {
    // Who may not list them hears of what is wrong in all of them.
    let (namespaces, unseen) = match namespaces {
        Ok(namespaces) => (namespaces, None),
        Err(error) => (BTreeMap::new(), Some(error)),
    };
    let seen = left_out::look(cluster).await;
    let counts = [&seen.mutating, &seen.validating].map(|look| look.as_ref().map(Vec::len).ok());
    let of_ring = |ring: &&SigningKeyRing| {
        let name = ring.metadata.name.as_ref();
        let label = &cluster.enrolment_label;
        let enrolled = namespaces.iter().filter(|(_, labels)| labels.get(label) == name);
        let enrolled = enrolled.map(|(name, labels)| (name.clone(), Arc::new(labels.clone())));
        left_out::of(&seen, ring, label, enrolled.collect(), BTreeMap::new())
    };
    let check = webhooks(counts, &rings.iter().map(of_ring).collect::<Vec<_>>());
    match unseen {
        Some(error) if check.health == Health::Fine && !rings.is_empty() => Check::unknown(
            WEBHOOKS,
            format!("{}; whether they leave namespaces out cannot be seen: {error}", check.found),
            "ask who may list namespaces",
        ),
        _ => check,
    }
}

/// What is said of them, by this name.
pub const WEBHOOKS: &str = "Kyverno's webhooks";

/// What comes of that: how many webhooks there are in each half, and what they leave out of
/// each ring's check.
pub fn webhooks(counts: [Option<usize>; 2], left_out: &[LeftOut]) -> Check {
    let name = WEBHOOKS;
    if left_out.is_empty() {
        return Check::fine(name, "none is needed: no ring has a rule yet");
    }
    let told = |of: fn(&LeftOut) -> &Vec<String>| {
        let all: BTreeSet<&String> = left_out.iter().flat_map(of).collect();
        let more = all.len().saturating_sub(SENTENCES);
        let mut shown: Vec<&str> = all.into_iter().take(SENTENCES).map(String::as_str).collect();
        let rest = format!("and {more} more");
        shown.extend((more > 0).then_some(&*rest));
        (!shown.is_empty()).then(|| shown.join("; "))
    };
    if let Some(text) = told(|left_out| &left_out.certain) {
        return Check::wrong(
            name,
            text,
            "the rings' condition EnforcementComplete says it, too, and docs/conditions.md what to \
             do about each",
        );
    }
    if let Some(text) = told(|left_out| &left_out.unseen) {
        let help = "ask who may look; the rings' condition EnforcementComplete says what the \
                    operator sees";
        return Check::unknown(name, text, help);
    }
    if let Some(text) = told(|left_out| &left_out.open) {
        return Check::unknown(name, text, "docs/conditions.md, EnforcementComplete");
    }
    let [mutating, validating] = counts.map(Option::unwrap_or_default);
    Check::fine(
        name,
        format!("{mutating} that mutate, {validating} that validate; none ignores failures"),
    )
}

/// How long the kinds live that the rings are in.
pub fn kinds([older, newer]: [usize; 2]) -> Check {
    let name = "Policy kind";
    match (older, newer) {
        (0, 0) => Check::fine(name, "no ring has a rule yet"),
        (0, newer) => Check::fine(
            name,
            format!("{newer} rings in ImageValidatingPolicies, with which Kyverno goes on"),
        ),
        (older, newer) => {
            let text =
                format!("{older} rings in ClusterPolicies, {newer} in ImageValidatingPolicies");
            let mut check = Check::fine(name, text);
            check.help = Some(
                "Kyverno 1.19 deprecates ClusterPolicy, and 1.20 is announced to take no changes \
                 of one any more, so that its rings could not rotate: move before it is upgraded, \
                 with spec.policy.kind, or have the operator do it with --policy-kind=Auto \
                 (docs/policy-kinds.md)"
                    .to_owned(),
            );
            check
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::checks::Health, *};

    #[test]
    fn a_version_counts_by_what_the_rings_are_in() {
        let named = |tag: &str| Version::Named(tag.to_owned());
        let health =
            |version: &Version, placed| check(version, &PolicyKind::ALL, Some(placed)).health;
        for (version, placed, expected) in [
            (named("v1.19.1"), [1, 1], Health::Fine),
            (named("v1.18.2"), [1, 0], Health::Fine),
            (named("v1.18.2"), [1, 1], Health::Wrong),
            (named("v1.17.0"), [0, 0], Health::Wrong),
            (named("v1.20.0"), [1, 0], Health::Wrong),
            (named("v1.20.0-rc.1"), [0, 1], Health::Fine),
            (named("latest"), [1, 0], Health::Unknown),
            (Version::Newer, [0, 1], Health::Fine),
            (Version::Older, [0, 1], Health::Wrong),
            (Version::Older, [1, 0], Health::Fine),
            (Version::Unseen, [1, 0], Health::Unknown),
        ] {
            assert_eq!(health(&version, placed), expected, "{version:?} {placed:?}");
        }
        assert_eq!(check(&named("v1.19.1"), &[], Some([0, 0])).health, Health::Wrong);
        // Of rings that cannot be listed nobody knows where they are.
        for (tag, unseen) in
            [("v1.18.2", Health::Unknown), ("v1.19.1", Health::Fine), ("v1.20.0", Health::Unknown)]
        {
            assert_eq!(check(&named(tag), &PolicyKind::ALL, None).health, unseen, "{tag}");
        }
        assert_eq!(kinds([1, 0]).health, Health::Fine);
    }

    #[test]
    fn whatever_is_not_fine_says_what_to_do() {
        let named = |tag: &str| Version::Named(tag.to_owned());
        let of = |version: &Version, placed| check(version, &PolicyKind::ALL, placed);
        let left_out = |certain: bool| LeftOut {
            certain: vec!["a".to_owned(); usize::from(certain)],
            unseen: vec!["b".to_owned(); usize::from(!certain)],
            ..LeftOut::default()
        };
        for (check, says) in [
            (check(&named("v1.19.1"), &[], Some([1, 0])), "install Kyverno"),
            (of(&named("v1.17.0"), Some([1, 0])), "upgrade it"),
            (of(&named("v1.18.2"), Some([0, 1])), "upgrade it to 1.19"),
            (of(&named("v1.20.0"), Some([1, 0])), "spec.policy.kind: ImageValidatingPolicy"),
            (of(&named("latest"), Some([1, 0])), "1.18 and 1.19 are tested"),
            (of(&Version::Unseen, None), "--kyverno-namespace"),
            (webhooks([Some(1), Some(1)], &[left_out(true)]), "docs/conditions.md"),
            (webhooks([None, None], &[left_out(false)]), "ask who may look"),
            // How long the kind lives is told before it is over.
            (kinds([1, 1]), "docs/policy-kinds.md"),
        ] {
            assert!(check.help.as_ref().is_some_and(|help| help.contains(says)), "{check:?}");
        }
    }

    #[test]
    fn what_is_left_out_is_told_once() {
        let counts = [Some(2), Some(2)];
        let ring = |certain: &[&str], unseen: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
            LeftOut { certain: owned(certain), unseen: owned(unseen), ..LeftOut::default() }
        };
        assert_eq!(webhooks(counts, &[]).health, Health::Fine);
        assert_eq!(webhooks(counts, &[ring(&[], &[])]).health, Health::Fine);
        assert_eq!(webhooks(counts, &[ring(&[], &["no right"])]).health, Health::Unknown);
        let texts = ["a", "b", "c", "d", "e", "f"];
        let check = webhooks(counts, &[ring(&texts, &["x"]), ring(&["a"], &[])]);
        assert_eq!((check.health, &*check.found), (Health::Wrong, "a; b; c; d; e; and 1 more"));
    }
}
