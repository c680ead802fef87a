//! Images that the rings which are asked about accept.

use std::fs;

use anyhow::Result;
use signingkeyring_e2e_testbed::world::World;

use crate::ledgers::PublicKey;

/// How many there are: more than Kyverno's cache of verified images holds, so that
/// each is verified anew each time.
const IMAGES: usize = 24;

/// Images and the key that signed all of them but one.
#[derive(Clone, Debug)]
pub struct Images {
    /// References by digest.
    pub signed: Vec<String>,
    /// Another without a signature.
    pub unsigned: String,
    /// What they are verified with.
    pub key: PublicKey,
}

impl Images {
    /// Pushes them to a cluster's registry, and signs them.
    ///
    /// # Errors
    /// If the registry refuses, or cosign fails.
    pub async fn push(world: &World) -> Result<Self> {
        let prefix = world.info.folder.join("bench").display().to_string();
        let password = [("COSIGN_PASSWORD", "")];
        let pair = ["generate-key-pair", "--output-key-prefix", &prefix];
        world.run("cosign", &pair, &password, "").await?;
        let mut signed = Vec::with_capacity(IMAGES);
        for number in 0..IMAGES {
            let image = world.push("bench/signed", &format!("v{number}")).await?;
            world.sign_with(&image, &format!("{prefix}.key"), &password).await?;
            signed.push(image);
        }
        let unsigned = world.push("bench/unsigned", "v1").await?;
        let key = PublicKey::read(&fs::read_to_string(format!("{prefix}.pub"))?)?;
        Ok(Self { signed, unsigned, key })
    }
}
