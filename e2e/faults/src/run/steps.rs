//! What a scenario does, done in a run's view.

use std::sync::atomic::Ordering;

use anyhow::Result;
use serde_json::json;
use signingkeyring_operator::keys::KeyPair;

use super::attempt::Run;
use crate::scenario::{Step, neighbour_spec, rests, spec};

impl Run<'_> {
    /// Brings the ring to where the scenario begins.
    pub(super) async fn set_up(&self) -> Result<()> {
        let Some(first) = (self.scenario.versions > 0).then_some(1) else { return Ok(()) };
        if self.scenario.neighbour.is_some() {
            self.create_neighbour().await?;
        }
        self.step(&Step::Create).await?;
        let keep = spec(&self.admin.view, &(self.scenario.spec)(&self.admin.view))["keepVersions"]
            .as_u64();
        let ring = self.admin.view.ring();
        for version in first..=self.scenario.versions {
            if version > first {
                let token = json!({"signing.odj.cloud/rotate": format!("to-{version}")});
                self.admin.change_ring(ring, &json!({"metadata": {"annotations": token}})).await?;
            }
            let keep = u32::try_from(keep.unwrap_or(3))?;
            let oldest = (version + 1).saturating_sub(keep).max(1);
            let accepted: Vec<u32> = (oldest..=version).rev().collect();
            self.until(&format!("version {version}"), |p| rests(p, version, &accepted)).await?;
        }
        // What is still on its way is not the scenario's.
        self.settled(|_| true).await
    }

    async fn create_neighbour(&self) -> Result<()> {
        let (view, neighbour) = (&self.admin.view, self.admin.view.neighbour());
        self.admin.namespace("neighbour-dev", Some(&neighbour)).await?;
        let object = json!({"spec": neighbour_spec(view)});
        self.admin.apply("SigningKeyRing", None, &neighbour, object).await?;
        self.until("the neighbour", |state| rests(&state["neighbour"], 1, &[1])).await
    }

    /// Does one thing.
    pub(super) async fn step(&self, step: &Step) -> Result<()> {
        let view = &self.admin.view;
        match step {
            Step::Create => {
                let spec = spec(view, &(self.scenario.spec)(view));
                self.admin.apply("SigningKeyRing", None, view.ring(), json!({"spec": spec})).await
            }
            Step::Patch(change) => self.admin.change_ring(view.ring(), change).await,
            Step::PatchNeighbour(change) => self.admin.change_ring(&view.neighbour(), change).await,
            Step::Apply(kind, name, object) => {
                self.admin.apply(kind, None, name, object.clone()).await
            }
            Step::KeyPair(which) => {
                let pair = tokio::task::spawn_blocking(KeyPair::generate).await??;
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let data = json!({"stringData": {
                    "cosign.key": text(pair.encrypted_pem()),
                    "cosign.password": text(pair.password()),
                    "cosign.pub": pair.public_pem(),
                }});
                let namespace = view.namespace(which);
                self.admin.apply("Secret", Some(&namespace), "image-signing", data).await
            }
            Step::Minutes(minutes) => {
                self.clock_offset.fetch_add(*minutes, Ordering::Relaxed);
                Ok(())
            }
            Step::Leave => self.admin.namespace("dev", None).await,
            Step::Delete => self.admin.delete_ring(view.ring()).await,
            Step::DeleteNeighbour => self.admin.delete_ring(&view.neighbour()).await,
            Step::Until(what, holds) => self.until(what, holds).await,
        }
    }
}
