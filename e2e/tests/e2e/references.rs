//! An image that Kyverno cannot parse carries no other past the check.

use anyhow::{Result, ensure};

use crate::common::run;

fn pod(images: [&str; 2]) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{generateName: probe-, namespace: odd-dev}}, spec: \
         {{containers: [{{name: a, image: '{}'}}, {{name: b, image: '{}'}}]}}}}",
        images[0], images[1]
    )
}

#[test]
fn an_image_that_cannot_be_parsed_is_refused() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("odd").await?;
        let unsigned = world.push("odd/unsigned", "v1").await?;
        let signed = world.push("odd/app", "v1").await?;
        world.sign(&signed, "odd-ci/image-signing").await?;
        world.wait_until_admitted("odd-dev", &signed).await?;
        world.wait_until_refused("odd-dev", &unsigned).await?;
        let long = format!("quay.io/{}", "a".repeat(300));
        let short = "a".repeat(250);
        let odd = [
            "quay.io./x:v1",
            "quay.io/../x",
            "quay.io/X:v1",
            "Foo/x:v1",
            "a b",
            "{{x}}",
            "x@sha256:0",
            "quay.io//x",
            "[::1]:5000/x",
            "x:",
            "-x",
            &long,
            &short,
        ];
        let create = ["create", "--dry-run=server", "--filename=-"];
        for odd in odd {
            for images in [[odd, &unsigned], [&unsigned, odd], [odd, odd]] {
                let result = world.run("kubectl", &create, &[], &pod(images)).await;
                let text = match result {
                    Ok(_) => anyhow::bail!("admitted: {images:?}"),
                    Err(error) => format!("{error:#}"),
                };
                ensure!(text.contains("denied the request"), "{images:?}: {text}");
            }
        }
        world.run("kubectl", &create, &[], &pod([&signed, &signed])).await?;
        Ok(()) as Result<()>
    });
}
