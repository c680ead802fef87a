//! What attacks on the check meet, with the guard and without it. The README's
//! table says the same.

use std::{fs, time::Duration};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{
    tools,
    world::{World, wait_until},
};
use tokio::time::{Instant, sleep};

use crate::{
    said::Said,
    turn::{self, in_turn},
    users::{LABELLER, PLATFORM, PODDER, ROTATOR, TENANT, bind, tenant_of},
};

const RING: &str = "prey";
const NOTE: &str = "kyverno.io/verify-images-scoped";

/// What an attack comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// An image runs that nobody signed.
    Unsigned,
    /// It was tried, and no such image runs.
    Fails,
}

impl Outcome {
    /// As the README says it.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "an unsigned image runs",
            Self::Fails => "it fails",
        }
    }
}

/// An attack, as the README names it, and what it comes to where the guard is away.
type Attack = (&'static str, Outcome);

const OWN_WEBHOOK: Attack =
    ("a tenant's `Policy` that swaps the image, by a webhook of its own", Outcome::Unsigned);
const SHARED_WEBHOOK: Attack =
    ("the same by Kyverno's webhook for `failurePolicy: Ignore`", Outcome::Unsigned);
const WAITING: Attack =
    ("the same `Policy`, made before the namespace is enrolled", Outcome::Unsigned);
const NEW_KIND: Attack = ("a tenant's `NamespacedMutatingPolicy`", Outcome::Fails);
const FORGED: Attack =
    ("a Pod with a forged note, behind a scheduling gate until it is enrolled", Outcome::Unsigned);
const BY_STATUS: Attack = ("the same note, written by `pods/status`", Outcome::Unsigned);
const UNLABELLED: Attack = ("the enrolment label is taken off", Outcome::Unsigned);
const EXCLUDED: Attack = ("who may rotate a ring has it exclude the image", Outcome::Unsigned);

const ATTACKS: [Attack; 8] =
    [OWN_WEBHOOK, SHARED_WEBHOOK, WAITING, NEW_KIND, FORGED, BY_STATUS, UNLABELLED, EXCLUDED];

struct Prey<'a> {
    world: &'a World,
    tenant: Client,
    signed: String,
    unsigned: String,
    policy: String,
}

impl<'a> Prey<'a> {
    async fn new(world: &'a World) -> Result<Self> {
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: guarded}}").await?;
        bind(world).await?;
        world.ready_ring(RING).await?;
        let signed = world.push("prey/app", "v1").await?;
        world.sign(&signed, "prey-ci/image-signing").await?;
        let unsigned = world.push("prey/unsigned", "v1").await?;
        world.wait_until_admitted("prey-dev", &signed).await?;
        world.wait_until_refused("prey-dev", &unsigned).await?;
        tenant_of(world, "prey-dev").await?;
        let policy = world.ring(RING, "{.status.policy.name}").await?;
        Ok(Self { world, tenant: TENANT.client(world).await?, signed, unsigned, policy })
    }

    /// A namespace that is not enrolled yet, with a tenant.
    async fn free(&self, namespace: &str) -> Result<()> {
        self.world.kubectl(&["create", "namespace", namespace]).await?;
        tenant_of(self.world, namespace).await?;
        wait_until("its account is there", async || {
            let account = ["serviceaccount", "default", "-n", namespace];
            Ok(self.world.get(&account, "{.kind}").await.is_ok())
        })
        .await
    }

    async fn enrol(&self, namespace: &str) -> Result<()> {
        let label = format!("signing.odj.cloud/ring={RING}");
        self.world.kubectl(&["label", "namespace", namespace, &label]).await?;
        self.world.wait_until_refused(namespace, &self.unsigned).await
    }

    fn note(&self) -> String {
        format!(
            r#"{{"version":1,"policies":{{"/{}":{{"{RING}":{{"{}":"pass"}}}}}}}}"#,
            self.policy, self.unsigned
        )
    }

    /// A note for every rule of the ring of today.
    async fn whole_note(&self) -> Result<String> {
        let rules = self.world.rules(&self.policy, RING).await?;
        let names = rules.iter().filter_map(|rule| rule["name"].as_str());
        let rules: serde_json::Map<String, Value> =
            names.map(|name| (name.to_owned(), json!({&self.unsigned: "pass"}))).collect();
        let policy = format!("/{}", self.policy);
        Ok(json!({"version": 1, "policies": {policy: rules}}).to_string())
    }

    /// A Policy that changes a Pod twice: first so that Kyverno verifies once
    /// more, then the image and the note that its other half believes.
    fn swap(&self, namespace: &str, has_own_webhook: bool) -> Value {
        let seen = |value: &str| {
            json!({"all": [{"key": "{{ request.object.metadata.annotations.\"x.example/seen\" || '' }}",
                "operator": "Equals", "value": value}]})
        };
        let pods = json!({"any": [{"resources": {"kinds": ["Pod"], "operations": ["CREATE"]}}]});
        let swap = json!([
            {"op": "replace", "path": "/spec/containers/0/image", "value": self.unsigned},
            {"op": "add", "path": "/metadata/annotations/kyverno.io~1verify-images-scoped", "value": self.note()},
            {"op": "add", "path": "/metadata/annotations/x.example~1seen", "value": "2"},
        ]);
        let mut webhook = json!({"failurePolicy": "Ignore"});
        if has_own_webhook {
            webhook["matchConditions"] = json!([{"name": "all", "expression": "true"}]);
        }
        json!({
            "apiVersion": "kyverno.io/v1", "kind": "Policy",
            "metadata": {"name": "helper", "namespace": namespace,
                "annotations": {"pod-policies.kyverno.io/autogen-controllers": "none"}},
            "spec": {"background": false, "webhookConfiguration": webhook, "rules": [
                {"name": "swap", "match": pods, "preconditions": seen("1"),
                    "mutate": {"patchesJson6902": swap.to_string()}},
                {"name": "mark", "match": pods, "preconditions": seen(""),
                    "mutate": {"patchStrategicMerge": {"metadata": {"annotations": {"x.example/seen": "1", NOTE: "{}"}}}}},
            ]},
        })
    }

    fn swap_of_new_kind(&self, namespace: &str) -> Value {
        let expression = format!(
            "[JSONPatch{{op: \"replace\", path: \"/spec/containers/0/image\", value: \"{}\"}}]",
            self.unsigned
        );
        json!({
            "apiVersion": "policies.kyverno.io/v1", "kind": "NamespacedMutatingPolicy",
            "metadata": {"name": "helper", "namespace": namespace},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                    "operations": ["CREATE"], "resources": ["pods"]}]},
                "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}],
            },
        })
    }

    /// Whether the tenant may make such a policy.
    async fn make(&self, policy: &Value) -> Result<Said> {
        let (kind, plural) = match policy["kind"].as_str().context("a kind")? {
            "Policy" => (GroupVersionKind::gvk("kyverno.io", "v1", "Policy"), "policies"),
            kind => (
                GroupVersionKind::gvk("policies.kyverno.io", "v1", kind),
                "namespacedmutatingpolicies",
            ),
        };
        let namespace = policy["metadata"]["namespace"].as_str().context("a namespace")?;
        let kind = ApiResource::from_gvk_with_plural(&kind, plural);
        let api: Api<DynamicObject> = Api::namespaced_with(self.tenant.clone(), namespace, &kind);
        let object = serde_json::from_value(policy.clone())?;
        Said::of(api.create(&PostParams::default(), &object).await)
    }

    /// Has the tenant create Pods of the signed image until one is stored with
    /// another, or until that is not to be expected any more.
    async fn run_swapped(&self, namespace: &str) -> Result<Outcome> {
        let pods: Api<Pod> = Api::namespaced(self.tenant.clone(), namespace);
        let pod = json!({"metadata": {"generateName": "swapped-"},
            "spec": {"containers": [{"name": "c", "image": self.signed}]}});
        let deadline = Instant::now() + Duration::from_secs(12);
        while Instant::now() < deadline {
            if let Ok(stored) =
                pods.create(&PostParams::default(), &serde_json::from_value(pod.clone())?).await
            {
                let containers = stored.spec.context("a spec")?.containers;
                if containers[0].image.as_ref() == Some(&self.unsigned) {
                    return Ok(Outcome::Unsigned);
                }
            }
            sleep(Duration::from_millis(300)).await;
        }
        Ok(Outcome::Fails)
    }

    fn gated(&self, name: &str, note: &str) -> Result<Pod> {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {NOTE: note}},
            "spec": {"schedulingGates": [{"name": "x.example/wait"}],
                "containers": [{"name": "c", "image": self.unsigned}]},
        }))?)
    }

    /// Has the tenant take a Pod's scheduling gate off.
    async fn release(&self, namespace: &str, name: &str) -> Result<Outcome> {
        let pods: Api<Pod> = Api::namespaced(self.tenant.clone(), namespace);
        let patch = Patch::Merge(json!({"spec": {"schedulingGates": []}}));
        match pods.patch(name, &PatchParams::default(), &patch).await {
            Ok(_) => Ok(Outcome::Unsigned),
            Err(kube::Error::Api(status)) if status.message.contains("failed to verify image") => {
                Ok(Outcome::Fails)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an unsigned image would run in an enrolled namespace.
    async fn unsigned_in(&self, namespace: &str) -> Result<Outcome> {
        let admitted = wait_until("it is admitted", async || {
            let verdict = self.world.admit(namespace, &self.unsigned).await?;
            Ok(verdict == signingkeyring_e2e_testbed::images::Verdict::Admitted)
        });
        Ok(match tokio::time::timeout(Duration::from_secs(15), admitted).await {
            Ok(Ok(())) => Outcome::Unsigned,
            _ => Outcome::Fails,
        })
    }

    /// Makes each attack. Where the guard is in place each is refused by it at
    /// the first step, and nothing else is tried.
    async fn all(&self, guarded: bool) -> Result<Vec<(Attack, Outcome)>> {
        let mut met = Vec::new();
        let policies = [
            (OWN_WEBHOOK, self.swap("prey-dev", true)),
            (SHARED_WEBHOOK, self.swap("prey-dev", false)),
            (NEW_KIND, self.swap_of_new_kind("prey-dev")),
        ];
        for (attack, policy) in policies {
            let said = self.make(&policy).await.context(attack.0)?;
            ensure!((said == Said::Guard) == guarded, "{}: {said:?}", attack.0);
            if !guarded {
                met.push((attack, self.run_swapped("prey-dev").await?));
                let kinds = "policies.kyverno.io,namespacedmutatingpolicies.policies.kyverno.io";
                self.world.kubectl(&["delete", kinds, "--all", "-n", "prey-dev"]).await?;
                self.world.wait_until_refused("prey-dev", &self.unsigned).await?;
            }
        }

        let [early, waiting] = match guarded {
            true => ["early", "waiting"],
            false => ["early-unguarded", "waiting-unguarded"],
        };
        self.free(early).await?;
        self.free(waiting).await?;
        let said = self.make(&self.swap(early, true)).await?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", WAITING.0);
        let pods: Api<Pod> = Api::namespaced(self.tenant.clone(), waiting);
        let post = PostParams::default();
        let said =
            Said::of(pods.create(&post, &self.gated("forged", &self.whole_note().await?)?).await)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", FORGED.0);
        pods.create(&post, &self.gated("by-status", "{}")?).await?;
        let podder: Api<Pod> = Api::namespaced(PODDER.client(self.world).await?, waiting);
        let note = json!({"metadata": {"annotations": {NOTE: self.whole_note().await?}}});
        let patched =
            podder.patch_status("by-status", &PatchParams::default(), &Patch::Merge(note)).await;
        let said = Said::of(patched)?;
        ensure!((said == Said::Guard) == guarded, "{}: {said:?}", BY_STATUS.0);
        self.enrol(early).await?;
        self.enrol(waiting).await?;
        if guarded {
            // What could be stocked is verified when it is to start.
            ensure!(self.release(waiting, "by-status").await? == Outcome::Fails);
        } else {
            met.push((WAITING, self.run_swapped(early).await?));
            met.push((FORGED, self.release(waiting, "forged").await?));
            met.push((BY_STATUS, self.release(waiting, "by-status").await?));
        }

        let rings: Api<DynamicObject> = Api::all_with(
            ROTATOR.client(self.world).await?,
            &ApiResource::from_gvk_with_plural(
                &GroupVersionKind::gvk("signing.odj.cloud", "v1alpha1", "SigningKeyRing"),
                "signingkeyrings",
            ),
        );
        let (repository, _) = self.unsigned.split_once('@').context("a digest")?;
        let exclude = json!({"spec": {"policy": {"exclude": [{"image": format!("{repository}:*"), "reason": "x"}]}}});
        let patched = rings.patch(RING, &PatchParams::default(), &Patch::Merge(&exclude)).await;
        ensure!((Said::of(patched)? == Said::Guard) == guarded, "{}", EXCLUDED.0);
        if !guarded {
            met.push((EXCLUDED, self.unsigned_in("prey-dev").await?));
            let patch = "--patch={\"spec\":{\"policy\":{\"exclude\":null}}}";
            self.world.kubectl(&["patch", "skr", RING, "--type=merge", patch]).await?;
            self.world.wait_until_refused("prey-dev", &self.unsigned).await?;
        }

        let label = ["label", "namespace", "prey-dev", "signing.odj.cloud/ring-"];
        let who = format!("--as={}", LABELLER.user);
        let answer = self.world.kubectl(&[&label[..], &[&who]].concat()).await;
        if guarded {
            let refused = answer.err().context("the label went")?;
            ensure!(Said::of_words(&format!("{refused:#}"))? == Said::Guard);
        } else {
            answer?;
            met.push((UNLABELLED, self.unsigned_in("prey-dev").await?));
            self.enrol("prey-dev").await?;
        }
        self.world.wait_until_refused("prey-dev", &self.unsigned).await?;
        Ok(met)
    }
}

/// Waits until the guard is in place, or is not any more.
async fn guarded(world: &World, wanted: bool) -> Result<()> {
    let kind = GroupVersionKind::gvk("kyverno.io", "v1", "ClusterPolicy");
    let kind = ApiResource::from_gvk_with_plural(&kind, "clusterpolicies");
    let policies: Api<DynamicObject> = Api::all_with(PLATFORM.client(world).await?, &kind);
    let policy = world.ring(RING, "{.status.policy.name}").await?;
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"a": "b"}}}));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    wait_until(&format!("the guard is in place: {wanted}"), async || {
        let said = Said::of(policies.patch(&policy, &params, &patch).await)?;
        Ok((said == Said::Guard) == wanted)
    })
    .await
}

#[test]
fn each_attack_meets_what_the_readme_says() {
    in_turn(async |shared| {
        let world = &shared.world;
        let prey = Prey::new(world).await?;
        // The ring that rotator may rotate.
        let rotator = [
            "patch",
            "clusterrole",
            "rotates-shop",
            "--type=json",
            "--patch=[{\"op\":\"replace\",\"path\":\"/rules/0/resourceNames\",\"value\":[\"shop\",\"prey\"]}]",
        ];
        world.kubectl(&rotator).await?;
        prey.all(true).await.context("with the guard")?;

        world.kubectl(&["delete", "--kustomize=manifests/guard"]).await?;
        guarded(world, false).await?;
        let met = prey.all(false).await.context("without the guard");
        world.kubectl(&["apply", "--kustomize=manifests"]).await?;
        guarded(world, true).await?;
        let met = met?;

        let readme = fs::read_to_string(tools::root().join("README.md"))?;
        ensure!(met.len() == ATTACKS.len(), "not all were made: {met:?}");
        for (attack, outcome) in met {
            println!("| {} | refused by the guard | {} |", attack.0, outcome.as_str());
            ensure!(outcome == attack.1, "{}: {outcome:?}", attack.0);
            let row = format!("| {} | refused by the guard | {} |", attack.0, outcome.as_str());
            ensure!(readme.contains(&row), "the README has no row {row}");
        }
        Ok(())
    });
}

#[test]
fn the_guard_stands_while_kyverno_and_the_operator_are_down() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: guarded}}").await?;
        bind(world).await?;
        tenant_of(world, "guarded").await?;
        turn::kill(shared).await?;
        shared.cluster.stop("kyverno").await?;
        let policy = json!({
            "apiVersion": "kyverno.io/v1", "kind": "Policy",
            "metadata": {"name": "helper", "namespace": "guarded"}, "spec": {"rules": []},
        })
        .to_string();
        let ring = json!({"metadata": {"labels": {"signing.odj.cloud/ring": "any"}}}).to_string();
        for (user, words, input) in [
            (LABELLER, vec!["patch", "namespace", "guarded", "--patch", &ring], ""),
            (TENANT, vec!["create", "--filename=-"], &policy),
        ] {
            let who = format!("--as={}", user.user);
            let answer = world.run("kubectl", &[&words[..], &[&who]].concat(), &[], input).await;
            let refused = answer.err().with_context(|| format!("{} may", user.name))?;
            ensure!(Said::of_words(&format!("{refused:#}"))? == Said::Guard, "{refused:#}");
        }
        Ok(())
    });
}
