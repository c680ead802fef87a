//! What administrators and users do in a view.

use anyhow::{Context, Result};
use kube::{
    Api, Client,
    api::{
        ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams,
    },
};
use serde_json::{Value, json};
use signingkeyring_e2e_observer::{
    history::{Id, Kind},
    observer::Observer,
};
use signingkeyring_e2e_testbed::world::DEADLINE;

use super::view::{LABEL, View};

const ACCOUNT: &str = "signingkeyring-operator";

const NAMESPACES: [&str; 7] =
    ["system", "dev", "ci", "ci2", "foreign", "neighbour-dev", "neighbour-ci"];

/// An administrator of one view.
#[derive(Clone)]
pub struct Admin {
    client: Client,
    /// The view.
    pub view: View,
}

impl Admin {
    /// The administrator of a view.
    #[must_use]
    pub fn new(client: Client, view: View) -> Self {
        Self { client, view }
    }

    /// Creates what lasts: namespaces, rights, and objects that are not the
    /// operator's.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn prepare(&self) -> Result<()> {
        for which in NAMESPACES {
            self.namespace(which, None).await?;
        }
        let system = self.view.namespace("system");
        let subject = json!([{
            "kind": "ServiceAccount", "name": ACCOUNT, "namespace": "signing-system",
        }]);
        let rules: Value = self
            .api("Role", Some("signing-system"))?
            .get(ACCOUNT)
            .await
            .context("the operator's Role")?
            .data["rules"]
            .clone();
        self.apply("Role", Some(&system), ACCOUNT, json!({"rules": rules})).await?;
        let group = "rbac.authorization.k8s.io";
        let role = |kind: &str, name: &str| json!({"apiGroup": group, "kind": kind, "name": name});
        let binding = json!({"roleRef": role("Role", ACCOUNT), "subjects": subject});
        self.apply("RoleBinding", Some(&system), ACCOUNT, binding).await?;
        let pipeline = "signingkeyring-pipeline";
        for which in ["ci", "ci2", "foreign", "neighbour-ci"] {
            let binding = json!({"roleRef": role("ClusterRole", pipeline), "subjects": subject});
            let namespace = self.view.namespace(which);
            self.apply("RoleBinding", Some(&namespace), pipeline, binding).await?;
        }
        self.plant().await
    }

    /// Objects that the operator may not touch, one of them where it would
    /// like to write.
    async fn plant(&self) -> Result<()> {
        let foreign = self.view.namespace("foreign");
        let secret = json!({"stringData": {"cosign.key": "theirs"}});
        self.apply("Secret", Some(&foreign), "image-signing", secret).await?;
        let rule = json!({
            "name": "theirs",
            "match": {"any": [{"resources": {"kinds": ["ConfigMap"], "namespaces": [foreign]}}]},
            "validate": {"message": "theirs", "deny": {}},
        });
        let policy = json!({"spec": {"background": false, "rules": [rule]}});
        self.apply("ClusterPolicy", None, &self.foreign_policy(), policy).await?;
        let policy = json!({"spec": {
            "matchConstraints": {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": foreign}},
                "resourceRules": [{
                    "apiGroups": [""],
                    "apiVersions": ["v1"],
                    "operations": ["CREATE"],
                    "resources": ["configmaps"],
                }],
            },
            "images": [{"name": "theirs", "expression": "['theirs']"}],
            "attestors": [],
            "validations": [{"expression": "false", "message": "theirs"}],
        }});
        self.apply("ImageValidatingPolicy", None, &self.foreign_policy(), policy).await
    }

    fn foreign_policy(&self) -> String {
        format!("{}.theirs", self.view.name())
    }

    /// The objects that are not the operator's.
    #[must_use]
    pub fn foreign(&self) -> [Id; 3] {
        let secret = Id {
            kind: Kind::Secret,
            namespace: self.view.namespace("foreign"),
            name: "image-signing".to_owned(),
        };
        let policy = |kind| Id { kind, namespace: String::new(), name: self.foreign_policy() };
        [secret, policy(Kind::ClusterPolicy), policy(Kind::ImageValidatingPolicy)]
    }

    /// Takes away what a run has left and enrols the namespace again.
    ///
    /// # Errors
    /// If something stays.
    pub async fn reset(&self, observer: &Observer) -> Result<()> {
        let (view, ring) = (self.view.name(), self.view.ring());
        let rings = self.api("SigningKeyRing", None)?;
        for ring in [ring, &self.view.neighbour()] {
            if rings.get_opt(ring).await?.is_some() {
                let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
                rings.patch(ring, &PatchParams::default(), &patch).await?;
                rings.delete(ring, &DeleteParams::default()).await.ok();
            }
        }
        let ours = format!("{},app.kubernetes.io/managed-by={ACCOUNT}", self.view.selector());
        for kind in ["ClusterPolicy", "ImageValidatingPolicy", "MutatingPolicy"] {
            self.delete_all(kind, None, &ours).await?;
        }
        self.delete_all("ImageExclusionList", None, &self.view.selector()).await?;
        for which in ["system", "ci", "ci2", "neighbour-ci"] {
            self.delete_all("Secret", Some(&self.view.namespace(which)), "").await?;
        }
        self.namespace("dev", Some(ring)).await?;
        self.namespace("neighbour-dev", None).await?;
        let foreign = self.foreign();
        observer
            .until(view, "an empty view", DEADLINE, |now| {
                let enrolled = now
                    .values()
                    .any(|object| object["metadata"]["labels"]["signing.odj.cloud/ring"] == *ring);
                let clean = |id: &Id| id.kind == Kind::Namespace || foreign.contains(id);
                enrolled && now.keys().all(clean)
            })
            .await?;
        observer.forget(view);
        Ok(())
    }

    /// Creates a namespace, enrolled in the ring or not.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn namespace(&self, which: &str, ring: Option<&str>) -> Result<()> {
        let labels = match ring {
            Some(ring) => json!({"signing.odj.cloud/ring": ring}),
            None => json!({}),
        };
        let name = self.view.namespace(which);
        self.apply("Namespace", None, &name, json!({"metadata": {"labels": labels}})).await
    }

    /// Applies an object: what is given and what names it.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn apply(
        &self,
        kind: &str,
        namespace: Option<&str>,
        name: &str,
        mut object: Value,
    ) -> Result<()> {
        let resource = resource(kind)?;
        object["apiVersion"] = json!(resource.api_version);
        object["kind"] = json!(kind);
        object["metadata"]["name"] = json!(name);
        object["metadata"]["labels"][LABEL] = json!(self.view.name());
        let params = PatchParams::apply("faults-admin").force();
        let patched = self.api(kind, namespace)?.patch(name, &params, &Patch::Apply(object)).await;
        patched.with_context(|| format!("applying {kind} {name}"))?;
        Ok(())
    }

    /// Changes a ring.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn change_ring(&self, ring: &str, change: &Value) -> Result<()> {
        let rings = self.api("SigningKeyRing", None)?;
        let patch = Patch::Merge(change);
        rings.patch(ring, &PatchParams::default(), &patch).await?;
        Ok(())
    }

    /// Deletes a ring.
    ///
    /// # Errors
    /// If the API server refuses.
    pub async fn delete_ring(&self, ring: &str) -> Result<()> {
        let rings = self.api("SigningKeyRing", None)?;
        rings.delete(ring, &DeleteParams::default()).await?;
        Ok(())
    }

    async fn delete_all(&self, kind: &str, namespace: Option<&str>, labels: &str) -> Result<()> {
        let params = ListParams::default().labels(labels);
        let (api, now) = (self.api(kind, namespace)?, DeleteParams::default());
        let deleted = api.delete_collection(&now, &params).await;
        deleted.with_context(|| format!("deleting every {kind}"))?;
        Ok(())
    }

    fn api(&self, kind: &str, namespace: Option<&str>) -> Result<Api<DynamicObject>> {
        let resource = resource(kind)?;
        Ok(match namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        })
    }
}

fn resource(kind: &str) -> Result<ApiResource> {
    let (group, version, plural) = match kind {
        "Namespace" => ("", "v1", "namespaces"),
        "Secret" => ("", "v1", "secrets"),
        "Role" => ("rbac.authorization.k8s.io", "v1", "roles"),
        "RoleBinding" => ("rbac.authorization.k8s.io", "v1", "rolebindings"),
        "ClusterPolicy" => ("kyverno.io", "v1", "clusterpolicies"),
        "ImageValidatingPolicy" => ("policies.kyverno.io", "v1", "imagevalidatingpolicies"),
        "MutatingPolicy" => ("policies.kyverno.io", "v1", "mutatingpolicies"),
        "SigningKeyRing" => ("signing.odj.cloud", "v1alpha1", "signingkeyrings"),
        "ImageExclusionList" => ("signing.odj.cloud", "v1alpha1", "imageexclusionlists"),
        _ => anyhow::bail!("no address for kind {kind}"),
    };
    Ok(ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural))
}
