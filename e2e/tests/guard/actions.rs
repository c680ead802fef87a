//! What somebody tries, by the API server's own verbs and by kubectl.

use anyhow::{Context, Result};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::world::World;

use crate::{said::Said, users::User};

pub mod enrolment;
mod kubectl;
pub mod kyverno;
pub mod notes;
pub mod operators;
pub mod rings;
mod undo;

/// How it is tried.
#[derive(Clone, Debug)]
pub enum Verb {
    /// By `POST`.
    Create(Value),
    /// By a merge patch, perhaps of a subresource.
    Patch(&'static str, Value),
    /// By server-side apply, as GitOps controllers do.
    Apply(Value),
    /// By `PUT` of what is there with a change, perhaps of a subresource.
    Replace(&'static str, Value),
    /// By `POST` to a subresource.
    Post(&'static str, Value),
    /// By `DELETE`.
    Delete,
    /// By `DELETE` of all that have the label `guarded: collection`.
    DeleteAll,
}

/// What somebody tries.
#[derive(Clone, Debug)]
pub struct Action {
    /// As the table names it.
    pub what: &'static str,
    /// Group, version, kind and resource.
    pub kind: (&'static str, &'static str, &'static str, &'static str),
    /// The object's namespace; empty if it has none.
    pub namespace: &'static str,
    /// The object.
    pub name: String,
    /// How.
    pub verb: Verb,
    /// Who may.
    pub yes: &'static [User],
    /// Whom the guard refuses; all others have no such right at all.
    pub guard: &'static [User],
    /// On what it is tried.
    pub on: On,
}

/// On what an action is tried, and what becomes of that.
#[derive(Clone, Debug)]
pub enum On {
    /// What is there, or is not: it is put back as it was.
    WhatIsThere,
    /// An object of another name for each try, because it takes long to be gone. It is
    /// there before if there is a body.
    AnotherEachTime(Option<Value>),
    /// What can be lost only once: what is allowed is tried in dry runs alone.
    WhatIsNeeded,
}

/// Kinds.
pub const NAMESPACE: (&str, &str, &str, &str) = ("", "v1", "Namespace", "namespaces");
pub const POD: (&str, &str, &str, &str) = ("", "v1", "Pod", "pods");
pub const SECRET: (&str, &str, &str, &str) = ("", "v1", "Secret", "secrets");
pub const RING: (&str, &str, &str, &str) =
    ("signing.odj.cloud", "v1alpha1", "SigningKeyRing", "signingkeyrings");
pub const CLUSTER_POLICY: (&str, &str, &str, &str) =
    ("kyverno.io", "v1", "ClusterPolicy", "clusterpolicies");
pub const IMAGE_VALIDATING: (&str, &str, &str, &str) =
    ("policies.kyverno.io", "v1", "ImageValidatingPolicy", "imagevalidatingpolicies");
pub const MUTATING: (&str, &str, &str, &str) =
    ("policies.kyverno.io", "v1", "MutatingPolicy", "mutatingpolicies");
pub const POLICY: (&str, &str, &str, &str) = ("kyverno.io", "v1", "Policy", "policies");

impl Action {
    fn resource(&self) -> ApiResource {
        let (group, version, kind, plural) = self.kind;
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural)
    }

    fn api(&self, client: Client) -> Api<DynamicObject> {
        match self.namespace {
            "" => Api::all_with(client, &self.resource()),
            namespace => Api::namespaced_with(client, namespace, &self.resource()),
        }
    }

    /// A whole manifest of what is in a body.
    fn whole(&self, body: &Value) -> Value {
        let mut whole = body.clone();
        let (group, version, kind, _) = self.kind;
        let version = if group.is_empty() { version.into() } else { format!("{group}/{version}") };
        whole["apiVersion"] = json!(version);
        whole["kind"] = json!(kind);
        if whole["metadata"]["generateName"].is_null() {
            whole["metadata"]["name"] = json!(self.name);
        }
        if !self.namespace.is_empty() {
            whole["metadata"]["namespace"] = json!(self.namespace);
        }
        whole
    }

    /// Tries it as a controller does, by the API server's verbs.
    pub async fn ask(&self, world: &World, client: &Client, dry_run: bool) -> Result<Said> {
        let api = self.api(client.clone());
        let post = PostParams { dry_run, field_manager: None };
        let patch = PatchParams { dry_run, ..PatchParams::default() };
        let delete = DeleteParams { dry_run, ..DeleteParams::default() };
        match &self.verb {
            Verb::Create(body) => {
                Said::of(api.create(&post, &serde_json::from_value(self.whole(body))?).await)
            }
            Verb::Patch("", body) => {
                Said::of(api.patch(&self.name, &patch, &Patch::Merge(body)).await)
            }
            Verb::Patch(sub, body) => {
                Said::of(api.patch_subresource(sub, &self.name, &patch, &Patch::Merge(body)).await)
            }
            Verb::Apply(body) => {
                let apply = PatchParams { dry_run, ..PatchParams::apply("gitops").force() };
                Said::of(api.patch(&self.name, &apply, &Patch::Apply(self.whole(body))).await)
            }
            Verb::Replace(sub, change) => {
                let whole = self.changed(world, change).await?;
                Said::of(api.replace_subresource(sub, &self.name, &post, &whole).await)
            }
            Verb::Post(sub, body) => {
                let answer: Result<Value, _> =
                    api.create_subresource(sub, &self.name, &post, body).await;
                Said::of(answer)
            }
            Verb::Delete => Said::of(api.delete(&self.name, &delete).await),
            Verb::DeleteAll => {
                let all = ListParams::default().labels("guarded=collection");
                Said::of(api.delete_collection(&delete, &all).await)
            }
        }
    }

    /// What is there with a change, read as somebody who may.
    async fn changed(&self, world: &World, change: &Value) -> Result<Value> {
        let there = self.look(world).await?.context("it is not there")?;
        let mut whole = serde_json::to_value(there)?;
        merge(&mut whole, change);
        Ok(whole)
    }

    /// What a user is to be told.
    pub fn expected(&self, user: User) -> Said {
        match (self.yes.contains(&user), self.guard.contains(&user)) {
            (true, _) => Said::Yes,
            (_, true) => Said::Guard,
            _ => Said::Rbac,
        }
    }

    /// What is there now.
    pub async fn look(&self, world: &World) -> Result<Option<DynamicObject>> {
        Ok(self.api(world.client().await?).get_opt(&self.name).await?)
    }
}

/// Merges a change into an object, as a merge patch does.
fn merge(whole: &mut Value, change: &Value) {
    match (whole, change) {
        (Value::Object(whole), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    whole.remove(key);
                } else {
                    merge(whole.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
        }
        (whole, change) => *whole = change.clone(),
    }
}

/// An annotation, as a patch.
pub fn annotated(key: &str, value: &str) -> Value {
    json!({"metadata": {"annotations": {key: value}}})
}

/// The rules of a policy that does nothing.
pub fn rules() -> Value {
    json!([{"name": "r", "match": {"any": [{"resources": {"kinds": ["ConfigMap"]}}]},
        "validate": {"failureAction": "Audit", "message": "m", "pattern": {"metadata": {"name": "?*"}}}}])
}

/// The specs of an ImageValidatingPolicy and of a MutatingPolicy for nobody's namespaces.
pub fn for_nobody() -> [Value; 2] {
    let constraints = json!({
        "namespaceSelector": {"matchLabels": {"guarded": "nobody"}},
        "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
            "resources": ["configmaps"]}],
    });
    let expression = r#"Object{metadata: Object.metadata{labels: Object.metadata.labels{x: "y"}}}"#;
    let key = json!({"name": "a", "cosign": {"key": {"data": "x"}}});
    [
        json!({"matchConstraints": constraints, "attestors": [key],
            "validations": [{"expression": "true"}]}),
        json!({"matchConstraints": constraints, "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]}),
    ]
}

/// An action that is tried in a dry run and for good.
fn action(
    what: &'static str,
    kind: (&'static str, &'static str, &'static str, &'static str),
    (namespace, name): (&'static str, &'static str),
    verb: Verb,
    yes: &'static [User],
    guard: &'static [User],
) -> Action {
    Action { what, kind, namespace, name: name.to_owned(), verb, yes, guard, on: On::WhatIsThere }
}

/// One that is tried on something else.
fn on(on: On, action: Action) -> Action {
    Action { on, ..action }
}
