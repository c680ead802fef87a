//! Installed in another namespace and under other names, the operator's messages
//! print commands that work there.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod commands;

use std::fs;

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    cluster::Cluster,
    operator::{Installed, Operator},
    tools,
    world::{DEADLINE, World, manifest, namespaces, wait_until},
};
use tokio::time::{Instant, sleep};

const NAMESPACE: &str = "acme-signing";

/// Somebody's own overlay of the manifests.
const OVERLAY: &str = "namespace: acme-signing
namePrefix: acme-
resources: [../../manifests]
";

/// Installs the overlay, and reads how from what is in the cluster by then.
async fn install(world: &World) -> Result<Installed> {
    let folder = tools::root().join("target/elsewhere");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("kustomization.yaml"), OVERLAY)?;
    let apply = format!("--kustomize={}", folder.display());
    let deadline = Instant::now() + DEADLINE;
    // The first time, the CRDs may not be served yet when the list comes.
    while let Err(error) = world.kubectl(&["apply", &apply]).await {
        ensure!(Instant::now() < deadline, "installing: {error:#}");
        sleep(std::time::Duration::from_millis(500)).await;
    }
    Installed::read(world, NAMESPACE, "acme-signingkeyring-operator").await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_printed_works_where_it_is_installed() {
    let guard = tools::built("cluster").unwrap();
    let cluster = Cluster::start(&guard, "elsewhere").await.unwrap();
    let world = World { info: cluster.info.clone() };
    if let Err(error) = promise(&world, &guard).await {
        panic!("{error:#}\n{}", cluster.logs());
    }
}

async fn promise(world: &World, guard: &std::path::Path) -> Result<()> {
    let installed = install(world).await?;
    let program = tools::built("signingkeyring-operator")?;
    let arguments = ["--recheck-interval=2s"];
    let operator = Operator::start_as(world, guard, &program, &installed, &arguments).await?;

    guarded(world, &operator).await?;

    // Two Secrets in a namespace that does not exist yet, and that nobody has granted.
    world.apply(&enrolled("here")).await?;
    let pipelines = "[{namespace: here-ci}, {namespace: here-ci, secretName: other-name}]";
    let ring = manifest("here", "").replace("[{namespace: here-ci}]", pipelines);
    world.apply(&ring).await?;
    let text = world.wait_for_condition("here", "PipelinesPublished", "False NamespaceMissing");
    let text = text.await?;
    let create = text.split(';').next().context("no sentence")?;
    world.do_as_told(create).await?;
    let text = world.wait_for_condition("here", "PipelinesPublished", "False AccessNotGranted");
    world.do_as_told(&text.await?).await?;
    world.wait_for_condition("here", "PipelinesPublished", "True Published").await?;
    world.wait_for_condition("here", "Ready", "True").await?;
    let ledger = ["secret", "ring-here", "-n", NAMESPACE];
    ensure!(world.get(&ledger, "{.kind}").await? == "Secret");

    // Consent that was withdrawn, and is given anew.
    let bindings = ["delete", "rolebindings", "--all", "-n", "here-ci"];
    world.kubectl(&bindings).await?;
    world.kubectl(&["delete", "roles", "--all", "-n", "here-ci"]).await?;
    world.apply(&manifest("here", "").replace("[{namespace: here-ci}]", "[]")).await?;
    let text = world.wait_for_condition("here", "PipelinesPublished", "True SecretLeftBehind");
    world.do_as_told(&text.await?).await?;
    world.wait_for_condition("here", "PipelinesPublished", "True NoPipelines").await?;

    // A key pair that is to be taken over.
    let secret = ["secret", "image-signing", "-n", "there-ci"];
    world.apply(&namespaces("there")).await?;
    world.apply(THEIRS).await?;
    let import = "  importFrom: {secret: {namespace: there-ci, name: theirs}}\n";
    world.apply(&manifest("there", import)).await?;
    let text = world.wait_for_condition("there", "KeysAvailable", "False ImportFailed").await?;
    world.do_as_told(&text).await?;
    wait_until("it may look at it", async || {
        let text = world.condition("there", "KeysAvailable").await?;
        Ok(text.contains("ImportFailed") && !text.contains("grant access"))
    })
    .await?;
    world.apply(&manifest("there", "")).await?;
    let text = world.wait_for_condition("there", "PipelinesPublished", "False AccessNotGranted");
    world.do_as_told(&text.await?).await?;
    world.wait_for_condition("there", "Ready", "True").await?;
    ensure!(world.get(&secret, "{.kind}").await? == "Secret");

    // Their end.
    for ring in ["here", "there"] {
        world.kubectl(&["delete", "skr", ring, "--wait=false"]).await?;
        let text = world.wait_for_condition(ring, "Ready", "False DeletionBlocked").await?;
        let label = text.split("; ").next().context("no sentence")?;
        let label = label.split(", or let").next().context("no sentence")?;
        world.do_as_told(label).await?;
        wait_until("the ring is gone", async || {
            Ok(world.ring(ring, "{.metadata.name}").await.is_err())
        })
        .await?;
    }
    commands::help(world).await?;
    ensure!(operator.stop().await? == Some(0));
    Ok(())
}

/// The guard that came with it guards this installation.
async fn guarded(world: &World, operator: &Operator) -> Result<()> {
    wait_until("the guard fits", async || {
        Ok(operator.metrics().await?.contains("signingkeyring_guard_state{state=\"fits\"} 1"))
    })
    .await?;
    world.apply(SOMEBODY).await?;
    let ledger = ["create", "secret", "generic", "ledger", "-n", NAMESPACE];
    let enrol = ["label", "namespace", NAMESPACE, "signing.odj.cloud/ring=here"];
    let end = ["delete", "namespace", NAMESPACE];
    for (command, more, part) in [
        (&ledger[..], "--type=signing.odj.cloud/key-ring", "ledgers"),
        (&enrol[..], "--overwrite", "namespace"),
        (&end[..], "--wait=false", "namespace"),
    ] {
        let command = [command, &[more, "--dry-run=server", "--as=somebody"]].concat();
        let policy = format!("ValidatingAdmissionPolicy 'acme-signingkeyring-guard-{part}'");
        // The API server takes a moment to know a new policy.
        wait_until(&format!("somebody may not {command:?}"), async || {
            let refused = world.kubectl(&command).await.err();
            Ok(refused.is_some_and(|error| error.to_string().contains(&policy)))
        })
        .await?;
    }
    let elsewhere = [&ledger[..4], &["--type=signing.odj.cloud/key-ring", "-n=default"]].concat();
    let elsewhere = [&elsewhere[..], &["--dry-run=server", "--as=somebody"]].concat();
    world.kubectl(&elsewhere).await?;
    Ok(())
}

/// Somebody with every right on Secrets and namespaces, and the verb enroll.
const SOMEBODY: &str = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: somebody}
rules:
- {apiGroups: [""], resources: [secrets, namespaces], verbs: ["*"]}
- {apiGroups: [signing.odj.cloud], resources: [signingkeyrings], verbs: [enroll]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: somebody}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: somebody}
subjects: [{kind: User, name: somebody, apiGroup: rbac.authorization.k8s.io}]
"#;

/// A Secret that holds no key pair, which is only known to who may read it.
const THEIRS: &str = "{apiVersion: v1, kind: Secret, metadata: {name: theirs, namespace: there-ci}, stringData: {a: b}}";

/// A ring's enrolled namespace alone.
fn enrolled(ring: &str) -> String {
    namespaces(ring).split("---").next().unwrap_or_default().to_owned()
}
