//! A cluster with many rings, each with ten rotations behind it, two pipelines and two
//! namespaces, and an operator that looks after them.

pub mod follow;
pub mod report;
pub mod rest;
mod urgent;
pub mod waves;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use signingkeyring_crds::SigningKeyRing;
use signingkeyring_e2e_testbed::{cluster::Cluster, operator::Operator, world::World};

use crate::{
    asked::Asked,
    bed::{Arrangement, guard},
    images::Images,
    ledgers::{PublicKey, Restored, ring_name},
    process::{Process, Programs},
};

/// How many keys each ring has had.
const KEYS: usize = 11;

/// How many keys the operator seals at once.
const SEALINGS: u16 = 2;

/// How many requests prepare a cluster at once.
const AT_ONCE: usize = 32;

/// A namespace of no ring.
const NOT_ENROLLED: &str = "bench-not-enrolled";

/// Consent of all namespaces' owners at once.
const CONSENT: &str = "--kustomize=manifests/pipeline-access-everywhere";

/// Such a cluster.
pub struct Fleet {
    /// What it has.
    pub arrangement: Arrangement,
    /// As its administrator uses it.
    pub world: World,
    /// Its administrator.
    pub client: Client,
    cluster: Cluster,
    program: PathBuf,
    operator: Option<Operator>,
}

impl Fleet {
    /// Starts one in which there are no rings yet, for an operator's program.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn new(arrangement: Arrangement, program: PathBuf) -> Result<Self> {
        let Arrangement { kind, rings, pack, .. } = arrangement;
        let name = format!("fleet-{}-{rings}-{pack}", kind.resource());
        let cluster = Cluster::start(&guard()?, &name).await?;
        let world = World { info: cluster.info.clone() };
        world.install().await?;
        world.kubectl(&["apply", CONSENT]).await?;
        world
            .apply(&format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NOT_ENROLLED}}}}}"
            ))
            .await?;
        let client = world.client().await?;
        Ok(Self { arrangement, world, client, cluster, program, operator: None })
    }

    /// Restores its rings, as from a backup: the operator is not there yet.
    ///
    /// # Errors
    /// If the API server refuses something.
    pub async fn restore(&self, images: &Images) -> Result<()> {
        self.for_each(async |number| self.restore_one(number, images).await).await
    }

    async fn restore_one(&self, number: usize, images: &Images) -> Result<()> {
        let Arrangement { kind, keys: accepted, .. } = self.arrangement;
        let ring = ring_name(number);
        let mut keys = (0..KEYS).map(|_| PublicKey::random()).collect::<Result<Vec<_>>>()?;
        if number == self.arrangement.asked() {
            let oldest = keys.get_mut(KEYS - accepted).context("more accepted keys than keys")?;
            *oldest = images.key.clone();
        }
        let pipelines = namespaces_of(number);
        let policy = self.arrangement.policy(number)?;
        let restored =
            Restored { ring: &ring, kind, policy, keys: &keys, accepted, pipelines: &pipelines };
        for namespace in &pipelines {
            self.create::<Namespace>(labelled(namespace, &ring)).await?;
            let secret = restored.pipeline_secret()?;
            Api::namespaced(self.client.clone(), namespace)
                .create(&PostParams::default(), &secret)
                .await?;
        }
        let ledgers: Api<Secret> = Api::namespaced(self.client.clone(), "signing-system");
        ledgers.create(&PostParams::default(), &restored.ledger()?).await?;
        self.create::<SigningKeyRing>(manifest(&ring, &pipelines, accepted)).await
    }

    async fn create<K>(&self, object: Value) -> Result<()>
    where
        K: kube::Resource<DynamicType = ()>
            + Clone
            + std::fmt::Debug
            + serde::Serialize
            + DeserializeOwned,
    {
        let api: Api<K> = Api::all(self.client.clone());
        api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
        Ok(())
    }

    /// Creates the namespaces of all its rings.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub async fn create_namespaces(&self) -> Result<()> {
        self.for_each(async |number| {
            for namespace in namespaces_of(number) {
                self.create::<Namespace>(labelled(&namespace, &ring_name(number))).await?;
            }
            Ok(())
        })
        .await
    }

    /// Creates all its rings at once: their first versions have to be minted.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub async fn create_rings(&self) -> Result<()> {
        self.for_each(async |number| {
            let accepted = self.arrangement.keys;
            let ring = manifest(&ring_name(number), &namespaces_of(number), accepted);
            self.create::<SigningKeyRing>(ring).await
        })
        .await
    }

    /// Changes rings, many at once.
    ///
    /// # Errors
    /// If the API server refuses a change.
    pub async fn patch(&self, rings: std::ops::Range<usize>, patch: &Value) -> Result<()> {
        let api: Api<SigningKeyRing> = Api::all(self.client.clone());
        let (api, params) = (&api, &PatchParams::default());
        let one = |number| async move {
            api.patch(&ring_name(number), params, &Patch::Merge(patch)).await?;
            Ok::<_, anyhow::Error>(())
        };
        stream::iter(rings).map(one).buffer_unordered(AT_ONCE).try_collect().await
    }

    async fn for_each(&self, one: impl AsyncFn(usize) -> Result<()>) -> Result<()> {
        let one = &one;
        stream::iter(0..self.arrangement.rings)
            .map(|number| async move { one(number).await })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    /// Starts the operator, and waits until it is ready.
    ///
    /// # Errors
    /// If it is not; the end of its log is shown.
    pub async fn start(&mut self) -> Result<()> {
        let kind = format!("--policy-kind={}", self.arrangement.kind);
        let pack = format!("--rings-per-policy={}", self.arrangement.pack);
        let sealings = format!("--sealings={SEALINGS}");
        let flags = [kind.as_str(), pack.as_str(), sealings.as_str()];
        let operator = Operator::start(&self.world, &guard()?, &self.program, &flags).await?;
        self.operator = Some(operator);
        Ok(())
    }

    /// Ends it.
    ///
    /// # Errors
    /// If it does not end.
    pub async fn stop(&mut self) -> Result<()> {
        if let Some(operator) = self.operator.take() {
            operator.stop().await?;
        }
        Ok(())
    }

    /// The operator's process.
    ///
    /// # Errors
    /// If it has ended.
    pub fn process(&self) -> Result<Process> {
        Ok(Process(self.operator.as_ref().context("no operator was started")?.process()?))
    }

    /// The cluster's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.world.info.folder
    }

    /// The programs of the cluster.
    ///
    /// # Errors
    /// If it lacks one.
    pub fn programs(&self) -> Result<Programs> {
        Programs::of(&self.cluster)
    }

    /// Where its pods are asked about.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let [enrolled, _] = namespaces_of(self.arrangement.asked());
        Asked { client: self.client.clone(), enrolled, not_enrolled: NOT_ENROLLED.to_owned() }
    }
}

/// The namespaces of the `number`th ring, which have its pipelines, too.
#[must_use]
pub fn namespaces_of(number: usize) -> [String; 2] {
    ["a", "b"].map(|which| format!("{}-{which}", ring_name(number)))
}

fn labelled(namespace: &str, ring: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": namespace, "labels": {"signing.odj.cloud/ring": ring}},
    })
}

fn manifest(ring: &str, pipelines: &[String], accepted: usize) -> Value {
    let pipelines: Vec<Value> = pipelines.iter().map(|name| json!({"namespace": name})).collect();
    json!({
        "apiVersion": "signing.odj.cloud/v1alpha1",
        "kind": "SigningKeyRing",
        "metadata": {"name": ring},
        "spec": {
            "keepVersions": accepted,
            "pipelines": pipelines,
            "rotation": {"soak": SOAK},
        },
    })
}

/// How long Kyverno has to answer with a key before it signs: part of how long any
/// rotation takes.
const SOAK: &str = "1s";
