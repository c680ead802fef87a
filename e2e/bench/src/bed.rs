//! A cluster with rings of one kind that are at rest.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams},
};
use serde::Serialize;
use serde_json::json;
use signingkeyring_crds::SigningKeyRing;
use signingkeyring_e2e_observer::marks::{self, Marks};
use signingkeyring_e2e_testbed::{
    cluster::Cluster, kind::Kind, operator::Operator, tools, world::World,
};

use crate::{
    asked::Asked,
    images::Images,
    ledgers::{PublicKey, Restored, ring_name},
    process::{Memory, Programs},
    sizes::{Configurations, configurations},
};

/// The namespace of the ring whose pods are asked about.
const ENROLLED: &str = "bench-enrolled";

/// One that belongs to no ring.
const NOT_ENROLLED: &str = "bench-not-enrolled";

/// How many requests prepare a cluster at once.
const AT_ONCE: usize = 16;

/// How long the operator may take to write all policies.
const PATIENCE: Duration = Duration::from_secs(1800);

/// As large as policies may be: otherwise the rings of a large one would move apart.
const LARGE: &str = "--bytes-per-policy=1048576";

/// Which rings a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Arrangement {
    /// The kind of their policies.
    #[serde(serialize_with = "as_text")]
    pub kind: Kind,
    /// How many.
    pub rings: usize,
    /// How many share a policy.
    pub pack: usize,
    /// How many keys each accepts. The oldest signed the images that are asked about.
    pub keys: usize,
}

fn as_text<S: serde::Serializer>(kind: &Kind, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind.as_str())
}

impl Arrangement {
    /// How many policies that makes.
    #[must_use]
    pub fn policies(self) -> usize {
        self.rings.div_ceil(self.pack)
    }

    /// The number of the policy that holds the `number`th ring.
    pub(crate) fn policy(self, number: usize) -> Result<u32> {
        Ok(u32::try_from(number / self.pack)? + 1)
    }

    /// The ring whose pods are asked about: one in the middle.
    pub(crate) fn asked(self) -> usize {
        self.rings / 2
    }
}

/// A cluster whose rings are all in its policies. No operator runs there any more, so
/// that nothing but what is asked moves.
pub struct Bed {
    /// What it has.
    pub arrangement: Arrangement,
    /// Its administrator.
    pub client: Client,
    /// What Kyverno has told the API server.
    pub configurations: Configurations,
    cluster: Cluster,
}

impl Bed {
    /// Starts a cluster, restores the rings and waits until Kyverno has all of them.
    ///
    /// # Errors
    /// If something does not become as it should; logs are shown.
    pub async fn prepare(arrangement: Arrangement, images: &Images) -> Result<Self> {
        let Arrangement { kind, rings, pack, keys } = arrangement;
        let guard = guard()?;
        let name = format!("bench-{}-{rings}-{pack}-{keys}", kind.resource());
        let cluster = Cluster::start(&guard, &name).await?;
        let world = World { info: cluster.info.clone() };
        world.install().await?;
        let client = world.client().await?;
        restore(&client, arrangement, images).await?;
        let asked = ring_name(arrangement.asked());
        world
            .apply(&format!(
                "{{apiVersion: v1, kind: Namespace, metadata: {{name: {ENROLLED}, labels: \
                 {{signing.odj.cloud/ring: {asked}}}}}}}\n---\n\
                 {{apiVersion: v1, kind: Namespace, metadata: {{name: {NOT_ENROLLED}}}}}"
            ))
            .await?;
        let start = Instant::now();
        let kind_flag = format!("--policy-kind={kind}");
        let program = tools::built("signingkeyring-operator")?;
        let operator = Operator::start(&world, &guard, &program, &[&kind_flag, LARGE]).await?;
        let settled = settle(&world, &client, arrangement, images).await;
        let configurations = settled.with_context(|| cluster.logs())?;
        operator.kill().await?;
        eprintln!(
            "   {rings} rings of {keys} keys, {pack} to a {kind}: in force after {:.0} s",
            start.elapsed().as_secs_f64()
        );
        Ok(Self { arrangement, client, configurations, cluster })
    }

    /// Where its pods are asked about.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let [enrolled, not_enrolled] = [ENROLLED, NOT_ENROLLED].map(str::to_owned);
        Asked { client: self.client.clone(), enrolled, not_enrolled }
    }

    /// What its programs have now.
    ///
    /// # Errors
    /// If one has ended.
    pub fn memory(&self) -> Result<Memory> {
        Programs::of(&self.cluster)?.memory()
    }
}

/// The program that owns clusters and operators.
///
/// # Errors
/// If it is not built.
pub fn guard() -> Result<PathBuf> {
    tools::built("cluster")
}

async fn restore(client: &Client, arrangement: Arrangement, images: &Images) -> Result<()> {
    let Arrangement { kind, rings, keys, .. } = arrangement;
    let ledgers: Api<Secret> = Api::namespaced(client.clone(), "signing-system");
    let objects: Api<SigningKeyRing> = Api::all(client.clone());
    let one = async |number: usize| -> Result<()> {
        let name = ring_name(number);
        let oldest =
            if number == arrangement.asked() { images.key.clone() } else { PublicKey::random()? };
        let newer = (1..keys).map(|_| PublicKey::random());
        let accepted = [Ok(oldest)].into_iter().chain(newer).collect::<Result<Vec<_>>>()?;
        let restored = Restored {
            ring: &name,
            kind,
            policy: arrangement.policy(number)?,
            keys: &accepted,
            accepted: keys,
            pipelines: &[],
        };
        ledgers.create(&PostParams::default(), &restored.ledger()?).await?;
        let ring = json!({
            "apiVersion": "signing.odj.cloud/v1alpha1",
            "kind": "SigningKeyRing",
            "metadata": {"name": name},
            "spec": {"keepVersions": keys},
        });
        objects.create(&PostParams::default(), &serde_json::from_value(ring)?).await?;
        Ok(())
    };
    stream::iter(0..rings).map(one).buffer_unordered(AT_ONCE).try_collect().await
}

/// Waits until every ring is in a policy, and Kyverno looks at pods for all of them.
async fn settle(
    world: &World,
    client: &Client,
    arrangement: Arrangement,
    images: &Images,
) -> Result<Configurations> {
    let deadline = Instant::now() + PATIENCE;
    let kind = arrangement.kind;
    loop {
        let written = written(client, kind).await?;
        let found = configurations(client).await?;
        let called = kind == Kind::ClusterPolicy || found.own >= arrangement.policies();
        if written == arrangement.rings && called {
            break;
        }
        ensure!(Instant::now() < deadline, "{written} of {} rings", arrangement.rings);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let signed = images.signed.first().context("no image")?;
    world.wait_until_refused(ENROLLED, &images.unsigned).await?;
    world.wait_until_admitted(ENROLLED, signed).await?;
    world.wait_until_admitted(NOT_ENROLLED, &images.unsigned).await?;
    configurations(client).await
}

/// How many rings are in policies.
async fn written(client: &Client, kind: Kind) -> Result<usize> {
    let gvk = GroupVersionKind::gvk(kind.group(), "v1", kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&gvk, kind.plural());
    let policies: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let mut rings = 0;
    for policy in policies.list_metadata(&ListParams::default()).await? {
        if let Some(text) = policy.annotations().get(marks::ANNOTATION) {
            rings += Marks::parse(text)?.0.len();
        }
    }
    Ok(rings)
}
