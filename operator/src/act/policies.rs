//! The policies, and what goes with them: created, replaced and deleted as a whole.
//!
//! A replacement rather than a server-side apply, because every field of the
//! spec decides what is verified: one that somebody added (matchConditions,
//! an exclude block) has to go, and apply would leave it.

use kube::{
    Resource, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
    core::{ApiResource, DynamicObject, ObjectMeta, TypeMeta},
};
use serde_json::{Value, json};
use signingkeyring_core::{
    names,
    policy::{Content, Part, Rendered, Source, unknown::CoverContent},
    policy_ref::{PolicyKind, PolicyRef},
};
use tracing::info;

use crate::{
    context::Context,
    error::{Error, is_code},
    kyverno::{self, Object, resource},
    observe::{Companion, ObservedPolicy, ObservedUnknown},
};

/// Creates a policy, or replaces the one that was found. A dry run only asks
/// whether that would be accepted.
///
/// # Errors
/// If it changed since it was found, or Kyverno or the API server refuses.
pub async fn write(
    context: &Context,
    observed: &ObservedPolicy,
    content: &Content,
    dry_run: bool,
) -> Result<Object, Error> {
    let rendered = compose(context, observed, content)?;
    put_policy(context, observed.snapshot.policy, observed.object.as_deref(), rendered, dry_run)
        .await
}

/// The same of a write that only takes keys out, with all else as it was found. Nothing
/// if that is no other write than [`write()`] makes.
///
/// # Errors
/// As of [`write()`].
pub async fn write_in_place(
    context: &Context,
    observed: &ObservedPolicy,
    content: &Content,
) -> Option<Result<Object, Error>> {
    let policy = observed.snapshot.policy;
    let found = observed.spec(&Source::Found)?;
    let rendered = observed.backend(context).compose_in_place(content, found)?;
    Some(put_policy(context, policy, observed.object.as_deref(), rendered, false).await)
}

/// Writes what goes with a policy as it is to be, and as it stands until then.
///
/// # Errors
/// As of [`write()`].
pub async fn write_companion_before(
    context: &Context,
    observed: &ObservedPolicy,
    content: &Content,
) -> Result<(), Error> {
    let spec = compose(context, observed, content)?.spec;
    settle_companion(context, observed.companion_before(context, &spec)).await.map(drop)
}

/// Brings what goes with a policy to where it should be. Returns it if somebody else had
/// edited or deleted what this process wrote.
///
/// # Errors
/// As of [`write()`].
pub async fn settle_companion(
    context: &Context,
    companion: Companion,
) -> Result<Option<DynamicObject>, Error> {
    let kind = kyverno::companions();
    match companion {
        Companion::AsItShouldBe => Ok(None),
        Companion::Foreign(name) => Err(Error::Foreign(format!("{} {name}", kind.kind))),
        Companion::Leaves(found) => delete_object(context, &kind, &found).await.map(|()| None),
        Companion::Differs { policy, name, found, wanted } => {
            let sent = Part::of(&wanted.spec).digest;
            let object = put(context, &kind, name, found.as_deref(), wanted, false).await?;
            let stored = Part::of(object.data.get("spec").unwrap_or(&Value::Null)).digest;
            let before = context.cache.written.record_companion(policy, sent, stored);
            info!(%policy, kind = kind.kind, "policy's companion written");
            Ok((before == Some((sent, stored))).then_some(object))
        }
    }
}

fn compose(
    context: &Context,
    observed: &ObservedPolicy,
    content: &Content,
) -> Result<Rendered, Error> {
    let policy = observed.snapshot.policy;
    observed
        .backend(context)
        .compose(content, |source| observed.spec(source))
        .ok_or_else(|| Error::Conflict(format!("{} {policy}", policy.kind().as_str())))
}

/// Creates the policy for namespaces whose label names no ring, or replaces the
/// one that was found.
///
/// # Errors
/// If it changed since it was found, or Kyverno or the API server refuses.
pub async fn write_unknown(
    context: &Context,
    observed: &ObservedUnknown,
    content: &CoverContent,
) -> Result<Object, Error> {
    let rendered = observed.backend(context).render_cover(content);
    put_policy(context, observed.snapshot.policy, observed.object.as_deref(), rendered, false).await
}

/// Creates or replaces a policy; returns it as it is kept.
async fn put_policy(
    context: &Context,
    policy: PolicyRef,
    found: Option<&Object>,
    rendered: Rendered,
    dry_run: bool,
) -> Result<Object, Error> {
    let kind = policy.kind();
    let stored =
        put(context, &resource(kind), policy.to_string(), found, rendered, dry_run).await?;
    Ok(Object::new(Some(kind), &stored, found))
}

async fn put(
    context: &Context,
    kind: &ApiResource,
    name: String,
    found: Option<&Object>,
    rendered: Rendered,
    dry_run: bool,
) -> Result<DynamicObject, Error> {
    let mut metadata = found.map_or_else(
        || ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        |found| found.meta().clone(),
    );
    metadata.managed_fields = None;
    metadata.annotations.get_or_insert_default().extend(rendered.annotations);
    metadata.labels.get_or_insert_default().extend(rendered.labels);
    let object = DynamicObject {
        types: Some(TypeMeta { api_version: kind.api_version.clone(), kind: kind.kind.clone() }),
        metadata,
        data: json!({"spec": rendered.spec}),
    };
    let params = PostParams { dry_run, field_manager: Some(names::MANAGER.to_owned()) };
    let api = kyverno::api(context.client.clone(), kind);
    let result = match found {
        Some(_) => api.replace(&name, &params, &object).await,
        None => api.create(&params, &object).await,
    };
    result.map_err(|error| Error::api(format!("{} {name}", kind.kind), error))
}

/// Deletes a policy in which nothing is left.
///
/// # Errors
/// If it changed since it was found, or Kyverno or the API server refuses.
pub async fn delete(context: &Context, kind: PolicyKind, found: &Object) -> Result<(), Error> {
    delete_object(context, &resource(kind), found).await
}

async fn delete_object(context: &Context, kind: &ApiResource, found: &Object) -> Result<(), Error> {
    let name = found.name_any();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: found.uid(),
            resource_version: found.resource_version(),
        }),
        ..DeleteParams::default()
    };
    match kyverno::api(context.client.clone(), kind).delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_code(&error, 404) => Ok(()),
        Err(error) => Err(Error::api(format!("{} {name}", kind.kind), error)),
    }
}
