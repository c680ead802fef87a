//! An image that Kyverno cannot read must not take the others of its Pod out
//! of the verification.

use anyhow::{Result, ensure};

use crate::{batch::CONTROL, common::run};

#[test]
fn an_unreadable_image_hides_no_other() {
    run(async |shared| {
        let world = &shared.world;
        if world.ring(CONTROL, "{.kind}").await.is_err() {
            world.ready_ring(CONTROL).await?;
        }
        let unsigned = world.push("hidden/app", "v1").await?;
        world.wait_until_refused(&format!("{CONTROL}-dev"), &unsigned).await?;
        let mut admitted = Vec::new();
        for bad in ["quay.io./x:v1", "quay.io/../x", "quay.io/X:v1", "a b", "{{x}}", "x@sha256:0"] {
            for first in [true, false] {
                let (a, b) = if first { (bad, unsigned.as_str()) } else { (&*unsigned, bad) };
                let pod = format!(
                    "{{apiVersion: v1, kind: Pod, metadata: {{generateName: hidden-, namespace: {CONTROL}-dev}}, \
                     spec: {{containers: [{{name: a, image: '{a}'}}, {{name: b, image: '{b}'}}]}}}}"
                );
                let create = ["create", "--dry-run=server", "--filename=-"];
                if world.run("kubectl", &create, &[], &pod).await.is_ok() {
                    admitted.push(format!("{a} beside {b}"));
                }
            }
        }
        ensure!(admitted.is_empty(), "admitted: {admitted:#?}");
        Ok(()) as Result<()>
    });
}
