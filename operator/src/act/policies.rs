//! The ClusterPolicies: created, replaced and deleted as a whole.
//!
//! A replacement rather than a server-side apply, because every field of the
//! spec decides what is verified: one that somebody added (matchConditions,
//! an exclude block) has to go, and apply would leave it.

use kube::{
    ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
    core::{DynamicObject, ObjectMeta, TypeMeta},
};
use serde_json::json;
use signingkeyring_core::{
    names,
    policy::{
        Content,
        cluster_policy::{API_VERSION, Rendered},
        unknown::CoverContent,
    },
    policy_ref::PolicyRef,
};

use crate::{
    context::Context,
    error::{Error, is_code},
    kyverno,
    observe::{ObservedPolicy, ObservedUnknown},
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
) -> Result<DynamicObject, Error> {
    let policy = observed.snapshot.policy;
    let rendered = observed
        .backend(context)
        .compose(content, |source, ring| observed.rules(source, ring))
        .ok_or_else(|| Error::Conflict(format!("{} {policy}", policy.kind().as_str())))?;
    put(context, policy, observed.object.as_deref(), rendered, dry_run).await
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
) -> Result<DynamicObject, Error> {
    let rendered = observed.backend(context).render_cover(content);
    let found = observed.object.as_deref();
    put(context, observed.snapshot.policy, found, rendered, false).await
}

async fn put(
    context: &Context,
    policy: PolicyRef,
    found: Option<&DynamicObject>,
    rendered: Rendered,
    dry_run: bool,
) -> Result<DynamicObject, Error> {
    let name = policy.to_string();
    let mut metadata = found.map_or_else(
        || ObjectMeta { name: Some(name.clone()), ..ObjectMeta::default() },
        |found| found.metadata.clone(),
    );
    metadata.managed_fields = None;
    metadata.annotations.get_or_insert_default().extend(rendered.annotations);
    metadata.labels.get_or_insert_default().extend(rendered.labels);
    let object = DynamicObject {
        types: Some(TypeMeta {
            api_version: API_VERSION.to_owned(),
            kind: policy.kind().as_str().to_owned(),
        }),
        metadata,
        data: json!({"spec": rendered.spec}),
    };
    let params = PostParams { dry_run, field_manager: Some(names::MANAGER.to_owned()) };
    let api = kyverno::api(context.client.clone());
    let result = match found {
        Some(_) => api.replace(&name, &params, &object).await,
        None => api.create(&params, &object).await,
    };
    result.map_err(|error| Error::api(format!("{} {name}", policy.kind().as_str()), error))
}

/// Deletes a policy in which nothing is left.
///
/// # Errors
/// If it changed since it was found, or Kyverno or the API server refuses.
pub async fn delete(context: &Context, found: &DynamicObject) -> Result<(), Error> {
    let name = found.name_any();
    let params = DeleteParams {
        preconditions: Some(Preconditions {
            uid: found.uid(),
            resource_version: found.resource_version(),
        }),
        ..DeleteParams::default()
    };
    match kyverno::api(context.client.clone()).delete(&name, &params).await {
        Ok(_) => Ok(()),
        Err(error) if is_code(&error, 404) => Ok(()),
        Err(error) => Err(Error::api(format!("ClusterPolicy {name}"), error)),
    }
}
