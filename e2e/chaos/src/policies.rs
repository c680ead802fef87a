//! Kyverno's policies: deleted and edited by hand.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use signingkeyring_e2e_observer::marks::{self, Marks};

use super::{disturbances::Scope, run::Run, wait::wait};

/// How long the operator may be away before it undoes something.
const PATIENCE: Duration = Duration::from_secs(90);

/// What somebody does to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Deletes it.
    Delete,
    /// Takes a ring's rule out.
    DropRule,
    /// Lets every image pass.
    ExcludeAll,
    /// Takes the newest key of a ring out.
    DropKey,
    /// Refuses nothing any more.
    Audit,
    /// Adds a label of its own: no harm, and to stay without effect.
    Label,
    /// Applies what is there, so that its fields are another's as well: the same.
    Same,
}

/// How somebody writes a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Replaces what was read, unless it has changed since.
    Replace,
    /// Applies what was read, over whatever is there by now.
    Apply,
}

impl Edit {
    /// What the table calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delete => "policy deleted",
            Self::Same => "policy applied unchanged",
            _ => "policy edited",
        }
    }
}

/// Edits a policy, and waits until that is undone.
///
/// # Errors
/// If the policy cannot be read or written, such as while Kyverno is away.
pub async fn edit(run: &Run, policy: &str, edit: Edit, way: Way) -> Result<()> {
    let api = api(run);
    let mut object = api.get(policy).await?;
    let scope = Scope::Policy(policy.to_owned());
    if edit == Edit::Label {
        object.labels_mut().insert("chaos".to_owned(), "was-here".to_owned());
        api.replace(policy, &PostParams::default(), &object).await?;
        run.journal.fault(edit.name(), &format!("{policy} {edit:?}"));
        return Ok(());
    }
    if edit == Edit::Same {
        // With the version that was read: what is applied is what is there.
        let version = object.resource_version().context("no version")?;
        apply(&api, policy, &object, Some(version)).await?;
        run.journal.fault(edit.name(), policy);
        return Ok(());
    }
    run.facts.disturb(scope.clone());
    let result = change(&api, policy, object, edit, way).await;
    let edited = result.as_ref().ok().cloned();
    if edited.is_some() {
        run.journal.fault(edit.name(), &format!("{policy} {edit:?} {way:?}"));
    }
    let took =
        wait(PATIENCE, async || restored(&api, policy, edited.as_ref()).await.is_some()).await;
    match (took, &edited) {
        (Some(took), Some(_)) => {
            run.journal.took("a policy deleted or edited until the operator wrote it", took);
        }
        (Some(_), None) => {}
        // It stays a disturbance: nobody knows what stands there.
        (None, _) => bail!("{policy} {edit:?} is not undone"),
    }
    // Whatever was written: what counts is that Kyverno shows something newer.
    let marks = restored(&api, policy, edited.as_ref()).await.unwrap_or_default();
    run.facts.restored(scope, Some(marks));
    result.map(|_| ())
}

/// The object as somebody left it.
#[derive(Clone, Debug)]
struct Edited {
    uid: Option<String>,
    /// Nothing if it was deleted.
    spec: Option<Value>,
}

async fn change(
    api: &Api<DynamicObject>,
    policy: &str,
    mut object: DynamicObject,
    edit: Edit,
    way: Way,
) -> Result<Edited> {
    let uid = object.uid();
    if edit == Edit::Delete {
        api.delete(policy, &DeleteParams::default()).await?;
        return Ok(Edited { uid, spec: None });
    }
    let rules = object.data["spec"]["rules"].as_array_mut().context("no rules")?;
    let of_a_ring = rules.iter().position(|rule| rule.get("verifyImages").is_some());
    let index = of_a_ring.context("no ring's rule")?;
    if edit == Edit::DropRule {
        rules.remove(index);
    } else {
        let verify = rules.get_mut(index).and_then(|rule| rule["verifyImages"].get_mut(0));
        weaken(verify.context("nothing is verified")?, edit);
    }
    let stored = match way {
        Way::Replace => api.replace(policy, &PostParams::default(), &object).await?,
        Way::Apply => apply(api, policy, &object, None).await?,
    };
    Ok(Edited { uid, spec: Some(stored.data["spec"].clone()) })
}

/// Applies an object's spec by force; with a version, only over that.
async fn apply(
    api: &Api<DynamicObject>,
    policy: &str,
    object: &DynamicObject,
    version: Option<String>,
) -> Result<DynamicObject> {
    let mut body = json!({
        "apiVersion": "kyverno.io/v1",
        "kind": "ClusterPolicy",
        "metadata": {"name": policy},
        "spec": object.data["spec"],
    });
    if let Some(version) = version {
        body["metadata"]["resourceVersion"] = json!(version);
    }
    let params = PatchParams::apply("chaos").force();
    Ok(api.patch(policy, &params, &Patch::Apply(body)).await?)
}

/// The marks that a policy has once it is not any more as somebody left it.
async fn restored(
    api: &Api<DynamicObject>,
    policy: &str,
    edited: Option<&Edited>,
) -> Option<Marks> {
    let object = api.get_opt(policy).await.ok()??;
    let is_back = edited.is_none_or(|edited| match &edited.spec {
        Some(spec) => object.data["spec"] != *spec,
        None => object.uid() != edited.uid,
    });
    let held = object.annotations().get(marks::ANNOTATION).map(|text| Marks::parse(text));
    held.filter(|_| is_back)?.ok()
}

fn weaken(verify: &mut Value, edit: Edit) {
    match edit {
        Edit::ExcludeAll => verify["skipImageReferences"] = json!(["*"]),
        Edit::Audit => {
            verify["failureAction"] = json!("Audit");
            verify["mutateDigest"] = json!(false);
        }
        _ => {
            if let Some(entries) = verify["attestors"][0]["entries"].as_array_mut()
                && entries.len() > 1
            {
                entries.remove(0);
            }
        }
    }
}

fn api(run: &Run) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("kyverno.io", "v1", "ClusterPolicy");
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusterpolicies");
    Api::all_with(run.client.clone(), &resource)
}
