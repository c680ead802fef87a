//! Secrets: deleted and edited by hand, ledgers among them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, PostParams, Preconditions},
};
use tokio::time::sleep;

use super::{
    random::Random,
    run::{NAMESPACE, Run},
    wait::{wait, wait_to_know},
};

const NAME: &str = "image-signing";

/// What somebody writes where it does not belong.
pub const FOREIGN: &str = "chaos-was-here";

/// What became of a ledger that was to be lost for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LedgerLoss {
    /// It was not deleted: a commit came between.
    Kept,
    /// It was deleted and put back.
    Restored,
    /// Another one was made in its place meanwhile.
    Replaced,
}

/// Deletes a pipeline's Secret.
///
/// # Errors
/// If the API server refuses.
pub async fn delete(run: &Run, ring: &str) -> Result<()> {
    pipelines(run, ring).delete(NAME, &DeleteParams::default()).await?;
    run.journal.fault("Secret deleted", &format!("{ring}-ci/{NAME}"));
    Ok(())
}

/// Edits a pipeline's Secret: its key, its annotations, or beside them.
///
/// # Errors
/// If the Secret cannot be read or written.
pub async fn edit(run: &Run, ring: &str, random: &mut Random) -> Result<()> {
    let api = pipelines(run, ring);
    let mut secret = api.get(NAME).await?;
    let data = secret.data.get_or_insert_with(BTreeMap::new);
    let what = match random.between(0, 4) {
        0 => {
            data.insert("cosign.key".to_owned(), ByteString(FOREIGN.into()));
            "its key overwritten"
        }
        1 => {
            data.remove("cosign.password");
            "its password removed"
        }
        2 => {
            data.insert(FOREIGN.to_owned(), ByteString(b"x".to_vec()));
            "an entry added"
        }
        _ => {
            secret.metadata.annotations = None;
            "its annotations removed"
        }
    };
    let is_anonymous = secret.metadata.annotations.is_none();
    api.replace(NAME, &PostParams::default(), &secret).await?;
    run.journal.fault("Secret edited", &format!("{ring}-ci/{NAME}: {what}"));
    if is_anonymous {
        do_as_told(run, ring).await?;
    }
    Ok(())
}

/// A Secret that does not say whose it is is left alone; the condition says to
/// delete it, and so its owner does.
async fn do_as_told(run: &Run, ring: &str) -> Result<()> {
    let told = || {
        let known = run.facts.lock();
        known.since(ring, "PipelinesPublished", "False", "SecretConflict").is_some()
    };
    let took = wait_to_know(Duration::from_secs(60), told).await;
    run.journal.note(&format!("{ring} says SecretConflict after {took:?}"));
    let deleted = wait(Duration::from_secs(60), async || {
        pipelines(run, ring).delete(NAME, &DeleteParams::default()).await.is_ok()
    });
    deleted.await.map(|_| ()).context("the Secret could not be deleted")
}

/// Deletes a ring's ledger, and puts back exactly that ledger a little later,
/// as from a backup.
///
/// # Errors
/// If the ledger cannot be read, deleted, or put back.
pub async fn lose_ledger(run: &Run, ring: &str, pause: Duration) -> Result<LedgerLoss> {
    let api: Api<Secret> = Api::namespaced(run.client.clone(), NAMESPACE);
    let name = format!("ring-{ring}");
    let mut secret = api.get(&name).await?;
    let this_one = Preconditions {
        uid: secret.uid(),
        resource_version: Some(secret.resource_version().context("no version")?),
    };
    let delete = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
    if api.delete(&name, &delete).await.is_err() {
        // A commit came between, or the answer was lost with the API server.
        if api.get_opt(&name).await.is_ok_and(|found| found.is_some()) {
            return Ok(LedgerLoss::Kept);
        }
    }
    run.journal.fault("ledger deleted", &format!("{name}, for {pause:?}"));
    sleep(pause).await;
    secret.metadata.resource_version = None;
    secret.metadata.uid = None;
    secret.metadata.managed_fields = None;
    // As often as it takes: nobody else has it.
    while let Err(error) = api.create(&PostParams::default(), &secret).await {
        if let kube::Error::Api(status) = &error
            && status.code == 409
        {
            return Ok(LedgerLoss::Replaced);
        }
        sleep(Duration::from_millis(200)).await;
    }
    run.journal.note(&format!("{name} restored"));
    Ok(LedgerLoss::Restored)
}

fn pipelines(run: &Run, ring: &str) -> Api<Secret> {
    Api::namespaced(run.client.clone(), &format!("{ring}-ci"))
}
