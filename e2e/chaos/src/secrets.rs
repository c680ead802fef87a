//! Secrets: deleted and edited by hand, ledgers among them.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::{Value, json};
use signingkeyring_e2e_observer::invariant::Invariant;
use tokio::time::sleep;

use super::{
    run::{NAMESPACE, Run},
    wait::{wait, wait_to_know},
};

const NAME: &str = "image-signing";
const KEY: &str = "cosign.key";
const PASSWORD: &str = "cosign.password";

/// How long what somebody did to a Secret may stay: the operator may be away,
/// or without its rights, and pauses after that.
const PATIENCE: Duration = Duration::from_secs(120);

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

/// What somebody does to a pipeline's Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Writes something else into the key.
    KeyOverwritten,
    /// Takes the password out.
    PasswordRemoved,
    /// Adds an entry.
    EntryAdded,
    /// Takes the annotations off, so that it does not say whose it is.
    AnnotationsRemoved,
    /// Applies another key over whatever is there.
    KeyApplied,
    /// Applies another password as text, in `stringData`.
    PasswordAppliedAsText,
    /// Applies what is there, so that it is another's as well.
    SameApplied,
    /// The same as text.
    SameAppliedAsText,
}

/// Each of them.
pub const EDITS: [Edit; 8] = [
    Edit::KeyOverwritten,
    Edit::PasswordRemoved,
    Edit::EntryAdded,
    Edit::AnnotationsRemoved,
    Edit::KeyApplied,
    Edit::PasswordAppliedAsText,
    Edit::SameApplied,
    Edit::SameAppliedAsText,
];

/// Edits a pipeline's Secret: its key, its annotations, or beside them; and
/// waits until that is undone.
///
/// # Errors
/// If the Secret cannot be read or written.
pub async fn edit(run: &Run, ring: &str, edit: Edit) -> Result<()> {
    let api = pipelines(run, ring);
    let secret = api.get(NAME).await?;
    match edit {
        Edit::KeyOverwritten
        | Edit::PasswordRemoved
        | Edit::EntryAdded
        | Edit::AnnotationsRemoved => {
            api.replace(NAME, &PostParams::default(), &edited(secret, edit)).await?;
        }
        _ => {
            let params = PatchParams::apply(FOREIGN).force();
            api.patch(NAME, &params, &Patch::Apply(applied(&secret, edit))).await?;
        }
    }
    run.journal.fault("Secret edited", &format!("{ring}-ci/{NAME}: {edit:?}"));
    if edit == Edit::AnnotationsRemoved {
        do_as_told(run, ring).await?;
    }
    let undone = async || match api.get_opt(NAME).await {
        Ok(secret) => secret.is_none_or(|secret| is_clean(&secret)),
        Err(_) => false,
    };
    match wait(PATIENCE, undone).await {
        Some(took) => run.journal.took("a Secret edited until nothing of that was left", took),
        None => {
            let text = format!("{ring}-ci/{NAME}: {edit:?} was not undone in {PATIENCE:?}");
            run.journal.violated(Invariant::Settles, &text);
        }
    }
    Ok(())
}

fn edited(mut secret: Secret, edit: Edit) -> Secret {
    let data = secret.data.get_or_insert_with(BTreeMap::new);
    match edit {
        Edit::KeyOverwritten => drop(data.insert(KEY.to_owned(), ByteString(FOREIGN.into()))),
        Edit::PasswordRemoved => drop(data.remove(PASSWORD)),
        Edit::EntryAdded => drop(data.insert(FOREIGN.to_owned(), ByteString(b"x".to_vec()))),
        _ => secret.metadata.annotations = None,
    }
    secret
}

/// What is applied. What is to be the same has the version that was read.
fn applied(secret: &Secret, edit: Edit) -> Value {
    let same = secret.data.clone().unwrap_or_default();
    let texts = || -> BTreeMap<_, _> {
        same.iter().map(|(name, bytes)| (name, String::from_utf8_lossy(&bytes.0))).collect()
    };
    let (field, entries) = match edit {
        Edit::KeyApplied => ("data", json!({KEY: ByteString(FOREIGN.into())})),
        Edit::PasswordAppliedAsText => ("stringData", json!({PASSWORD: FOREIGN})),
        Edit::SameAppliedAsText => ("stringData", json!(texts())),
        _ => ("data", json!(same)),
    };
    let mut metadata = json!({"name": NAME});
    if matches!(edit, Edit::SameApplied | Edit::SameAppliedAsText) {
        metadata["resourceVersion"] = json!(secret.resource_version());
    }
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, field: entries})
}

/// Whether a Secret holds three entries and none of them is ours.
fn is_clean(secret: &Secret) -> bool {
    let data = secret.data.iter().flatten();
    let foreign = data.clone().any(|(_, bytes)| bytes.0 == FOREIGN.as_bytes());
    data.count() == 3 && !foreign
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
