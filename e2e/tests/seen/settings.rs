//! What Kyverno's ConfigMap has it leave out, by values of its chart.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::world::{World, wait_until};

use crate::{
    NAMESPACE, admits, begins, is_complete, says,
    turn::{in_turn, kill, metrics, start},
};

/// What Kyverno's chart renders of its defaults.
fn defaults() -> Value {
    json!({
        "enableDefaultRegistryMutation": "true",
        "defaultRegistry": "docker.io",
        "generateSuccessEvents": "false",
        "excludeGroups": "system:nodes",
        "resourceFilters": "[*/*,kyverno,*] [Event,*,*] [*/*,kube-system,*] [*/*,kube-public,*] \
                            [*/*,kube-node-lease,*] [Node,*,*] [Node/?*,*,*] [APIService,*,*] \
                            [APIService/?*,*,*] [TokenReview,*,*] [SubjectAccessReview,*,*] \
                            [SelfSubjectAccessReview,*,*] [Binding,*,*] [Pod/binding,*,*] \
                            [ReplicaSet,*,*] [ReplicaSet/?*,*,*] [EphemeralReport,*,*]",
        "updateRequestThreshold": "1000",
        "webhooks": webhooks(&json!([]), None),
        "webhookAnnotations": r#"{"admissions.enforcer/disabled":"true"}"#,
    })
}

/// The chart's `config.webhooks`, with more requirements of namespaces and an
/// objectSelector.
pub fn webhooks(namespaces: &Value, objects: Option<Value>) -> String {
    let not_in =
        |name| json!({"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": [name]});
    let mut expressions = vec![not_in("kube-system"), not_in("kyverno")];
    expressions.extend(namespaces.as_array().unwrap().clone());
    let mut webhooks = json!({"namespaceSelector": {"matchExpressions": expressions}});
    if let Some(objects) = objects {
        webhooks["objectSelector"] = objects;
    }
    webhooks.to_string()
}

/// Gives Kyverno its chart's settings, with one that differs.
pub async fn set(world: &World, setting: &str, value: &str) -> Result<()> {
    let mut data = defaults();
    data[setting] = value.into();
    let metadata = json!({"name": "kyverno", "namespace": "kyverno"});
    let settings =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    world.apply(&settings.to_string()).await?;
    Ok(())
}

/// Sets one thing, hears what is said of it, and sets the defaults again.
async fn told(
    world: &World,
    setting: &str,
    value: &str,
    begin: &str,
    words: &[&str],
    meanwhile: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    set(world, setting, value).await?;
    says(world, begin, words).await?;
    meanwhile().await?;
    set(world, setting, defaults()[setting].as_str().unwrap_or_default()).await?;
    is_complete(world).await
}

#[test]
fn the_charts_defaults_leave_nothing_out() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        set(world, "generateSuccessEvents", "true").await?;
        let selector = "{.webhooks[*].namespaceSelector.matchExpressions[*].values}";
        let webhooks = ["mutatingwebhookconfiguration", "kyverno-resource-mutating-webhook-cfg"];
        wait_until("Kyverno has its settings", async || {
            Ok(world.get(&webhooks, selector).await?.contains("kube-system"))
        })
        .await?;
        is_complete(world).await?;
        ensure!(!admits(world, &[]).await?);
        Ok(())
    });
}

#[test]
fn an_object_selector_lets_a_label_bypass_everything() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        // The chart's commented example.
        let objects = json!({"matchExpressions": [
            {"key": "webhooks.kyverno.io/exclude", "operator": "DoesNotExist"},
        ]});
        let value = webhooks(&json!([]), Some(objects));
        let words = [
            "!webhooks.kyverno.io/exclude",
            "mutate.kyverno.svc-fail",
            "validate.kyverno.svc-fail",
        ];
        told(world, "webhooks", &value, "False PodsLeftOut", &words, async || {
            ensure!(admits(world, &["--labels=webhooks.kyverno.io/exclude=yes"]).await?);
            ensure!(!admits(world, &[]).await?);
            let enforced = world.condition("shop", "PolicyEnforced").await?;
            ensure!(enforced.starts_with("True Enforced"), "{enforced}");
            // It is left out for all rings, whatever their kind.
            let all = world.get(&["skr"], "{.items[*].metadata.name}").await?;
            let all = all.split_whitespace().count();
            let not_ready = format!("signingkeyring_rings{{state=\"not_ready\"}} {all}");
            for line in [not_ready, format!("signingkeyring_incomplete_rings {all}")] {
                wait_until(&line, async || Ok(metrics(shared).await?.contains(&line))).await?;
            }
            // A rotation does not wait for what is only told.
            world.rotate("shop", "meanwhile").await
        })
        .await
    });
}

#[test]
fn a_namespace_selector_leaves_an_enrolled_namespace_out() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        let namespaces = json!([{"key": "stage", "operator": "NotIn", "values": ["sandbox"]}]);
        set(world, "webhooks", &webhooks(&namespaces, None)).await?;
        // Whatever label it is.
        let label = ["label", "--overwrite", "namespace", NAMESPACE];
        world.kubectl(&[&label[..], &["stage=sandbox"]].concat()).await?;
        let words = [NAMESPACE, "stage!=sandbox", "mutate.kyverno.svc-fail"];
        says(world, "False NamespacesLeftOut", &words).await?;
        ensure!(admits(world, &[]).await?);
        world.kubectl(&[&label[..], &["stage-"]].concat()).await?;
        is_complete(world).await?;
        set(world, "webhooks", &webhooks(&json!([]), None)).await?;
        is_complete(world).await
    });
}

#[test]
fn a_filter_leaves_out_pods_of_an_enrolled_namespace() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        // As the chart's resourceFiltersIncludeNamespaces adds one.
        let defaults = defaults();
        let filters = defaults["resourceFilters"].as_str().unwrap();
        let value = format!("{filters} [*/*,{NAMESPACE},*]");
        let words = [NAMESPACE, "[*/*,shop-dev,*]"];
        told(world, "resourceFilters", &value, "False PodsFiltered", &words, async || {
            ensure!(admits(world, &[]).await?);
            Ok(())
        })
        .await
    });
}

#[test]
fn users_are_excluded_until_that_is_accepted() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        let groups = "system:nodes,platform-admins";
        let words = ["group:platform-admins"];
        told(world, "excludeGroups", groups, "False UsersExcluded", &words, async || {
            let masters = ["--as=jane", "--as-group=system:masters"];
            ensure!(!admits(world, &masters).await?);
            ensure!(
                admits(world, &[&masters[..], &["--as-group=platform-admins"]].concat()).await?
            );
            Ok(())
        })
        .await?;
        let users = "jane,*:deployer";
        told(world, "excludeUsernames", users, "False UsersExcluded", &["user:jane"], async || {
            kill(shared).await?;
            start(shared, &["--accept-exclusions=user:jane,user:*:deployer"]).await?;
            is_complete(world).await?;
            kill(shared).await?;
            start(shared, &[]).await?;
            says(world, "False UsersExcluded", &["--accept-exclusions=user:jane", "*:deployer"])
                .await
        })
        .await
    });
}

#[test]
fn conditions_of_others_are_not_judged() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        let value = json!([{
            "name": "exclude-kubelet",
            "expression": "!('system:nodes' in request.userInfo.groups)",
        }]);
        let (value, words) = (value.to_string(), ["exclude-kubelet", "mutate.kyverno.svc-fail"]);
        told(world, "matchConditions", &value, "Unknown NotJudged", &words, async || Ok(())).await
    });
}

#[test]
fn without_the_right_it_is_said_what_is_not_seen() {
    in_turn(async |shared| {
        let world = &shared.world;
        begins(world).await?;
        // Read it may, that one alone.
        let account = "--as=system:serviceaccount:signing-system:signingkeyring-operator";
        let can = async |verb: &str, what: &str| {
            let ask = ["auth", "can-i", verb, what, account, "--namespace=kyverno"];
            world.kubectl(&ask).await.is_ok_and(|text| text.trim() == "yes")
        };
        for (verb, what, may) in [
            ("get", "configmaps/kyverno", true),
            ("watch", "configmaps/kyverno", true),
            ("update", "configmaps/kyverno", false),
            ("get", "configmaps/kyverno-metrics", false),
            ("list", "configmaps", false),
        ] {
            ensure!(can(verb, what).await == may, "{verb} {what}");
        }
        world.kubectl(&["delete", "--kustomize=manifests/kyverno-access"]).await?;
        kill(shared).await?;
        let log = || std::fs::read_to_string(world.info.folder.join("operator.log"));
        let lines_before = log()?.lines().count();
        start(shared, &[]).await?;
        says(world, "Unknown NotSeen", &["resourceFilters", "kyverno/kyverno"]).await?;
        // The rest is seen all the same.
        let policy = crate::others::mutating(NAMESPACE, "swap");
        world.apply(&policy).await?;
        says(world, "False PodsChanged", &["Policy shop-dev/swap"]).await?;
        world.kubectl(&["delete", "policies.kyverno.io", "swap", "-n", NAMESPACE]).await?;
        let text = world.wait_for_condition("shop", "EnforcementComplete", "Unknown").await?;
        world.do_as_told(&text).await?;
        is_complete(world).await?;

        // The same where the right is withdrawn while the operator watches: that is heard
        // at the next watch.
        for what in ["rolebinding", "role"] {
            let delete = ["delete", what, "signingkeyring-kyverno-access", "-n=kyverno"];
            world.kubectl(&delete).await?;
        }
        shared.cluster.stop("kube-apiserver").await?;
        shared.cluster.start_again("kube-apiserver").await?;
        let text = world.wait_for_condition("shop", "EnforcementComplete", "Unknown NotSeen");
        let text = text.await?;
        world.do_as_told(&text).await?;
        is_complete(world).await?;

        // It is logged when that begins, both times, and not with each attempt.
        let log = log()?;
        let refused = |line: &&str| line.contains("configmaps \"kyverno\" is forbidden");
        let refused: Vec<&str> = log.lines().skip(lines_before).filter(refused).collect();
        ensure!(refused.len() == 2, "{refused:?}");
        Ok(())
    });
}
