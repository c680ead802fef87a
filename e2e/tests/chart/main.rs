//! The chart installs at the first try, upgrades in place, and leaves nothing; and what the
//! oldest operator left whose ledgers are read becomes the present one's, by the chart and
//! by kustomize.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod life;
mod oldest;

use std::path::{Path, PathBuf};

use anyhow::Result;
use signingkeyring_e2e_testbed::{
    cluster::Cluster,
    operator::{Installed, Operator},
    tools,
    world::World,
};

const NAMESPACE: &str = "signing-system";
const RELEASE: &str = "signing";
const CHART: &str = "manifests/chart";

/// Settings that make the tests quick.
const QUICK: [&str; 1] = ["--recheck-interval=2s"];

/// A cluster's administrator who has Helm.
struct Admin {
    world: World,
    guard: PathBuf,
}

impl Admin {
    /// Helm with these arguments, in the operator's namespace.
    async fn helm(&self, arguments: &[&str]) -> Result<String> {
        let home = tools::folder().join("helm").display().to_string();
        let homes = ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"];
        let homes = homes.map(|variable| (variable, home.as_str()));
        let namespace = format!("--namespace={NAMESPACE}");
        let arguments = [arguments, &[&namespace]].concat();
        self.world.run("helm", &arguments, &homes, "").await
    }

    async fn install(&self, chart: &Path) -> Result<String> {
        let chart = chart.display().to_string();
        self.helm(&["install", RELEASE, &chart, "--create-namespace"]).await
    }

    async fn upgrade(&self, more: &[&str]) -> Result<String> {
        let upgrade = ["upgrade", RELEASE, CHART, "--reset-values"];
        self.helm(&[&upgrade[..], more].concat()).await
    }

    /// The operator's process, with the rights and variables of its Deployment.
    async fn operator(&self) -> Result<Operator> {
        let installed = Installed::read(&self.world, NAMESPACE, "signingkeyring-operator").await?;
        let program = tools::built("signingkeyring-operator")?;
        Operator::start_as(&self.world, &self.guard, &program, &installed, &QUICK).await
    }

    /// The UID of an object, which a new one of the same name does not have.
    async fn uid(&self, object: &[&str]) -> Result<String> {
        self.world.get(object, "{.metadata.uid}").await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn installed_upgraded_and_taken_away() {
    let guard = tools::built("cluster").unwrap();
    let cluster = Cluster::start(&guard, "chart").await.unwrap();
    let admin = Admin { world: World { info: cluster.info.clone() }, guard };
    let result = async {
        life::chart(&admin).await?;
        oldest::by_kustomize(&admin).await?;
        oldest::taken_over_by_the_chart(&admin).await?;
        life::taken_away(&admin).await?;
        oldest::by_the_chart(&admin).await
    };
    if let Err(error) = result.await {
        panic!("{error:#}\n{}", cluster.logs());
    }
}
