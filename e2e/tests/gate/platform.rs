//! What platforms ask of pods in every namespace, the operator's too.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{kind::Kind, world::World};

use crate::{
    lives, rotates,
    turn::{in_turn, in_turn_only},
};

/// The usual policies: tags, labels, read-only roots, probes.
const BEST_PRACTICES: &str = r#"
{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: best-practices}, spec: {background: false, rules: [
  {name: tag, match: {any: [{resources: {kinds: [Pod]}}]}, validate: {failureAction: Enforce, message: "no tag", pattern: {spec: {containers: [{image: "*:*"}]}}}},
  {name: root, match: {any: [{resources: {kinds: [Pod]}}]}, validate: {failureAction: Enforce, message: "root", pattern: {spec: {containers: [{securityContext: {readOnlyRootFilesystem: true}}]}}}},
  {name: labels, match: {any: [{resources: {kinds: [Pod]}}]}, validate: {failureAction: Enforce, message: "labels", pattern: {metadata: {labels: {app.kubernetes.io/name: "?*"}}}}},
  {name: probes, match: {any: [{resources: {kinds: [Pod]}}]}, validate: {failureAction: Enforce, message: "probes", pattern: {spec: {containers: [{livenessProbe: {periodSeconds: ">0"}}]}}}}]}}
"#;

/// Images of the operator's namespace have to be signed by somebody else.
const VERIFIES_ALL: &str = r#"
{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {name: verifies-all}, spec: {background: false, webhookConfiguration: {failurePolicy: Fail, timeoutSeconds: 30}, rules: [
  {name: all, match: {any: [{resources: {kinds: [Pod]}}]}, verifyImages: [{imageReferences: ["*"], failureAction: Enforce, attestors: [{count: 1, entries: [{keys: {
    publicKeys: "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE/TrGMkRVrsVCx3vof5CBXIZ0YdZ2\nogRbMHVSSAs/idt2j/JtDaGtwboaqsja222d2wHDC3EKoNekBs095X0+rA==\n-----END PUBLIC KEY-----\n",
    rekor: {ignoreTlog: true}, ctlog: {ignoreSCT: true}}}]}]}]}]}}
"#;

const LIMITS: &str = "
{apiVersion: v1, kind: LimitRange, metadata: {name: platform, namespace: ASKED}, spec: {limits: [
  {type: Container, min: {cpu: 10m, memory: 16Mi}, default: {cpu: 200m, memory: 256Mi}}]}}
";

const QUOTA: &str = "
{apiVersion: v1, kind: ResourceQuota, metadata: {name: platform, namespace: ASKED}, spec: {hard: {pods: 0, requests.cpu: 0}}}
";

/// Applies something, has one ring be born under it and another rotate, and takes
/// it away.
async fn under(world: &World, name: &str, yaml: &str, kind: &[&str]) -> Result<()> {
    let before = format!("{name}-before");
    world.ready_ring(&before).await?;
    world.apply(yaml).await?;
    let lived = async {
        rotates(world, &before).await?;
        lives(world, name).await
    };
    let lived = lived.await;
    world.kubectl(&[&["delete"][..], kind].concat()).await?;
    lived
}

#[test]
fn best_practices_for_pods_do_not_matter() {
    in_turn(async |shared| {
        let kind = ["clusterpolicy", "best-practices"];
        under(&shared.world, "practices", BEST_PRACTICES, &kind).await
    });
}

#[test]
fn that_all_images_have_to_be_signed_by_others_does_not_matter() {
    in_turn(async |shared| {
        under(&shared.world, "verified", VERIFIES_ALL, &["clusterpolicy", "verifies-all"]).await
    });
}

#[test]
fn limits_for_containers_do_not_matter() {
    in_turn(async |shared| {
        let asked = Kind::under_test().asked_in();
        let kind = ["limitrange", "platform", "-n", asked];
        under(&shared.world, "limits", &LIMITS.replace("ASKED", asked), &kind).await
    });
}

#[test]
fn a_quota_that_is_used_up_does_not_matter() {
    in_turn(async |shared| {
        let asked = Kind::under_test().asked_in();
        let kind = ["resourcequota", "platform", "-n", asked];
        under(&shared.world, "quota", &QUOTA.replace("ASKED", asked), &kind).await
    });
}

/// Sets labels of the operator's namespace for as long as something takes.
async fn labelled(
    world: &World,
    labels: &[&str],
    during: impl AsyncFnOnce() -> Result<()>,
) -> Result<()> {
    let label = ["label", "--overwrite", "namespace", "signing-system"];
    world.kubectl(&[&label[..], labels].concat()).await?;
    let result = during().await;
    let off: Vec<String> =
        labels.iter().filter_map(|l| Some(format!("{}-", l.split_once('=')?.0))).collect();
    let off: Vec<&str> = off.iter().map(String::as_str).collect();
    world.kubectl(&[&label[..], &off].concat()).await?;
    result
}

#[test]
fn pod_security_does_not_matter() {
    in_turn(async |shared| {
        let world = &shared.world;
        let labels = [
            "pod-security.kubernetes.io/enforce=restricted",
            "pod-security.kubernetes.io/warn=restricted",
        ];
        labelled(world, &labels, async || lives(world, "restricted").await).await
    });
}

#[test]
fn a_label_on_the_operators_own_namespace_does_not_matter() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("own").await?;
        world.ready_ring("own-neighbour").await?;
        labelled(world, &["signing.odj.cloud/ring=own"], async || {
            rotates(world, "own").await?;
            rotates(world, "own-neighbour").await?;
            lives(world, "own-late").await
        })
        .await
    });
}

#[test]
fn one_that_somebody_creates_for_real_is_harmless() {
    in_turn_only(
        Kind::ClusterPolicy,
        "what the other is asked by cannot be created",
        async |shared| {
            let world = &shared.world;
            world.ready_ring("stored").await?;
            let policy = world.ring("stored", "{.status.policy.name}").await?;
            for namespace in ["default", "signing-system"] {
                let question = format!(
                    "{{apiVersion: signing.odj.cloud/v1alpha1, kind: GateQuestion, metadata: {{name: \
                 {policy}, namespace: {namespace}}}, spec: {{}}}}"
                );
                world.apply(&question).await?;
            }
            let text = world
                .wait_for_condition("stored", "PolicyEnforced", "Unknown GateUnreadable")
                .await?;
            let delete =
                "kubectl delete gatequestions.signing.odj.cloud --all --namespace signing-system";
            ensure!(text.contains(delete), "{text}");
            let delete: Vec<&str> = delete.split(' ').skip(1).collect();
            world.kubectl(&delete).await?;
            rotates(world, "stored").await?;
            world.kubectl(&["delete", "gatequestion", &policy, "-n", "default"]).await?;
            Ok(())
        },
    );
}
