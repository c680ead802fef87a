//! What cosign attaches to images.

use std::fs;

use anyhow::Result;
use signingkeyring_e2e_testbed::{private::PrivateRegistry, world::World};

use crate::{
    keys::{By, Keys},
    raw::Raw,
    referrers::Referrers,
};

/// How something is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A signature in the `.sig` tag, by cosign 3.
    Sig,
    /// The same by cosign 2.6.
    Sig26,
    /// A signature in a bundle.
    Bundle,
    /// An attestation in a bundle.
    Attested,
    /// An attestation in the `.att` tag, by cosign 2.6.
    AttestedTag,
}

/// Where images are made.
pub struct Bed<'a> {
    pub world: &'a World,
    pub keys: Keys,
    pub raw: Raw,
    /// A registry that lists what refers to an image.
    pub listing: Referrers,
    /// One that fails to.
    pub failing: Referrers,
    /// One that asks for a password.
    pub private: PrivateRegistry,
    predicate: String,
}

impl<'a> Bed<'a> {
    pub async fn new(world: &'a World) -> Result<Self> {
        let predicate = world.info.folder.join("predicate.json");
        fs::write(&predicate, "{}")?;
        let registry = &world.info.registry;
        Ok(Self {
            world,
            raw: Raw::new(registry)?,
            listing: Referrers::start(registry, true).await?,
            failing: Referrers::start(registry, false).await?,
            private: PrivateRegistry::start(registry).await?,
            predicate: predicate.display().to_string(),
            keys: Keys::make(world).await?,
        })
    }

    pub async fn push(&self, name: &str) -> Result<String> {
        self.world.push(&format!("corpus/{name}"), "v1").await
    }

    /// Pushes an image and attaches something to it.
    pub async fn signed(&self, name: &str, attached: &[(How, By)]) -> Result<String> {
        let image = self.push(name).await?;
        for (how, by) in attached {
            self.attach(*how, *by, &image, &[]).await?;
        }
        Ok(image)
    }

    pub async fn attach(&self, how: How, by: By, image: &str, more: &[&str]) -> Result<()> {
        let pair = self.keys.pair(by)?;
        let verb = match how {
            How::Sig | How::Sig26 | How::Bundle => "sign",
            How::Attested | How::AttestedTag => "attest",
        };
        let mut arguments = vec![verb, "--yes", "--key", &pair.private, "--tlog-upload=false"];
        let program = match how {
            How::Sig26 | How::AttestedTag => "cosign-2.6",
            How::Sig | How::Bundle | How::Attested => {
                arguments.push("--use-signing-config=false");
                arguments.push(match how {
                    How::Sig => "--new-bundle-format=false",
                    _ => "--new-bundle-format=true",
                });
                "cosign"
            }
        };
        if verb == "attest" {
            arguments.extend(["--type=custom", "--predicate", &self.predicate]);
        }
        arguments.extend(more);
        arguments.push(image);
        let password = [("COSIGN_PASSWORD", pair.password.as_str())];
        self.world.run(program, &arguments, &password, "").await?;
        Ok(())
    }
}
