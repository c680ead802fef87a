//! What becomes of the objects on which actions are tried.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use anyhow::{Context, Result};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, ObjectMeta, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::world::{World, wait_until};

use super::{Action, On, RING, Verb};

/// How many objects were named for one try alone.
static NAMED: AtomicUsize = AtomicUsize::new(0);

/// The label of what the operator made.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

impl Action {
    /// The action on what it is to be tried on this time.
    pub async fn this_time(&self, world: &World) -> Result<Self> {
        let mut action = self.clone();
        if let On::AnotherEachTime(body) = &self.on {
            action.name = format!("{}-{}", self.name, NAMED.fetch_add(1, Relaxed));
            if let Some(body) = body {
                world.apply(&action.whole(body).to_string()).await?;
            }
        }
        Ok(action)
    }

    /// Puts back what was there before a try.
    pub async fn undo(&self, world: &World, before: Option<&DynamicObject>) -> Result<()> {
        let api = self.api(world.client().await?);
        if let On::AnotherEachTime(_) = self.on {
            return self.take_away(&api).await;
        }
        if let (Verb::Patch("status", _), RING, Some(before)) = (&self.verb, self.kind, before) {
            let patch = Patch::Merge(json!({"status": before.data["status"]}));
            api.patch_status(&self.name, &PatchParams::default(), &patch).await?;
        }
        wait_until("it is as it was before", async || self.put_back(&api, before).await).await
    }

    /// Has what was made for one try go.
    async fn take_away(&self, api: &Api<DynamicObject>) -> Result<()> {
        let generated = match &self.verb {
            Verb::Create(body) => body["metadata"]["generateName"].as_str(),
            _ => None,
        };
        let mut names = vec![self.name.clone()];
        if let Some(prefix) = generated {
            let all = api.list(&ListParams::default()).await?.into_iter();
            let all = all.filter(|it| it.metadata.generate_name.as_deref() == Some(prefix));
            names.extend(all.map(|it| it.name_any()));
        }
        for name in names {
            match api.delete(&name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if [404, 409].contains(&status.code) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Leads to what was there before; returns whether that is done.
    async fn put_back(
        &self,
        api: &Api<DynamicObject>,
        before: Option<&DynamicObject>,
    ) -> Result<bool> {
        let now = api.get_opt(&self.name).await.context("reading what became of it")?;
        match (before, now) {
            (None, None) => return Ok(true),
            (None, Some(_)) => {
                api.delete(&self.name, &DeleteParams::default()).await?;
                return Ok(api.get_opt(&self.name).await?.is_none());
            }
            // The operator does.
            (Some(before), None) if before.labels().contains_key(MANAGED_BY) => return Ok(false),
            (Some(before), None) => {
                let mut whole = before.clone();
                whole.metadata = ObjectMeta {
                    name: before.metadata.name.clone(),
                    namespace: before.metadata.namespace.clone(),
                    ..kept(before)
                };
                api.create(&PostParams::default(), &whole).await?;
            }
            (Some(before), Some(now)) => {
                let of = |object: &DynamicObject| -> Result<Value> {
                    let mut whole = object.data.clone();
                    whole.as_object_mut().context("an object")?.remove("status");
                    whole["metadata"] = serde_json::to_value(kept(object))?;
                    Ok(whole)
                };
                let patch = back(&of(&now)?, &of(before)?);
                let Some(patch) = patch else { return Ok(true) };
                api.patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await?;
            }
        }
        Ok(true)
    }
}

/// What a user may change of an object's metadata.
fn kept(object: &DynamicObject) -> ObjectMeta {
    ObjectMeta {
        annotations: object.metadata.annotations.clone(),
        labels: object.metadata.labels.clone(),
        finalizers: object.metadata.finalizers.clone(),
        owner_references: object.metadata.owner_references.clone(),
        ..ObjectMeta::default()
    }
}

/// The merge patch that leads from one to the other, if they differ.
fn back(now: &Value, before: &Value) -> Option<Value> {
    if now == before {
        return None;
    }
    let (Value::Object(now), Value::Object(before)) = (now, before) else {
        return Some(before.clone());
    };
    let nothing = Value::Null;
    let keys = now.keys().chain(before.keys());
    let differ = keys.filter_map(|key| {
        let [now, before] = [now, before].map(|all| all.get(key).unwrap_or(&nothing));
        Some((key.clone(), back(now, before)?))
    });
    Some(Value::Object(differ.collect()))
}
