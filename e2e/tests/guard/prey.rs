//! What is attacked: a ring that enforces, and how an admin of its namespaces tries
//! to have an image run there that nobody signed.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    world::{World, wait_until},
};
use tokio::time::{Instant, sleep};

use crate::{
    said::Said,
    users::{TENANT, bind, tenant_of},
};

/// The ring.
pub const RING: &str = "prey";
/// The annotation with Kyverno's notes.
pub const NOTE: &str = "kyverno.io/verify-images-scoped";

/// What an attack comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An image runs that nobody signed.
    Unsigned,
    /// It was tried, and no such image runs.
    Fails,
}

impl Outcome {
    /// As the README says it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unsigned => "an unsigned image runs",
            Self::Fails => "it fails",
        }
    }
}

/// A ring that enforces, and an admin of its namespaces who attacks it.
pub struct Prey<'a> {
    pub world: &'a World,
    pub tenant: Client,
    signed: String,
    pub unsigned: String,
    pub policy: String,
}

impl<'a> Prey<'a> {
    /// Makes the ring, and images that it does and does not accept.
    pub async fn new(world: &'a World) -> Result<Self> {
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
    pub async fn free(&self, namespace: &str) -> Result<()> {
        self.world.kubectl(&["create", "namespace", namespace]).await?;
        tenant_of(self.world, namespace).await?;
        wait_until("its account is there", async || {
            let account = ["serviceaccount", "default", "-n", namespace];
            Ok(self.world.get(&account, "{.kind}").await.is_ok())
        })
        .await
    }

    /// Enrols a namespace, and waits until that counts.
    pub async fn enrol(&self, namespace: &str) -> Result<()> {
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
    pub async fn whole_note(&self) -> Result<String> {
        let rules = self.world.rules(&self.policy, RING).await?;
        let names = rules.iter().filter_map(|rule| rule["name"].as_str());
        let rules: serde_json::Map<String, Value> =
            names.map(|name| (name.to_owned(), json!({&self.unsigned: "pass"}))).collect();
        let policy = format!("/{}", self.policy);
        Ok(json!({"version": 1, "policies": {policy: rules}}).to_string())
    }

    /// A Policy that changes a Pod twice: first so that Kyverno verifies once
    /// more, then the image and the note that its other half believes.
    pub fn swap(&self, namespace: &str, has_own_webhook: bool) -> Value {
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

    /// The same by Kyverno's newer kind, without the note.
    pub fn swap_of_new_kind(&self, namespace: &str) -> Value {
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

    /// What has Kyverno look at no Pod of a namespace for the ring's rules.
    pub fn exception(&self, namespace: &str) -> Value {
        let rules = [format!("{RING}*"), "signing-gate*".to_owned()];
        let pods = json!({"any": [{"resources": {"kinds": ["Pod"], "namespaces": [namespace]}}]});
        json!({
            "apiVersion": "kyverno.io/v2", "kind": "PolicyException",
            "metadata": {"name": "helper", "namespace": namespace},
            "spec": {"match": pods,
                "exceptions": [{"policyName": self.policy, "ruleNames": rules}]},
        })
    }

    /// Whether the tenant may make such a policy.
    pub async fn make(&self, policy: &Value) -> Result<Said> {
        let (kind, plural) = match policy["kind"].as_str().context("a kind")? {
            "Policy" => (GroupVersionKind::gvk("kyverno.io", "v1", "Policy"), "policies"),
            "PolicyException" => {
                (GroupVersionKind::gvk("kyverno.io", "v2", "PolicyException"), "policyexceptions")
            }
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
    pub async fn run_swapped(&self, namespace: &str) -> Result<Outcome> {
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

    /// A Pod of the unsigned image behind a scheduling gate.
    pub fn gated(&self, name: &str, note: &str) -> Result<Pod> {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {NOTE: note}},
            "spec": {"schedulingGates": [{"name": "x.example/wait"}],
                "containers": [{"name": "c", "image": self.unsigned}]},
        }))?)
    }

    /// Has the tenant take a Pod's scheduling gate off.
    pub async fn release(&self, namespace: &str, name: &str) -> Result<Outcome> {
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
    pub async fn unsigned_in(&self, namespace: &str) -> Result<Outcome> {
        let admitted = wait_until("it is admitted", async || {
            let verdict = self.world.admit(namespace, &self.unsigned).await?;
            Ok(verdict == Verdict::Admitted)
        });
        Ok(match tokio::time::timeout(Duration::from_secs(15), admitted).await {
            Ok(Ok(())) => Outcome::Unsigned,
            _ => Outcome::Fails,
        })
    }
}
