//! What whoever calls may do, and what is missed without it.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{Api, api::PostParams};
use signingkeyring_core::names;

use super::checks::Check;
use crate::{cluster::Cluster, error::brief};

/// A right, and the commands that need it.
#[derive(Debug)]
pub struct Right {
    /// It, in words.
    what: &'static str,
    /// Each group and resource that it takes, with the verbs of which one is enough.
    takes: &'static [(&'static [&'static str], &'static str, &'static str)],
    /// Whether it can be had in one namespace alone.
    is_namespaced: bool,
    /// What is missed without it.
    costs: &'static str,
}

/// All that commands use.
const RIGHTS: [Right; 17] = [
    Right {
        what: "list rings",
        takes: &[(&["list"], names::GROUP, "signingkeyrings")],
        is_namespaced: false,
        costs: "status shows single rings alone, coverage and exclusions nothing, and keys of \
                other rings are unknown to why and impact",
    },
    Right {
        what: "change rings",
        takes: &[(&["patch"], names::GROUP, "signingkeyrings")],
        is_namespaced: false,
        costs: "no rotate, no revoke",
    },
    Right {
        what: "ask for rotations (the verb rotate or update, for which the guard asks)",
        takes: &[(&["rotate", "update"], names::GROUP, "signingkeyrings")],
        is_namespaced: false,
        costs: "where the guard is installed, no rotate",
    },
    Right {
        what: "change all of a ring (the verb update, for which the guard asks)",
        takes: &[(&["update"], names::GROUP, "signingkeyrings")],
        is_namespaced: false,
        costs: "where the guard is installed, no revoke",
    },
    Right {
        what: "watch rings",
        takes: &[(&["watch"], names::GROUP, "signingkeyrings")],
        is_namespaced: false,
        costs: "no status --watch, and what rotate and revoke bring about is not followed",
    },
    Right {
        what: "list exclusion lists",
        takes: &[(&["list"], names::GROUP, "imageexclusionlists")],
        is_namespaced: false,
        costs: "no impact, why, verify and exclusions, and rotate only with --force",
    },
    Right {
        what: "list namespaces",
        takes: &[(&["list"], "", "namespaces")],
        is_namespaced: false,
        costs: "no impact, verify, exclusions and coverage, and status only counts namespaces",
    },
    Right {
        what: "read namespaces",
        takes: &[(&["get"], "", "namespaces")],
        is_namespaced: false,
        costs: "no why, and no impact and verify of one namespace",
    },
    Right {
        what: "label namespaces",
        takes: &[(&["patch"], "", "namespaces")],
        is_namespaced: false,
        costs: "no enroll, no unenroll",
    },
    Right {
        what: "enrol in rings (the verb enroll, for which the guard asks)",
        takes: &[(&["enroll"], names::GROUP, "signingkeyrings")],
        is_namespaced: false,
        costs: "where the guard is installed, no enroll, no unenroll",
    },
    Right {
        what: "list pods",
        takes: &[(&["list"], "", "pods")],
        is_namespaced: true,
        costs: "no impact, verify, exclusions and coverage",
    },
    Right {
        what: "list Deployments and other workloads",
        takes: &[
            (&["list"], "apps", "deployments"),
            (&["list"], "apps", "replicasets"),
            (&["list"], "apps", "statefulsets"),
            (&["list"], "apps", "daemonsets"),
            (&["list"], "apps", "controllerrevisions"),
            (&["list"], "batch", "jobs"),
            (&["list"], "batch", "cronjobs"),
        ],
        is_namespaced: true,
        costs: "no impact, and rotate only with --force",
    },
    Right {
        what: "create pods (for dry runs)",
        takes: &[(&["create"], "", "pods")],
        is_namespaced: true,
        costs: "no verify, and why does not hear Kyverno's own verdict",
    },
    Right {
        what: "read webhook configurations",
        takes: &[
            (&["get"], "admissionregistration.k8s.io", "mutatingwebhookconfigurations"),
            (&["get"], "admissionregistration.k8s.io", "validatingwebhookconfigurations"),
        ],
        is_namespaced: false,
        costs: "why and doctor do not see what Kyverno's webhooks leave out",
    },
    Right {
        what: "list Kyverno's PolicyExceptions",
        takes: &[
            (&["list"], "kyverno.io", "policyexceptions"),
            (&["list"], "policies.kyverno.io", "policyexceptions"),
        ],
        is_namespaced: false,
        costs: "why does not see what others' exceptions undo",
    },
    Right {
        what: "list the policies of namespaces",
        takes: &[
            (&["list"], "kyverno.io", "policies"),
            (&["list"], "policies.kyverno.io", "namespacedmutatingpolicies"),
            (&["list"], "policies.kyverno.io", "namespacedgeneratingpolicies"),
            (&["list"], "policies.kyverno.io", "namespacedimagevalidatingpolicies"),
            (&["list"], "policies.kyverno.io", "namespacedvalidatingpolicies"),
        ],
        is_namespaced: true,
        costs: "why does not see what others' policies undo",
    },
    Right {
        what: "read Kyverno's policies",
        takes: &[
            (&["get"], "kyverno.io", "clusterpolicies"),
            (&["get"], "policies.kyverno.io", "imagevalidatingpolicies"),
        ],
        is_namespaced: false,
        costs: "it is not seen which exclusions are in a ring's policy already",
    },
];

/// Where one has a right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Everywhere,
    /// In the namespace that is meant alone.
    Here,
    Nowhere,
}

/// Asks for all of them.
pub async fn look(cluster: &Cluster) -> Vec<Check> {
    let mut held = Vec::new();
    for right in &RIGHTS {
        match ask(cluster, right).await {
            Ok(where_) => held.push((right, where_)),
            Err(error) => {
                let help = "kubectl auth can-i --list shows them";
                return vec![Check::unknown(NAME, brief(&error), help)];
            }
        }
    }
    checks(&held, &cluster.namespace)
}

async fn ask(cluster: &Cluster, right: &Right) -> Result<Held, kube::Error> {
    if may(cluster, right, None).await? {
        return Ok(Held::Everywhere);
    }
    let is_here = right.is_namespaced && may(cluster, right, Some(&cluster.namespace)).await?;
    Ok(if is_here { Held::Here } else { Held::Nowhere })
}

/// Whether one has all that it takes.
async fn may(
    cluster: &Cluster,
    right: &Right,
    namespace: Option<&str>,
) -> Result<bool, kube::Error> {
    for (verbs, group, resource) in right.takes {
        let mut has_one = false;
        for verb in *verbs {
            has_one = has_one || review(cluster, (verb, group, resource), namespace).await?;
        }
        if !has_one {
            return Ok(false);
        }
    }
    Ok(true)
}

async fn review(
    cluster: &Cluster,
    (verb, group, resource): (&str, &str, &str),
    namespace: Option<&str>,
) -> Result<bool, kube::Error> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        namespace: namespace.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

const NAME: &str = "Your rights";

/// One check of those that one has, and one for each that is missing.
fn checks(held: &[(&Right, Held)], namespace: &str) -> Vec<Check> {
    let everywhere = held.iter().filter(|(_, held)| *held == Held::Everywhere);
    let had: Vec<String> = everywhere.map(|(right, _)| right.what.to_owned()).collect();
    let found = match held.len().saturating_sub(had.len()) {
        0 => "enough for every command".to_owned(),
        _ => format!("{} of the {} that commands use", had.len(), held.len()),
    };
    let mut checks = vec![Check { details: had, ..Check::fine(NAME, found) }];
    for (right, held) in held {
        let (what, costs) = (right.what, right.costs);
        let found = match held {
            Held::Everywhere => continue,
            Held::Here => {
                format!(
                    "you may {what} in namespace {namespace}, and not everywhere: elsewhere {costs}"
                )
            }
            Held::Nowhere => format!("you may not {what}: {costs}"),
        };
        let help =
            "README.md, Who may do what, has the roles; one for single rings is not seen here";
        checks.push(Check::unknown(NAME, found, help));
    }
    checks
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_what_it_costs() {
        let held = |held: [Held; 3]| {
            let checks = checks(&RIGHTS.iter().zip(held).collect::<Vec<_>>(), "dev");
            let said = |check: Check| [vec![check.found], check.details].concat().join(", ");
            checks.into_iter().map(said).collect::<Vec<_>>()
        };
        let all = held([Held::Everywhere; 3]);
        let rotations = RIGHTS[2].what;
        assert_eq!(
            all,
            [format!("enough for every command, list rings, change rings, {rotations}")]
        );
        let [had, missing, here] = &held([Held::Everywhere, Held::Nowhere, Held::Here])[..] else {
            panic!()
        };
        assert_eq!(had, "1 of the 3 that commands use, list rings");
        assert_eq!(missing, "you may not change rings: no rotate, no revoke");
        let checks = checks(&[(&RIGHTS[1], Held::Nowhere)], "dev");
        assert!(checks[1].help.as_ref().unwrap().contains("README.md, Who may do what"));
        assert!(
            here.starts_with(&format!("you may {rotations} in namespace dev, and not")),
            "{here}"
        );
    }
}
