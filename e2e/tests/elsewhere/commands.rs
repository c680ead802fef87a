//! What is printed where something is in the way: each command is run as it stands
//! there, and helps.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use signingkeyring_e2e_testbed::world::{
    World, commands, consent, manifest, namespaces, wait_until,
};

use crate::NAMESPACE;

const MARKS: &str = "signing.odj.cloud/rings";

/// A ring whose pipeline's namespace lets this installation publish.
async fn begin(world: &World, ring: &str, more: &str) -> Result<()> {
    begin_with(world, ring, more, "").await
}

/// The same where something is there before the ring.
async fn begin_with(world: &World, ring: &str, more: &str, before: &str) -> Result<()> {
    let theirs = consent(&format!("{ring}-ci"));
    let ours = theirs
        .replace("name: signingkeyring-pipeline}", "name: acme-signingkeyring-pipeline}")
        .replace("name: signingkeyring-operator,", "name: acme-signingkeyring-operator,")
        .replace("signing-system", NAMESPACE);
    ensure!(ours != theirs);
    let namespaces = namespaces(ring).replace(&theirs, &ours);
    world.apply(&format!("{namespaces}---\n{before}")).await?;
    world.apply(&manifest(ring, more)).await?;
    Ok(())
}

/// Runs the command in a message that begins so, and no other.
async fn obey(world: &World, message: &str, beginning: &str) -> Result<String> {
    let command = commands(message).find(|command| command.starts_with(beginning));
    world.do_as_told(command.with_context(|| format!("no {beginning} in {message}"))?).await
}

pub async fn help(world: &World) -> Result<()> {
    secrets(world).await?;
    ledgers(world).await?;
    policies(world).await?;
    looks(world).await?;
    the_gate(world).await?;
    labels(world).await?;
    the_end(world).await
}

/// Secrets that have a pipeline's name.
async fn secrets(world: &World) -> Result<()> {
    let delete = "kubectl delete secret image-signing --namespace=told-ci";
    let secret = ["secret", "image-signing", "-n", "told-ci"];
    let foreign = "{apiVersion: v1, kind: Secret, metadata: {name: image-signing, namespace: told-ci}, stringData: {theirs: a}}";
    begin_with(world, "told", "", foreign).await?;
    let said = world.wait_for_condition("told", "PipelinesPublished", "False SecretConflict");
    obey(world, &said.await?, delete).await?;
    world.wait_for_condition("told", "Ready", "True").await?;

    // One that cannot be changed when the next version comes.
    world
        .kubectl(&[
            "patch",
            "secret",
            "image-signing",
            "-n",
            "told-ci",
            "-p",
            r#"{"immutable":true}"#,
        ])
        .await?;
    world.ask_for_rotation("told", "b").await?;
    let said = world.wait_for_condition("told", "PipelinesPublished", "False SecretImmutable");
    obey(world, &said.await?, delete).await?;
    world.wait_for_field("told", "{.status.observedRotation}", "b").await?;
    world.wait_for_condition("told", "Ready", "True").await?;

    // One that is not known any more, and stays when the pipeline goes.
    let annotate =
        ["annotate", "secret", "image-signing", "-n", "told-ci", "signing.odj.cloud/ring-"];
    world.apply(&manifest("told", "  suspend: true\n")).await?;
    world.kubectl(&annotate).await?;
    world
        .apply(&manifest("told", "  suspend: true\n").replace("[{namespace: told-ci}]", "[]"))
        .await?;
    let said = world.wait_for_condition("told", "PipelinesPublished", "True SecretLeftBehind");
    obey(world, &said.await?, delete).await?;
    world.wait_for_condition("told", "PipelinesPublished", "True NoPipelines").await?;
    ensure!(world.get(&secret, "{.kind}").await.is_err(), "it is still there");
    world.apply(&manifest("told", "")).await?;
    world.wait_for_condition("told", "Ready", "True").await?;
    Ok(())
}

/// What has a ledger's name, and ledgers that are gone or older than their rule's mark.
async fn ledgers(world: &World) -> Result<()> {
    let foreign = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: ring-ledgers, namespace: {NAMESPACE}}}, stringData: {{theirs: a}}}}"
    );
    world.apply(&foreign).await?;
    begin(world, "ledgers", "").await?;
    let said = world.wait_for_condition("ledgers", "Stalled", "True SecretConflict").await?;
    let delete = format!("kubectl delete secret ring-ledgers --namespace={NAMESPACE}");
    obey(world, &said, &delete).await?;
    world.wait_for_condition("ledgers", "Ready", "True").await?;

    let policy = world.ring("ledgers", "{.status.policy.name}").await?;
    let path = format!("{{.metadata.annotations.{}}}", MARKS.replace('.', "\\."));
    let marks = world.get(&["clusterpolicy", &policy], &path).await?;
    let raised: Vec<String> = marks
        .split(' ')
        .map(|mark| match mark.strip_prefix("ledgers=").and_then(|m| m.split_once('.')) {
            Some((_, rest)) => format!("ledgers=999.{rest}"),
            None => mark.to_owned(),
        })
        .collect();
    let annotation = format!("{MARKS}={}", raised.join(" "));
    world.kubectl(&["annotate", "--overwrite", "clusterpolicy", &policy, &annotation]).await?;
    let said = world.wait_for_condition("ledgers", "Stalled", "True LedgerOutdated").await?;
    obey(world, &said, &format!("kubectl annotate clusterpolicy {policy}")).await?;
    world.wait_for_condition("ledgers", "Ready", "True").await?;

    world.kubectl(&["delete", "secret", "ring-ledgers", "-n", NAMESPACE]).await?;
    let said = world.wait_for_condition("ledgers", "Stalled", "True KeyMaterialLost").await?;
    obey(world, &said, "kubectl annotate --overwrite skr ledgers").await?;
    world.wait_for_field("ledgers", "{.status.currentVersion}", "2").await?;
    world.wait_for_condition("ledgers", "Ready", "True").await?;
    Ok(())
}

/// A policy of the operator's name that is somebody's.
async fn policies(world: &World) -> Result<()> {
    let foreign = "{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: signing-audit-0001}, spec: {rules: [{name: a, match: {any: [{resources: {kinds: [ConfigMap]}}]}, validate: {message: x, deny: {}}}]}}";
    world.apply(foreign).await?;
    begin(world, "audited", "  policy: {action: Audit}\n").await?;
    let said =
        world.wait_for_condition("audited", "PolicyEnforced", "False PolicyConflict").await?;
    obey(world, &said, "kubectl delete clusterpolicy signing-audit-0001").await?;
    world.wait_for_condition("audited", "Ready", "True").await?;
    Ok(())
}

/// Commands that show something.
async fn looks(world: &World) -> Result<()> {
    let unknown = "  revoked: [{version: 9, reason: test}]\n";
    world.apply(&manifest("told", unknown)).await?;
    let said = world.wait_for_condition("told", "RevocationsApplied", "False RevocationUnknown");
    let shown = obey(world, &said.await?, "kubectl get skr told").await?;
    ensure!(shown.contains("fingerprint: SHA256:"), "{shown}");
    world.apply(&manifest("told", "")).await?;

    // A namespace that cannot end.
    let held = "{apiVersion: v1, kind: ConfigMap, metadata: {name: held, namespace: audited-ci, finalizers: [example.org/held]}}";
    world.apply(held).await?;
    world.kubectl(&["delete", "namespace", "audited-ci", "--wait=false"]).await?;
    let said =
        world.wait_for_condition("audited", "PipelinesPublished", "False NamespaceTerminating");
    let said = said.await?;
    wait_until("what holds it up is shown", async || {
        let shown = obey(world, &said, "kubectl get namespace audited-ci").await?;
        Ok(shown.contains("example.org/held"))
    })
    .await?;
    let release = r#"{"metadata":{"finalizers":null}}"#;
    world.kubectl(&["patch", "configmap", "held", "-n", "audited-ci", "-p", release]).await?;
    let said = world.wait_for_condition("audited", "PipelinesPublished", "False NamespaceMissing");
    world.do_as_told(&said.await?).await?;
    let said = world.wait_for_condition("audited", "PipelinesPublished", "False AccessNotGranted");
    world.do_as_told(&said.await?).await?;
    world.wait_for_condition("audited", "Ready", "True").await?;

    // A Secret that somebody's finalizers hold up.
    let hold = r#"{"metadata":{"finalizers":["example.org/held"]}}"#;
    let patch = ["patch", "secret", "image-signing", "-n", "audited-ci", "-p"];
    world.kubectl(&[&patch[..], &[hold]].concat()).await?;
    let without = manifest("audited", "  policy: {action: Audit}\n")
        .replace("[{namespace: audited-ci}]", "[]");
    world.apply(&without).await?;
    let said = world.wait_for_condition("audited", "PipelinesPublished", "True SecretLeftBehind");
    let shown = obey(world, &said.await?, "kubectl get secret image-signing").await?;
    ensure!(shown.contains("example.org/held"));
    world.kubectl(&[&patch[..], &[release]].concat()).await?;
    world.wait_for_condition("audited", "PipelinesPublished", "True NoPipelines").await?;
    Ok(())
}

/// A question that somebody has stored.
async fn the_gate(world: &World) -> Result<()> {
    let policy = world.ring("told", "{.status.policy.name}").await?;
    let stored = format!(
        "{{apiVersion: signing.odj.cloud/v1alpha1, kind: GateQuestion, metadata: {{name: {policy}, namespace: {NAMESPACE}}}, spec: {{}}}}"
    );
    world.apply(&stored).await?;
    let said = world.wait_for_condition("told", "PolicyEnforced", "Unknown GateUnreadable").await?;
    obey(world, &said, "kubectl delete gatequestions.signing.odj.cloud").await?;
    world.wait_for_condition("told", "Ready", "True").await?;
    Ok(())
}

/// A label that names no ring.
async fn labels(world: &World) -> Result<()> {
    let off = ["label", "namespace", "told-dev", "signing.odj.cloud/ring-"];
    world.kubectl(&off).await?;
    let mut said = String::new();
    wait_until("nothing is enrolled", async || {
        said = world.condition("told", "Ready").await?;
        Ok(said.contains("no namespace is enrolled"))
    })
    .await?;
    world.do_as_told(&said.replace("namespace NAME", "namespace told-dev")).await?;
    world.wait_for_field("told", "{.status.enrolledNamespaces}", "1").await?;

    let stray = "{apiVersion: v1, kind: Namespace, metadata: {name: stray, labels: {signing.odj.cloud/ring: tolt}}}";
    world.apply(stray).await?;
    let mut said = String::new();
    wait_until("an event tells of it", async || {
        let of = "{.items[?(@.regarding.name==\"stray\")].note}";
        said = world.get(&["events.events.k8s.io", "-n", "default"], of).await?;
        Ok(said.contains("names no SigningKeyRing"))
    })
    .await?;
    world.do_as_told(&said.replace("=RING", "=told")).await?;
    let label = "{.metadata.labels.signing\\.odj\\.cloud/ring}";
    ensure!(world.get(&["namespace", "stray"], label).await?.is_empty());
    Ok(())
}

/// A ring that is to go although its namespaces are enrolled.
async fn the_end(world: &World) -> Result<()> {
    for ring in ["told", "ledgers", "audited"] {
        world.kubectl(&["delete", "skr", ring, "--wait=false"]).await?;
        let said = world.wait_for_condition(ring, "Ready", "False DeletionBlocked").await?;
        obey(world, &said, &format!("kubectl annotate --overwrite skr {ring}")).await?;
        wait_until("the ring is gone", async || {
            let all = world.kubectl(&["get", "skr", "--output=name"]).await?;
            Ok(!all.contains(&format!("/{ring}\n")))
        })
        .await?;
    }
    let left: Value =
        serde_json::from_str(&world.kubectl(&["get", "clusterpolicies", "-o=json"]).await?)?;
    let rings = left["items"].as_array().context("policies")?.iter();
    let rings = rings
        .filter(|policy| policy["metadata"]["annotations"][MARKS].to_string().contains("told="));
    ensure!(rings.count() == 0, "a rule of a ring that is gone");
    Ok(())
}
