//! Pipelines: take the key that their Secret holds, and sign an image of
//! their own with it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, ResourceExt};
use signingkeyring_e2e_observer::{invariant::Invariant, ledger::Ledger, parse::trimmed};
use tokio::time::sleep;

use super::{
    journal::Kind,
    random::Random,
    run::{NAMESPACE, Run, Signed},
    secrets::FOREIGN,
};

/// The Secret of a pipeline, as a build reads it once.
#[derive(Debug)]
pub struct Key {
    /// The version that it says it is.
    pub version: u32,
    private: String,
    password: String,
}

/// Signs images with whatever key is current, ring after ring, for ever.
pub async fn sign(run: Arc<Run>, name: String) {
    let mut random = Random::new(run.options.seed, &name);
    let mut number = 0;
    loop {
        let Some(ring) = random.pick(&run.rings).cloned() else { return };
        number += 1;
        if let Err(error) = sign_one(&run, &ring, &format!("{name}-{number}")).await {
            run.journal.note(&format!("signing for {ring}: {error:#}"));
            sleep(Duration::from_millis(500)).await;
        }
    }
}

async fn sign_one(run: &Run, ring: &str, tag: &str) -> Result<()> {
    let Some(key) = read(run, ring).await? else { return Ok(()) };
    let has = run.signed.lock().await.get(ring).is_some_and(|signed: &Vec<Signed>| {
        signed.iter().filter(|signed| signed.version == key.version).count() >= 2
    });
    if has {
        // Do not take the processor from those who need it.
        sleep(Duration::from_millis(100)).await;
        return Ok(());
    }
    let image = run.world.push(&format!("{ring}/app"), tag).await?;
    run.world.sign_with(&image, "env://COSIGN_PRIVATE_KEY", &key.environment()).await?;
    run.journal.count(Kind::Request, "images signed");
    let signed = Signed { version: key.version, image };
    run.signed.lock().await.entry(ring.to_owned()).or_default().push(signed);
    Ok(())
}

/// The key that a ring's pipeline holds; nothing if it cannot be used because
/// somebody deleted or edited the Secret.
///
/// # Errors
/// If the Secret cannot be read.
pub async fn read(run: &Run, ring: &str) -> Result<Option<Key>> {
    let api: Api<Secret> = Api::namespaced(run.client.clone(), &format!("{ring}-ci"));
    let Some(secret) = api.get_opt("image-signing").await? else { return Ok(None) };
    let version = secret.annotations().get("signing.odj.cloud/version");
    let Some(version) = version.and_then(|version| version.parse().ok()) else { return Ok(None) };
    let data = secret.data.unwrap_or_default();
    let (Some(private), Some(password), Some(public)) =
        (text(&data, "cosign.key"), text(&data, "cosign.password"), text(&data, "cosign.pub"))
    else {
        return Ok(None);
    };
    let known = run.facts.lock();
    let ledger = known.rings.get(ring).and_then(|ring| ring.version(version));
    let is_known = ledger.is_some_and(|ledger| ledger.public_key == trimmed(&public));
    let untouched = is_known && !private.contains(FOREIGN);
    Ok(untouched.then_some(Key { version, private, password }))
}

fn text(data: &BTreeMap<String, ByteString>, entry: &str) -> Option<String> {
    data.get(entry).and_then(|bytes| String::from_utf8(bytes.0.clone()).ok())
}

impl Key {
    fn environment(&self) -> [(&str, &str); 2] {
        [("COSIGN_PRIVATE_KEY", &self.private), ("COSIGN_PASSWORD", &self.password)]
    }
}

/// Signs one more image with a ring's key, which has to work.
///
/// # Errors
/// If it does not.
pub async fn sign_at_last(run: &Run, ring: &str) -> Result<Signed> {
    let key = read(run, ring).await?.context("its pipeline's Secret holds no key of it")?;
    let image = run.world.push(&format!("{ring}/app"), "at-last").await?;
    run.world.sign_with(&image, "env://COSIGN_PRIVATE_KEY", &key.environment()).await?;
    Ok(Signed { version: key.version, image })
}

/// Checks that a ring's ledger holds the private key that signs: cosign opens
/// it, and its public key is the one of the version.
pub async fn check_ledger(run: &Run, ring: &str) {
    if let Err(error) = open(run, ring).await {
        let text = format!("{ring}: its ledger's key: {error:#}");
        run.journal.violated(Invariant::PrivateKeysKnown, &text);
    }
}

async fn open(run: &Run, ring: &str) -> Result<()> {
    let api: Api<Secret> = Api::namespaced(run.client.clone(), NAMESPACE);
    let mut secret = api.get(&format!("ring-{ring}")).await?;
    let ledger = Ledger::of_annotations(secret.metadata.annotations.as_ref())?;
    let current = ledger.current().context("no version is current")?;
    let number = current.number;
    if let Some(apart) = current.own_secret() {
        secret = api.get(apart).await?;
    }
    let data = secret.data.unwrap_or_default();
    let private = text(&data, &format!("v{number}.key")).context("no private key")?;
    let password = text(&data, &format!("v{number}.password")).context("no password")?;
    let environment = [("COSIGN_PRIVATE_KEY", private.as_str()), ("COSIGN_PASSWORD", &password)];
    let arguments = ["public-key", "--key", "env://COSIGN_PRIVATE_KEY"];
    let public = run.world.run("cosign", &arguments, &environment, "").await?;
    anyhow::ensure!(
        current.public_key == trimmed(&public),
        "it opens, and is not the one of version {number}"
    );
    Ok(())
}
