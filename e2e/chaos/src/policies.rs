//! Kyverno's policies: deleted and edited by hand.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use serde_json::{Value, json};
use signingkeyring_e2e_observer::{
    marks::{self, Marks},
    parse::pin_of,
};
use signingkeyring_e2e_testbed::kind::Kind;

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
    /// Deletes what pins the tags for it, if its kind has such a thing.
    DeletePin,
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
            Self::DeletePin => "pin deleted",
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
    let api = api(run, policy);
    if edit == Edit::DeletePin {
        return delete_pin(run, policy).await;
    }
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

/// Deletes a policy's pin, and waits until there is one again. No verdict on an image
/// that is named by its digest depends on it.
async fn delete_pin(run: &Run, policy: &str) -> Result<()> {
    if Kind::of(policy) == Kind::ClusterPolicy {
        return Ok(());
    }
    let pin = pin_of(policy).context("it has no pin")?;
    let pins = dynamic(run, "policies.kyverno.io", "MutatingPolicy", "mutatingpolicies");
    let before = pins.get(&pin).await?.uid();
    pins.delete(&pin, &DeleteParams::default()).await?;
    run.journal.fault(Edit::DeletePin.name(), &pin);
    let is_back = async || {
        let found = pins.get_opt(&pin).await.ok().flatten();
        // The rings may have left the policy meanwhile.
        let holds_none = api(run, policy).get_opt(policy).await.is_ok_and(|p| p.is_none());
        holds_none || found.is_some_and(|found| found.uid() != before)
    };
    let took = wait(PATIENCE, is_back).await.with_context(|| format!("{pin} is not back"))?;
    run.journal.took("a pin deleted until the operator wrote it", took);
    Ok(())
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
    let spec = &mut object.data["spec"];
    match Kind::of(policy) {
        Kind::ClusterPolicy => weaken(spec, edit)?,
        Kind::ImageValidatingPolicy => weaken_validating(spec, edit)?,
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
    let kind = Kind::of(policy);
    let mut body = json!({
        "apiVersion": format!("{}/v1", kind.group()),
        "kind": kind.as_str(),
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

fn weaken(spec: &mut Value, edit: Edit) -> Result<()> {
    let rules = spec["rules"].as_array_mut().context("no rules")?;
    let of_a_ring = rules.iter().position(|rule| rule.get("verifyImages").is_some());
    let index = of_a_ring.context("no ring's rule")?;
    if edit == Edit::DropRule {
        rules.remove(index);
        return Ok(());
    }
    let verify = rules.get_mut(index).and_then(|rule| rule["verifyImages"].get_mut(0));
    let verify = verify.context("nothing is verified")?;
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
    Ok(())
}

/// The same for the policies that hold all rings in one rule.
fn weaken_validating(spec: &mut Value, edit: Edit) -> Result<()> {
    let selector = "/matchConstraints/namespaceSelector/matchExpressions/0/values";
    let rings = spec.pointer_mut(selector).and_then(Value::as_array_mut);
    match edit {
        Edit::DropRule => drop(rings.context("it selects nothing")?.remove(0)),
        Edit::ExcludeAll => spec["images"][0]["expression"] = Kind::ImageValidatingPolicy.nothing(),
        Edit::Audit => spec["validationActions"] = json!(["Audit"]),
        _ => {
            let ring = rings.and_then(|rings| rings.first()?.as_str().map(str::to_owned));
            let ring = ring.context("it selects nothing")?;
            let variables = spec["variables"].as_array_mut().context("no variables")?;
            let mut named = variables.iter_mut().filter(|v| v["name"] == "accepted");
            let accepted = &mut named.next().context("no keys")?["expression"];
            let text = accepted.as_str().context("no expression")?;
            // The first of several names behind the ring's.
            let (before, names) = text.split_once(&format!("\"{ring}\":[")).context("no names")?;
            let (of_ring, after) = names.split_once(']').context("no end")?;
            let fewer = of_ring.split_once(',').map_or(of_ring, |(_, others)| others);
            *accepted = json!(format!("{before}\"{ring}\":[{fewer}]{after}"));
        }
    }
    Ok(())
}

/// The policies of the kind that this one's name tells.
pub fn api(run: &Run, policy: &str) -> Api<DynamicObject> {
    let kind = Kind::of(policy);
    dynamic(run, kind.group(), kind.as_str(), kind.plural())
}

fn dynamic(run: &Run, group: &str, kind: &str, plural: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(group, "v1", kind);
    Api::all_with(run.client.clone(), &ApiResource::from_gvk_with_plural(&kind, plural))
}
