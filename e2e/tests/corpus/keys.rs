//! A ring with a version that signs, one that is accepted and one that is not any more,
//! another ring, and somebody.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, Result};
use base64ct::{Base64, Encoding as _};
use serde_json::Value;
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};
use signingkeyring_inspect::Key;

/// The ring that is asked about.
pub const RING: &str = "corpus";

/// Another ring.
pub const OTHER: &str = "corpus-other";

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// The ring's version that signs.
    Current,
    /// The one before, which is accepted.
    Accepted,
    /// The first one, which is not any more.
    Retired,
    /// Another ring.
    Other,
    /// Somebody who is not known.
    Unknown,
}

/// A key pair as cosign takes it.
pub struct Pair {
    pub private: String,
    pub public: String,
    pub password: String,
}

/// All that sign, and the versions that are known.
pub struct Keys {
    pub pairs: BTreeMap<By, Pair>,
    pub known: Vec<Key>,
}

fn spec(kind: Kind) -> String {
    format!("  keepVersions: 2\n  policy: {{kind: {kind}}}\n")
}

impl Keys {
    /// Has rings made, and rotated.
    pub async fn make(world: &World) -> Result<Self> {
        for ring in [RING, OTHER] {
            world.apply(&namespaces(ring)).await?;
            world.apply(&manifest(ring, &spec(Kind::ClusterPolicy))).await?;
        }
        let mut pairs = BTreeMap::new();
        world.wait_for_condition(OTHER, "Ready", "True").await?;
        pairs.insert(By::Other, published(world, OTHER, "other").await?);
        world.wait_for_condition(RING, "Ready", "True").await?;
        pairs.insert(By::Retired, published(world, RING, "retired").await?);
        world.rotate(RING, "second").await?;
        pairs.insert(By::Accepted, published(world, RING, "accepted").await?);
        world.rotate(RING, "third").await?;
        pairs.insert(By::Current, published(world, RING, "current").await?);
        world.wait_for_field(RING, "{.status.acceptedVersions}", "[3,2]").await?;
        world.wait_for_condition(RING, "Ready", "True").await?;
        pairs.insert(By::Unknown, somebodys(world).await?);
        Ok(Self { pairs, known: known(world).await? })
    }

    pub fn pair(&self, by: By) -> Result<&Pair> {
        self.pairs.get(&by).with_context(|| format!("{by:?} has no key"))
    }
}

/// The versions of the rings, by their statuses.
async fn known(world: &World) -> Result<Vec<Key>> {
    let mut known = Vec::new();
    for ring in [RING, OTHER] {
        let status = world.ring(ring, "{.status}").await?;
        let status: Value = serde_json::from_str(&status)?;
        for version in status["versions"].as_array().context("no versions")? {
            let number = u32::try_from(version["version"].as_u64().context("no number")?)?;
            let state = serde_json::from_value(version["state"].clone())?;
            let public_key = version["publicKey"].as_str().context("no key")?;
            known.push(Key::new(ring, number, state, public_key)?);
        }
    }
    Ok(known)
}

fn files(folder: &Path, name: &str) -> [String; 2] {
    ["key", "pub"].map(|end| folder.join(format!("{name}.{end}")).display().to_string())
}

/// The key pair that a pipeline has now.
async fn published(world: &World, ring: &str, name: &str) -> Result<Pair> {
    let field = async |field: &str| {
        let secret = ["secret", "image-signing", "--namespace", &format!("{ring}-ci")];
        let text = world.get(&secret, &format!("{{.data.cosign\\.{field}}}")).await?;
        let data = Base64::decode_vec(&text).ok().context("no base64")?;
        Ok::<_, anyhow::Error>(String::from_utf8(data)?)
    };
    let [private, public] = files(&world.info.folder, name);
    fs::write(&private, field("key").await?)?;
    fs::write(&public, field("pub").await?)?;
    Ok(Pair { private, public, password: field("password").await? })
}

async fn somebodys(world: &World) -> Result<Pair> {
    let prefix = world.info.folder.join("somebody").display().to_string();
    let pair = ["generate-key-pair", "--output-key-prefix", &prefix];
    world.run("cosign", &pair, &[("COSIGN_PASSWORD", "x")], "").await?;
    let [private, public] = files(&world.info.folder, "somebody");
    Ok(Pair { private, public, password: "x".to_owned() })
}

/// Has the ring in a policy of this kind, and in no other.
pub async fn move_to(world: &World, kind: Kind) -> Result<()> {
    world.apply(&manifest(RING, &spec(kind))).await?;
    let generation = world.ring(RING, "{.metadata.generation}").await?;
    wait_until(&format!("{RING} is in a policy of kind {kind}"), async || {
        let seen = world.ring(RING, "{.status.observedGeneration} {.status.policy.name}").await?;
        let (observed, policy) = seen.split_once(' ').context("no status")?;
        let rests = world.condition(RING, "Reconciling").await?.trim().is_empty();
        let enforced = world.condition(RING, "PolicyEnforced").await?;
        Ok(observed == generation
            && Kind::of(policy) == kind
            && rests
            && enforced.starts_with("True Enforced"))
    })
    .await
}
