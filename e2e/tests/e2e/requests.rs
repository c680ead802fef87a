//! Which requests are verified, by what, and with which verdict: every request
//! that carries images, and those that leave them as they are.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};

use crate::common::{run, run_on_older_kyverno, run_on_present_kyverno};

mod ask;

use ask::{
    NOTE,
    Request::{Create, Update},
    all, annotate, ask, debug, harmless, init, pinned, pod, set_image, store, ungate,
};

/// The namespace `NAME-old`, which is not enrolled yet.
async fn not_enrolled(world: &World, ring: &str) -> Result<Api<Pod>> {
    let namespace = format!("{ring}-old");
    world
        .apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"))
        .await?;
    wait_until("the namespace has its ServiceAccount", async || {
        Ok(world.get(&["serviceaccount", "default", "-n", &namespace], "{.kind}").await.is_ok())
    })
    .await?;
    Ok(Api::namespaced(world.client().await?, &namespace))
}

/// Enrols it, and waits until Kyverno knows.
async fn enrol(world: &World, ring: &str, unsigned: &str) -> Result<()> {
    let (namespace, label) = (format!("{ring}-old"), format!("signing.odj.cloud/ring={ring}"));
    world.kubectl(&["label", "namespace", &namespace, &label]).await?;
    world.wait_until_refused(&namespace, unsigned).await
}

#[test]
fn every_request_that_carries_images_is_verified() {
    run(async |shared| {
        let world = &shared.world;
        let registry = &world.info.registry;
        let tagged = format!("{registry}/requests-base/tool:1");
        let exclude = format!(
            "  policy: {{exclude: [{{image: '{tagged}', reason: test}}, \
             {{image: '{registry}/requests-free/any:*', reason: test}}]}}\n"
        );
        world.apply(&namespaces("requests")).await?;
        world.apply(&manifest("requests", &exclude)).await?;
        world.wait_for_condition("requests", "Ready", "True").await?;

        let unsigned = world.push("requests/unsigned", "v1").await?;
        let signed = world.push("requests/app", "v1").await?;
        world.sign(&signed, "requests-ci/image-signing").await?;
        let signed_tag = format!("{registry}/requests/app:v1");
        let free = format!("{registry}/requests-free/any:v1");
        world.push("requests-free/any", "v1").await?;
        let one = world.push("requests-base/tool", "1").await?;
        let two = world.push("requests-base/tool", "2").await?;
        let digest = |image: &str| image.rsplit_once('@').map(|(_, d)| d.to_owned());
        let one_pinned = format!("{tagged}@{}", digest(&one).context("no digest")?);
        let other_digest = format!("{tagged}@{}", digest(&two).context("no digest")?);
        let other_tag =
            format!("{registry}/requests-base/tool:2@{}", digest(&one).context("no digest")?);
        world.wait_until_admitted("requests-dev", &signed).await?;
        world.wait_until_refused("requests-dev", &unsigned).await?;

        let pods: Api<Pod> = Api::namespaced(world.client().await?, "requests-dev");
        store(&pods, "base", &[&signed_tag]).await?;
        let mut good = vec![&signed, &signed_tag, &free, &tagged];
        let mut bad = vec![&unsigned, &one, &two, &other_digest, &other_tag];
        // Whether an excluded image is looked at is what the kinds differ in: one pins
        // it like all others, and knows the tag that a digest was pinned from.
        let left: &[&String] = match Kind::under_test() {
            Kind::ClusterPolicy => {
                good.push(&one_pinned);
                &[]
            }
            Kind::ImageValidatingPolicy => {
                bad.push(&one_pinned);
                &[&free, &tagged]
            }
        };
        for image in &good {
            let requests = vec![
                Create(pod("new", &[image])),
                Create(pod("new", &[&signed, image, image])),
                Create(init(image, &signed)),
                set_image("base", image),
                debug("base", image),
            ];
            pinned(&pods, left, requests).await.with_context(|| (*image).to_owned())?;
        }
        for image in &bad {
            let requests = vec![
                Create(pod("new", &[image])),
                Create(pod("new", &[&signed, image])),
                Create(pod("new", &[&free, image])),
                Create(init(image, &signed)),
                set_image("base", image),
                debug("base", image),
            ];
            all(&pods, false, requests).await?;
        }
        all(&pods, true, harmless("base")).await?;
        // What was admitted comes back as it was stored: a copy, and its own manifest.
        for image in &good {
            let (_, stored) = ask(&pods, &Create(pod("copy", &[image]))).await?;
            let stored = stored.context("no Pod came back")?;
            let images: Vec<&str> = stored
                .spec
                .iter()
                .flat_map(|spec| &spec.containers)
                .filter_map(|c| c.image.as_deref())
                .collect();
            let again = vec![Create(pod("again", &images)), debug("base", images[0])];
            pinned(&pods, left, again).await?;
        }
        // The tag moves: a digest that it does not point to any more is not it.
        world.run("crane", &["copy", &two, &tagged], &[], "").await?;
        all(&pods, false, vec![Create(pod("new", &[&one_pinned]))]).await?;
        let other = vec![Create(pod("new", &[&other_digest]))];
        match Kind::under_test() {
            Kind::ClusterPolicy => pinned(&pods, &[], other).await,
            Kind::ImageValidatingPolicy => all(&pods, false, other).await,
        }
    });
}

/// Why tests are left out on Kyverno 1.18.
const UNCHANGED: &str = "it takes an image that does not change for verified";

#[test]
fn what_an_older_kyverno_does_not_look_at_starts() {
    run_on_older_kyverno("this one looks at it", async |shared| {
        let world = &shared.world;
        world.ready_ring("older").await?;
        let unsigned = world.push("older/unsigned", "v1").await?;
        let pods = not_enrolled(world, "older").await?;
        store(&pods, "unsigned", &[&unsigned]).await?;
        enrol(world, "older", &unsigned).await?;
        // As docs/policy-kinds.md says.
        all(&pods, true, harmless("unsigned")).await?;
        all(&pods, true, vec![ungate("unsigned")]).await?;
        let other = unsigned.replace("unsigned", "other");
        all(&pods, false, vec![set_image("unsigned", &other), debug("unsigned", &unsigned)]).await
    });
}

#[test]
fn an_update_that_changes_no_image_is_judged_by_no_rule_of_today() {
    run_on_present_kyverno(UNCHANGED, async |shared| {
        let world = &shared.world;
        world.ready_ring("before").await?;
        let unsigned = world.push("before/unsigned", "v1").await?;
        let signed = world.push("before/app", "v1").await?;
        world.sign(&signed, "before-ci/image-signing").await?;
        let pods = not_enrolled(world, "before").await?;
        store(&pods, "unsigned", &[&unsigned]).await?;
        store(&pods, "two", &[&unsigned, &signed]).await?;
        store(&pods, "unreadable", &["quay.io./x:v1"]).await?;
        // One that was annotated before anybody looked.
        store(&pods, "noted", &[&unsigned]).await?;
        let note = json!({"metadata": {"annotations": {NOTE: "{}"}}});
        pods.patch("noted", &PatchParams::default(), &Patch::Strategic(&note)).await?;
        enrol(world, "before", &unsigned).await?;

        let forged = passes(world, "before", &unsigned).await?;
        let hidden = forged.replace("/signing", "\\u002fsigning");
        ensure!(hidden != forged);
        for pod in ["unsigned", "two", "unreadable", "noted"] {
            all(&pods, true, harmless(pod)).await?;
            let requests = vec![
                ungate(pod),
                set_image(pod, &unsigned.replace("unsigned", "other")),
                debug(pod, &unsigned),
            ];
            all(&pods, false, requests).await?;
        }
        for pod in ["unsigned", "two", "unreadable", "noted"] {
            all(&pods, false, vec![annotate(pod, &forged), annotate(pod, &hidden)]).await?;
        }
        all(&pods, true, vec![debug("unsigned", &signed), set_image("unsigned", &signed)]).await?;

        // Somebody else's policy writes its own verdict beside ours.
        world.apply(&theirs("before-old")).await?;
        wait_until("the other policy is at work", async || {
            let (_, pod) = ask(&pods, &Create(pod("new", &[&signed]))).await?;
            let note = pod.and_then(|pod| pod.annotations().get(NOTE).cloned());
            Ok(note.is_some_and(|note| note.contains("theirs")))
        })
        .await?;
        for pod in ["unsigned", "two", "noted"] {
            all(&pods, true, harmless(pod)).await?;
        }
        all(&pods, false, vec![set_image("unsigned", &unsigned.replace("unsigned", "other"))])
            .await?;
        world.kubectl(&["delete", "clusterpolicy", "theirs"]).await?;
        Ok(())
    });
}

/// A note in which an image passed every rule that the ring has.
async fn passes(world: &World, ring: &str, image: &str) -> Result<String> {
    let (policy, rules) = match Kind::under_test() {
        Kind::ClusterPolicy => {
            let policy = world.ring(ring, "{.status.policy.name}").await?;
            let rules = world.rules(&policy, ring).await?;
            (policy, rules)
        }
        // It neither writes notes nor reads them; one of what would be read elsewhere.
        Kind::ImageValidatingPolicy => {
            let gates = format!("{ring}.gates-01234567");
            (Kind::ClusterPolicy.enforce(1), vec![json!({"name": ring}), json!({"name": gates})])
        }
    };
    let names = rules.iter().filter_map(|rule| rule["name"].as_str());
    let passes: serde_json::Map<String, Value> =
        names.map(|name| (name.to_owned(), json!({image: "pass"}))).collect();
    Ok(json!({"version": 1, "policies": {format!("/{policy}"): passes}}).to_string())
}

/// A policy of somebody else that verifies images too, by a key of its own, and
/// refuses nothing.
fn theirs(namespace: &str) -> String {
    let key = "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt\\n6zOg9KE5RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9Q==\\n-----END PUBLIC KEY-----\\n";
    format!(
        "{{apiVersion: kyverno.io/v1, kind: ClusterPolicy, metadata: {{name: theirs}}, spec: {{background: false, \
         webhookConfiguration: {{failurePolicy: Fail}}, rules: [{{name: theirs, match: {{any: [{{resources: {{kinds: [Pod], namespaces: [{namespace}]}}}}]}}, \
         verifyImages: [{{type: Cosign, failureAction: Audit, imageReferences: ['*'], mutateDigest: false, verifyDigest: false, required: false, \
         attestors: [{{count: 1, entries: [{{keys: {{publicKeys: \"{key}\", rekor: {{ignoreTlog: true, url: 'https://rekor.sigstore.dev'}}, ctlog: {{ignoreSCT: true}}}}}}]}}]}}]}}]}}}}"
    )
}

#[test]
fn a_pod_behind_a_gate_is_judged_when_it_leaves_it() {
    run_on_present_kyverno(UNCHANGED, async |shared| {
        let world = &shared.world;
        world.ready_ring("gated").await?;
        let pods: Api<Pod> = Api::namespaced(world.client().await?, "gated-dev");
        let first = world.push("gated/app", "v1").await?;
        world.sign(&first, "gated-ci/image-signing").await?;
        world.wait_until_admitted("gated-dev", &first).await?;
        let stored = store(&pods, "first", &[&first]).await?;
        // One that Kyverno wrote, where it writes any.
        let note = match Kind::under_test() {
            Kind::ClusterPolicy => {
                stored.annotations().get(NOTE).context("Kyverno noted nothing")?.clone()
            }
            Kind::ImageValidatingPolicy => passes(world, "gated", &first).await?,
        };
        all(&pods, true, vec![ungate("first")]).await?;

        world.rotate("gated", "b").await?;
        let second = world.push("gated/app", "v2").await?;
        world.sign(&second, "gated-ci/image-signing").await?;
        world.wait_until_admitted("gated-dev", &second).await?;
        store(&pods, "second", &[&second]).await?;
        store(&pods, "pair", &[&first, &first]).await?;
        let mut two = pod("two", &[&first]);
        two["spec"]["schedulingGates"] = json!([{"name": "test/held"}, {"name": "test/other"}]);
        pods.create(&PostParams::default(), &serde_json::from_value(two)?).await?;
        all(&pods, true, vec![ungate("first"), ungate("second"), ungate("pair")]).await?;

        world.apply(&manifest("gated", "  revoked: [{version: 1, reason: test}]\n")).await?;
        let wanted = "True RevocationsApplied";
        world.wait_for_condition("gated", "RevocationsApplied", wanted).await?;
        let both = |note: &str| json!({"metadata": {"annotations": {NOTE: note}, "labels": {"a": "b"}}, "spec": {"schedulingGates": null}});
        let forged = passes(world, "gated", &first).await?;
        let refused = vec![
            ungate("first"),
            Update("first", both(&note)),
            Update("first", both(&forged)),
            annotate("first", &forged),
            // By the guard: it is held back still.
            annotate("second", &forged),
        ];
        all(&pods, false, refused).await?;
        all(&pods, true, harmless("first")).await?;
        all(&pods, true, vec![ungate("second")]).await?;
        // One gate of two lets nothing start, and nothing is written down of it.
        let half =
            json!({"spec": {"schedulingGates": [{"$patch": "delete", "name": "test/other"}]}});
        let half = Patch::Strategic(half);
        let half = pods.patch("two", &PatchParams::default(), &half).await;
        match Kind::under_test() {
            Kind::ClusterPolicy => {
                let gates = half?.spec.and_then(|spec| spec.scheduling_gates);
                ensure!(gates.is_some_and(|gates| gates.len() == 1));
            }
            // It does not wait for the last one.
            Kind::ImageValidatingPolicy => ensure!(half.is_err(), "{half:?}"),
        }
        all(&pods, false, vec![ungate("two")]).await?;
        // An image that is changed beside a note has the note replaced.
        let mut put_in = json!({"metadata": {"annotations": {NOTE: forged}}});
        put_in["spec"] = json!({"containers": [{"name": "app-1", "image": second}]});
        // One whose own image passes does not carry a pass for another one.
        let released = Patch::Strategic(json!({"spec": {"schedulingGates": null}}));
        pods.patch("second", &PatchParams::default(), &released).await?;
        let note = json!({"metadata": {"annotations": {NOTE: forged}}});
        match Kind::under_test() {
            Kind::ClusterPolicy => {
                pods.patch("pair", &PatchParams::default(), &Patch::Strategic(&put_in)).await?;
            }
            // Nobody replaces it, and the guard has it refused.
            Kind::ImageValidatingPolicy => {
                all(&pods, false, vec![Update("pair", put_in)]).await?;
            }
        }
        pods.patch("second", &PatchParams::default(), &Patch::Strategic(&note)).await?;
        all(&pods, false, vec![ungate("pair"), set_image("second", &first)]).await
    });
}

/// The job controller takes its finalizer off a Pod when that has ended.
#[test]
fn a_job_from_before_the_enrolment_completes() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("jobs").await?;
        let unsigned = world.push("jobs/unsigned", "v1").await?;
        let pods = not_enrolled(world, "jobs").await?;
        let job = format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{name: batch, namespace: jobs-old}}, spec: {{template: {{spec: \
             {{restartPolicy: Never, containers: [{{name: app, image: '{unsigned}'}}]}}}}}}}}"
        );
        world.apply(&job).await?;
        let mut name = String::new();
        wait_until("the Job has its Pod", async || {
            let all = pods.list(&kube::api::ListParams::default()).await?;
            name = all.items.first().map(ResourceExt::name_any).unwrap_or_default();
            Ok(!name.is_empty())
        })
        .await?;
        enrol(world, "jobs", &unsigned).await?;
        let ended = json!({"status": {"phase": "Succeeded"}});
        pods.patch_status(&name, &PatchParams::default(), &Patch::Merge(&ended)).await?;
        wait_until("the Job is complete", async || {
            let path = "{.status.conditions[?(@.type==\"Complete\")].status}";
            Ok(world.get(&["job", "batch", "-n", "jobs-old"], path).await? == "True")
        })
        .await
    });
}
