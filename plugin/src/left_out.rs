//! What Kyverno leaves out of a ring's check, decided by core from what whoever calls may
//! read: its webhook configurations, its ConfigMap, and for one namespace the policies and
//! exceptions of others. Of those of other namespaces the ring's condition
//! EnforcementComplete tells.

mod others;

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use futures::future::join;
use k8s_openapi::api::{
    admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration},
    core::v1::ConfigMap,
};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use signingkeyring_convert::webhooks::{mutating, validating};
use signingkeyring_core::{
    condition::{Kind, Status},
    omissions::{
        Accepted, Cause, Concerned, Half, Hook, Labels, Look, Omission, Seen, Settings, Unseen,
        Weight, of_ring,
    },
    policy_ref::{PolicyKind, PolicyRef},
};
use signingkeyring_crds::{PolicyAction, SigningKeyRing};

use crate::{
    cluster::Cluster,
    error::{brief, is_code},
    ring::condition,
};

/// Kyverno's ConfigMap, as its chart calls it.
const CONFIG_MAP: &str = "kyverno";

/// What is left out of the check of a ring's pods in some namespaces.
#[derive(Debug, Default)]
pub struct LeftOut {
    /// How much that is.
    pub share: Share,
    /// What certainly is, in sentences.
    pub certain: Vec<String>,
    /// What may be, and cannot be told from here.
    pub open: Vec<String>,
    /// What could not be looked at, and why.
    pub unseen: Vec<String>,
}

/// How much of the pods is left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// None, as far as is seen.
    #[default]
    None,
    /// Some, or some of the check.
    Some,
    /// All of them.
    All,
}

pub use others::rules;

/// Looks at all that there is for one namespace, by the rights of whoever calls.
pub async fn look_for(cluster: &Cluster, namespace: &str) -> Seen {
    let mut seen = look(cluster).await;
    others::look(cluster, namespace, &mut seen).await;
    seen
}

/// Looks at what is the same for all namespaces, by the rights of whoever calls.
pub async fn look(cluster: &Cluster) -> Seen {
    let (mutating, validating) = join(
        hooks::<MutatingWebhookConfiguration>(cluster, Half::Mutating, mutating),
        hooks::<ValidatingWebhookConfiguration>(cluster, Half::Validating, validating),
    )
    .await;
    let mut hooks = mutating.iter().chain(&validating).flatten();
    let namespace = hooks.find_map(|hook| hook.service_namespace.clone());
    let namespace = namespace.unwrap_or_else(|| cluster.kyverno_namespace.clone());
    let settings = settings(cluster, &namespace).await.map(Some);
    Seen {
        mutating,
        validating,
        namespace,
        settings,
        policies: BTreeMap::new(),
        exceptions: Ok(Vec::new()),
        other_exceptions: Ok(Vec::new()),
    }
}

async fn hooks<K>(cluster: &Cluster, half: Half, read: fn(K) -> Vec<Hook>) -> Look<Vec<Hook>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api: Api<K> = Api::all(cluster.client.clone());
    let found = api.get_opt(half.configuration()).await.map_err(|error| unseen(&error))?;
    Ok(found.map(read).unwrap_or_default())
}

async fn settings(cluster: &Cluster, namespace: &str) -> Look<Settings> {
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
    let found = api.get_opt(CONFIG_MAP).await.map_err(|error| unseen(&error))?;
    let none = || Unseen {
        why: format!(
            "there is none named {CONFIG_MAP} in namespace {namespace}: name Kyverno's with \
             --kyverno-namespace"
        ),
        cause: Cause::Failed,
    };
    let map = found.ok_or_else(none)?;
    Ok(Settings::read(&map.data.unwrap_or_default()))
}

fn unseen(error: &kube::Error) -> Unseen {
    let cause = if is_code(error, 403) { Cause::Forbidden } else { Cause::Failed };
    Unseen { why: brief(error), cause }
}

/// What of it is left out of a ring's check in namespaces with these labels, by the names
/// of its rules if there are exceptions. Of a ring without a rule nothing can be.
pub fn of(
    seen: &Seen,
    ring: &SigningKeyRing,
    enrolment_label: &str,
    namespaces: BTreeMap<String, Arc<Labels>>,
    rules: BTreeMap<PolicyRef, Vec<String>>,
) -> LeftOut {
    let policy = ring.status.as_ref().and_then(|status| status.policy.as_ref());
    let policy: Option<PolicyRef> = policy.and_then(|policy| policy.name.parse().ok());
    let Some(policy) = policy else { return LeftOut::default() };
    let concerned =
        Concerned { policy, enrolment_label: enrolment_label.to_owned(), namespaces, rules };
    let mut found = of_ring(seen, &Accepted::default(), &concerned);
    // Which exclusions of users are accepted the operator knows, and says of the ring.
    let complete = condition(ring, Kind::EnforcementComplete);
    if complete.is_some_and(|complete| complete.status == Status::True.as_str()) {
        found.retain(|omission| !matches!(omission, Omission::Excluded { .. }));
    }
    let enforces = ring.spec.policy.action == PolicyAction::Enforce;
    let mut left_out = LeftOut { share: share(&found, policy.kind()), ..LeftOut::default() };
    for omission in &found {
        let told = match (omission, omission.weight()) {
            (Omission::Unseen { .. }, _) => &mut left_out.unseen,
            (_, Weight::Certain) => &mut left_out.certain,
            (_, Weight::Open) => &mut left_out.open,
            (_, Weight::Nothing) => continue,
        };
        told.push(omission.says(enforces));
    }
    left_out
}

/// Images are verified for one of the kinds in one half of Kyverno and asked about in the
/// other: only where both are blind nothing is refused.
fn share(found: &[Omission], kind: PolicyKind) -> Share {
    let halves = match kind {
        PolicyKind::ClusterPolicy => 2,
        PolicyKind::ImageValidatingPolicy => 1,
    };
    let (mut blind, mut is_filtered, mut is_partly) = (0, false, false);
    for omission in found {
        match omission {
            Omission::Missing { .. } => blind += 1,
            Omission::Namespaces { webhooks, .. } => blind += webhooks.len(),
            // Its third part is a pattern of names.
            Omission::Filtered { filter, .. } => match filter.ends_with(",*]") {
                true => is_filtered = true,
                false => is_partly = true,
            },
            // What it matches is Kyverno's to say.
            Omission::Excepted { .. } => is_partly = true,
            _ => {}
        }
    }
    match (blind >= halves || is_filtered, blind > 0 || is_partly) {
        (true, _) => Share::All,
        (false, true) => Share::Some,
        (false, false) => Share::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_half_does_not_see_is_not_let_through_for_certain() {
        let namespaces = |webhooks: &[&str]| Omission::Namespaces {
            webhooks: webhooks.iter().map(|name| (*name).to_owned()).collect(),
            selector: "stage!=sandbox".into(),
            namespaces: vec!["a".into()],
        };
        let filtered = |filter: &str| Omission::Filtered {
            filter: filter.into(),
            namespaces: vec!["a".into()],
        };
        let missing = || Omission::Missing { verifies: true, webhook: "m".into() };
        let both = PolicyKind::ALL;
        let policy = "signing-enforce-0001".parse().unwrap();
        let excepted = || Omission::Excepted { exception: "exception:a/b".into(), policy };
        for (found, shares) in [
            (vec![], [Share::None, Share::None]),
            (vec![namespaces(&["m", "v"])], [Share::All, Share::All]),
            (vec![namespaces(&["v"])], [Share::Some, Share::All]),
            (vec![namespaces(&["v"]), missing()], [Share::All, Share::All]),
            (vec![filtered("[*/*,a,*]")], [Share::All, Share::All]),
            (vec![filtered("[Pod,a,x-*]")], [Share::Some, Share::Some]),
            (vec![excepted()], [Share::Some, Share::Some]),
            (vec![Omission::Excluded { who: vec!["user:x".into()] }], [Share::None, Share::None]),
        ] {
            assert_eq!(both.map(|kind| share(&found, kind)), shares, "{found:?}");
        }
    }
}
