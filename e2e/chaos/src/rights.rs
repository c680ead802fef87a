//! The operator's rights: taken away for a while, and given back.
//!
//! No verdict depends on them: what stands in a policy goes on to hold. What is
//! edited meanwhile is a disturbance of its own, which lasts longer.

use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{
    Api,
    api::{DeleteParams, ObjectMeta, PostParams},
};

use super::{run::Run, wait::wait};

/// How long the API server may be away.
const PATIENCE: Duration = Duration::from_secs(120);

/// The consent of a pipeline namespace's owner.
const CONSENT: &str = "signingkeyring-pipeline";

/// Takes the right to update policies.
///
/// # Errors
/// If it is taken already, or cannot be taken or given back.
pub async fn on_policies(run: &Run, pause: Duration) -> Result<()> {
    let before = run.world.rights().await?;
    let less = before.without_on_policies("update")?;
    // If there is no answer, it may be taken all the same.
    let taken = run.world.set_rights(&less).await;
    run.journal.fault("right on policies withdrawn", &format!("for {pause:?}"));
    run.rest(pause).await;
    let given_back = wait(PATIENCE, async || run.world.set_rights(&before).await.is_ok());
    given_back.await.context("the right on policies could not be given back")?;
    run.journal.note("the right on policies is given back");
    taken
}

/// Takes the rights on Secrets in a pipeline's namespace.
///
/// # Errors
/// If they are taken already, or cannot be taken or given back.
pub async fn on_pipeline(run: &Run, ring: &str, pause: Duration) -> Result<()> {
    let api: Api<RoleBinding> = Api::namespaced(run.client.clone(), &format!("{ring}-ci"));
    let mut consent = api.get(CONSENT).await?;
    consent.metadata = ObjectMeta { name: Some(CONSENT.to_owned()), ..ObjectMeta::default() };
    let taken = api.delete(CONSENT, &DeleteParams::default()).await;
    run.journal.fault("rights on a pipeline withdrawn", &format!("{ring}-ci, for {pause:?}"));
    run.rest(pause).await;
    let given_back =
        wait(PATIENCE, async || match api.create(&PostParams::default(), &consent).await {
            Ok(_) => true,
            Err(kube::Error::Api(status)) => status.code == 409,
            Err(_) => false,
        });
    given_back.await.with_context(|| format!("{ring}-ci: the rights could not be given back"))?;
    run.journal.note(&format!("the rights on {ring}-ci are given back"));
    taken?;
    Ok(())
}
