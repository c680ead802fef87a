//! Images that others build, copy and run.

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, wait_until},
};

use crate::common::run;

fn digest(image: &str) -> &str {
    image.rsplit_once('@').map_or("", |(_, digest)| digest)
}

async fn refused(world: &World, namespace: &str, image: &str, why: &str) -> Result<()> {
    match world.admit(namespace, image).await? {
        Verdict::Refused(text) => ensure!(text.contains(why), "{image}: {text}"),
        other => anyhow::bail!("{image}: {other:?}"),
    }
    Ok(())
}

#[test]
fn an_index_that_is_signed_alone_admits_itself_and_not_its_images() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("multiarch").await?;
        let child = world.push("multiarch/app", "amd64").await?;
        let index = format!("{}/multiarch/app:v1", world.info.registry);
        let append = ["index", "append", "--manifest", &child, "--tag", &index];
        world.run("crane", &append, &[], "").await?;
        let found = world.run("crane", &["digest", &index], &[], "").await?;
        let by_digest = format!("{}@{}", index.trim_end_matches(":v1"), found.trim());
        world.sign(&by_digest, "multiarch-ci/image-signing").await?;
        // Kyverno looks at the index alone, by tag and by digest.
        for image in [&index, &by_digest] {
            let verdict = world.admit("multiarch-dev", image).await?;
            ensure!(verdict == Verdict::Admitted, "{image}: {verdict:?}");
        }
        refused(world, "multiarch-dev", &child, Kind::under_test().unsigned()).await?;
        // What helps: cosign signs what the index names, too.
        let sign = [
            "sign",
            "--yes",
            "--recursive",
            "--key",
            "k8s://multiarch-ci/image-signing",
            "--new-bundle-format=false",
            "--use-signing-config=false",
            "--tlog-upload=false",
            &by_digest,
        ];
        world.run("cosign", &sign, &[], "").await?;
        ensure!(world.admit("multiarch-dev", &child).await? == Verdict::Admitted);
        Ok(())
    });
}

#[test]
fn a_promoted_image_needs_its_signature_beside_it() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("promoted").await?;
        let image = world.push("promoted/staging", "v1").await?;
        world.sign(&image, "promoted-ci/image-signing").await?;
        let target = format!("{}/promoted/live:v1", world.info.registry);
        world.run("crane", &["copy", &image, &target], &[], "").await?;
        refused(world, "promoted-dev", &target, Kind::under_test().unsigned()).await?;
        // The signature is a tag of its own.
        let tag = format!("{}.sig", digest(&image).replace(':', "-"));
        let (from, _) = image.rsplit_once('@').context("no digest")?;
        let (to, _) = target.rsplit_once(':').context("no tag")?;
        let copy = ["copy", &format!("{from}:{tag}"), &format!("{to}:{tag}")];
        world.run("crane", &copy, &[], "").await?;
        ensure!(world.admit("promoted-dev", &target).await? == Verdict::Admitted);
        // So does cosign, in one step.
        let other = format!("{}/promoted/other:v1", world.info.registry);
        world.run("cosign", &["copy", &image, &other], &[], "").await?;
        ensure!(world.admit("promoted-dev", &other).await? == Verdict::Admitted);
        Ok(())
    });
}

#[test]
fn a_controller_is_admitted_and_its_pods_are_not() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("workloads").await?;
        let image = world.push("workloads/app", "v1").await?;
        let tag = format!("{}/workloads/app:v1", world.info.registry);
        let pod =
            format!("{{restartPolicy: RESTART, containers: [{{name: app, image: '{tag}'}}]}}");
        let deployment = format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: app, namespace: workloads-dev}}, spec: {{selector: {{matchLabels: {{app: app}}}}, template: {{metadata: {{labels: {{app: app}}}}, spec: {}}}}}}}",
            pod.replace("RESTART", "Always")
        );
        let job = format!(
            "{{apiVersion: batch/v1, kind: Job, metadata: {{name: job, namespace: workloads-dev}}, spec: {{template: {{spec: {}}}}}}}",
            pod.replace("RESTART", "Never")
        );
        world.apply(&format!("{deployment}\n---\n{job}")).await?;
        for kind in ["ReplicaSet", "Job"] {
            wait_until(&format!("the {kind} says why it has no pods"), async || {
                let field =
                    format!("--field-selector=reason=FailedCreate,involvedObject.kind={kind}");
                let get = [
                    "get",
                    "events",
                    "-n",
                    "workloads-dev",
                    &field,
                    "-o=jsonpath={.items[*].message}",
                ];
                Ok(world.kubectl(&get).await?.contains(&Kind::under_test().refusal("workloads")))
            })
            .await?;
        }
        // Once it is signed, they try again by themselves.
        world.sign(&image, "workloads-ci/image-signing").await?;
        for selector in ["app=app", "batch.kubernetes.io/job-name=job"] {
            wait_until(&format!("a pod of {selector}"), async || {
                let path = "{.items[*].spec.containers[0].image}";
                let images =
                    world.get(&["pods", "-n", "workloads-dev", "-l", selector], path).await?;
                Ok(images.contains(&format!("{tag}@{}", digest(&image))))
            })
            .await?;
        }
        // What GitOps compares is as it was applied: only pods are pinned.
        let path = "{.spec.template.spec.containers[0].image}";
        ensure!(world.get(&["deployment", "app", "-n", "workloads-dev"], path).await? == tag);
        Ok(())
    });
}
