//! What is attacked: a ring that enforces, and how an admin of its namespaces tries
//! to have an image run there that nobody signed.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};
use tokio::time::{Instant, sleep};

use crate::{
    said::Said,
    users::{TENANT, bind, tenant_of},
};

/// The annotation with Kyverno's notes of ClusterPolicies.
pub const NOTE: &str = "kyverno.io/verify-images-scoped";
/// The annotation that Kyverno has a name for, where ImageValidatingPolicies would
/// have theirs.
pub const OUTCOMES: &str = "kyverno.io/image-verification-outcomes";

/// The ring of a kind that is attacked.
pub const fn ring_of(kind: Kind) -> &'static str {
    match kind {
        Kind::ClusterPolicy => "prey",
        Kind::ImageValidatingPolicy => "quarry",
    }
}

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
    pub kind: Kind,
    pub ring: &'static str,
    /// Its enrolled namespace.
    pub namespace: String,
    pub tenant: Client,
    signed: String,
    pub unsigned: String,
    pub policy: String,
}

impl<'a> Prey<'a> {
    /// Makes the ring, and images that it does and does not accept.
    pub async fn new(world: &'a World, kind: Kind) -> Result<Self> {
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: guarded}}").await?;
        bind(world).await?;
        let ring = ring_of(kind);
        world.apply(&namespaces(ring)).await?;
        let of_kind = format!("  policy: {{kind: {}}}\n", kind.as_str());
        world.apply(&manifest(ring, &of_kind)).await?;
        world.wait_for_condition(ring, "Ready", "True").await?;
        let signed = world.push(&format!("{ring}/app"), "v1").await?;
        world.sign(&signed, &format!("{ring}-ci/image-signing")).await?;
        let unsigned = world.push(&format!("{ring}/unsigned"), "v1").await?;
        let namespace = format!("{ring}-dev");
        world.wait_until_admitted(&namespace, &signed).await?;
        world.wait_until_refused(&namespace, &unsigned).await?;
        tenant_of(world, &namespace).await?;
        let policy = world.ring(ring, "{.status.policy.name}").await?;
        let tenant = TENANT.client(world).await?;
        Ok(Self { world, kind, ring, namespace, tenant, signed, unsigned, policy })
    }

    /// A Policy's name for what the ring's images are verified by, as a note has it.
    fn noted(&self) -> String {
        match self.kind {
            Kind::ClusterPolicy => format!("/{}", self.policy),
            // It has none; what was one before the ring's kind changed.
            Kind::ImageValidatingPolicy => "/signing-enforce-0001".to_owned(),
        }
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
        let label = format!("signing.odj.cloud/ring={}", self.ring);
        self.world.kubectl(&["label", "namespace", namespace, &label]).await?;
        self.world.wait_until_refused(namespace, &self.unsigned).await
    }

    fn note(&self) -> String {
        let rules = json!({self.ring: {&self.unsigned: "pass"}});
        json!({"version": 1, "policies": {self.noted(): rules}}).to_string()
    }

    /// A note for every rule of the ring of today.
    pub async fn whole_note(&self) -> Result<String> {
        let Kind::ClusterPolicy = self.kind else { return Ok(self.note()) };
        let rules = self.world.rules(&self.policy, self.ring).await?;
        let names = rules.iter().filter_map(|rule| rule["name"].as_str());
        let rules: serde_json::Map<String, Value> =
            names.map(|name| (name.to_owned(), json!({&self.unsigned: "pass"}))).collect();
        Ok(json!({"version": 1, "policies": {self.noted(): rules}}).to_string())
    }

    /// What would be believed if outcomes of ImageValidatingPolicies were.
    pub fn outcomes(&self) -> String {
        let passed = json!({"name": self.policy, "status": "pass", "ruleType": "ImageVerify"});
        json!({&self.policy: passed, &self.unsigned: "pass"}).to_string()
    }

    /// A Policy that swaps the image, with what Kyverno's validating half might believe.
    ///
    /// Where images are verified before, it changes a Pod twice: first so that Kyverno
    /// verifies once more.
    pub fn swap(&self, namespace: &str, has_own_webhook: bool) -> Value {
        let pods = json!({"any": [{"resources": {"kinds": ["Pod"], "operations": ["CREATE"]}}]});
        let mut patches = vec![
            json!({"op": "replace", "path": "/spec/containers/0/image", "value": self.unsigned}),
        ];
        let mut rules = vec![json!({"name": "swap", "match": pods})];
        match self.kind {
            Kind::ClusterPolicy => {
                let seen = |value: &str| {
                    json!({"all": [{"key": "{{ request.object.metadata.annotations.\"x.example/seen\" || '' }}",
                        "operator": "Equals", "value": value}]})
                };
                rules[0]["preconditions"] = seen("1");
                rules.push(json!({"name": "mark", "match": pods, "preconditions": seen(""),
                    "mutate": {"patchStrategicMerge": {"metadata": {"annotations": {"x.example/seen": "1", NOTE: "{}"}}}}}));
                patches.extend([
                    json!({"op": "add", "path": "/metadata/annotations/kyverno.io~1verify-images-scoped", "value": self.note()}),
                    json!({"op": "add", "path": "/metadata/annotations/x.example~1seen", "value": "2"}),
                ]);
            }
            Kind::ImageValidatingPolicy => {
                let all =
                    json!({"x.example/seen": "2", NOTE: self.note(), OUTCOMES: self.outcomes()});
                patches.push(json!({"op": "add", "path": "/metadata/annotations", "value": all}));
            }
        }
        rules[0]["mutate"] = json!({"patchesJson6902": Value::from(patches).to_string()});
        let mut webhook = json!({"failurePolicy": "Ignore"});
        if has_own_webhook {
            webhook["matchConditions"] = json!([{"name": "all", "expression": "true"}]);
        }
        json!({
            "apiVersion": "kyverno.io/v1", "kind": "Policy",
            "metadata": {"name": "helper", "namespace": namespace,
                "annotations": {"pod-policies.kyverno.io/autogen-controllers": "none"}},
            "spec": {"background": false, "webhookConfiguration": webhook, "rules": rules},
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

    /// What has Kyverno look at no Pod of the namespace for the ring's rules.
    pub fn exception(&self) -> Value {
        let metadata = json!({"name": "helper", "namespace": self.namespace});
        match self.kind {
            Kind::ClusterPolicy => {
                let rules = [format!("{}*", self.ring), "signing-gate*".to_owned()];
                let pods = json!({"resources": {"kinds": ["Pod"], "namespaces": [self.namespace]}});
                json!({
                    "apiVersion": "kyverno.io/v2", "kind": "PolicyException", "metadata": metadata,
                    "spec": {"match": {"any": [pods]},
                        "exceptions": [{"policyName": self.policy, "ruleNames": rules}]},
                })
            }
            // One that the gate does not notice.
            Kind::ImageValidatingPolicy => {
                let here = format!("request.namespace == '{}'", self.namespace);
                json!({
                    "apiVersion": "policies.kyverno.io/v1", "kind": "PolicyException",
                    "metadata": metadata,
                    "spec": {"policyRefs": [{"name": self.policy, "kind": self.kind.as_str()}],
                        "matchConditions": [{"name": "here", "expression": here}]},
                })
            }
        }
    }

    /// A policy that Kyverno takes, and that the API server does not take for a webhook:
    /// it keeps Kyverno from writing any.
    pub fn unwritable(&self) -> Value {
        json!({
            "apiVersion": "policies.kyverno.io/v1", "kind": "NamespacedValidatingPolicy",
            "metadata": {"name": "helper", "namespace": self.namespace},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
                    "operations": ["CREATE"], "resources": ["*", "configmaps"]}]},
                "validations": [{"expression": "true"}],
            },
        })
    }

    /// Whether the tenant may make such a policy.
    pub async fn make(&self, policy: &Value) -> Result<Said> {
        let text = |path: &str| policy.pointer(path).and_then(Value::as_str).context("a text");
        let (group, version) = text("/apiVersion")?.split_once('/').context("a group")?;
        let kind = text("/kind")?;
        let plural = match kind.to_lowercase() {
            kind if kind.ends_with('y') => format!("{}ies", &kind[..kind.len() - 1]),
            kind => format!("{kind}s"),
        };
        let kind = GroupVersionKind::gvk(group, version, kind);
        let kind = ApiResource::from_gvk_with_plural(&kind, &plural);
        let namespace = text("/metadata/namespace")?;
        let api: Api<DynamicObject> = Api::namespaced_with(self.tenant.clone(), namespace, &kind);
        let object = serde_json::from_value(policy.clone())?;
        Said::of(api.create(&PostParams::default(), &object).await)
    }

    /// Has the tenant create Pods of the signed image until one has got another, and is
    /// stored or refused.
    pub async fn run_swapped(&self, namespace: &str) -> Result<Outcome> {
        let pods: Api<Pod> = Api::namespaced(self.tenant.clone(), namespace);
        let pod = self.pod("swapped-")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        while Instant::now() < deadline {
            let stored = pods.create(&PostParams::default(), &pod).await;
            if let Some(outcome) = self.outcome(&stored) {
                return Ok(outcome);
            }
            sleep(Duration::from_millis(300)).await;
        }
        bail!("no Pod's image was swapped")
    }

    /// What came of a Pod whose image a policy swaps; nothing if it was not swapped.
    pub fn outcome(&self, stored: &Result<Pod, kube::Error>) -> Option<Outcome> {
        match stored {
            Ok(pod) => self.is_swapped(pod).then_some(Outcome::Unsigned),
            Err(error) => self.refuses(error).then_some(Outcome::Fails),
        }
    }

    /// Whether it is the ring's policy that refuses a Pod, for the unsigned image.
    fn refuses(&self, error: &kube::Error) -> bool {
        let kube::Error::Api(status) = error else { return false };
        let has = |words: &str| status.message.contains(words);
        has(self.kind.unsigned()) && has(&self.unsigned)
    }

    /// A Pod of the signed image.
    pub fn pod(&self, prefix: &str) -> Result<Pod> {
        Ok(serde_json::from_value(json!({"metadata": {"generateName": prefix},
            "spec": {"containers": [{"name": "c", "image": self.signed}]}}))?)
    }

    /// Whether a Pod has got the unsigned image instead.
    fn is_swapped(&self, pod: &Pod) -> bool {
        let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
        containers.into_iter().any(|container| container.image.as_ref() == Some(&self.unsigned))
    }

    /// A Pod of the unsigned image behind a scheduling gate.
    pub fn gated(&self, name: &str, (note, text): (&str, &str)) -> Result<Pod> {
        Ok(serde_json::from_value(json!({
            "metadata": {"name": name, "annotations": {note: text}},
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
            Err(error) if self.refuses(&error) => Ok(Outcome::Fails),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an unsigned image would run in the enrolled namespace.
    pub async fn tried(&self) -> Result<Outcome> {
        let admitted = wait_until("it is admitted", async || {
            let verdict = self.world.admit(&self.namespace, &self.unsigned).await?;
            Ok(verdict == Verdict::Admitted)
        });
        Ok(match tokio::time::timeout(Duration::from_secs(15), admitted).await {
            Ok(Ok(())) => Outcome::Unsigned,
            _ => Outcome::Fails,
        })
    }

    /// Waits until the ring enforces again.
    pub async fn enforces(&self) -> Result<()> {
        self.world.wait_until_refused(&self.namespace, &self.unsigned).await
    }
}
