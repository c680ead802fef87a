//! What a scenario does, done in a run's view.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use serde_json::{Value, json};
use signingkeyring_operator::keys::KeyPair;

use super::{PATIENCE, Run};
use crate::{
    faults::scenario::{Step, spec},
    observer::picture::picture,
};

impl Run<'_> {
    /// Does one thing.
    pub(super) async fn step(&self, step: &Step) -> Result<()> {
        let view = &self.admin.view;
        match step {
            Step::Create => {
                let spec = spec(view, &(self.scenario.spec)(view));
                self.admin.apply("SigningKeyRing", None, view.name(), json!({"spec": spec})).await
            }
            Step::Patch(change) => self.admin.change_ring(change).await,
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
                self.ahead.fetch_add(*minutes, Ordering::Relaxed);
                Ok(())
            }
            Step::Leave => self.admin.namespace("dev", None).await,
            Step::Delete => self.admin.delete_ring().await,
            Step::Until(what, holds) => self.until(what, holds).await,
        }
    }

    /// Waits until a picture shows something.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Result<()> {
        let ring = self.admin.view.name();
        let observer = &self.shared.observer;
        let waited = observer.until(ring, what, PATIENCE, |now| holds(&picture(now, ring))).await;
        waited.with_context(|| format!("the state is {}", self.picture()))
    }
}
