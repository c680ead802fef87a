//! An image that Kyverno cannot parse carries no other past the check.

use anyhow::ensure;
use signingkeyring_e2e_testbed::images::Verdict;

use crate::common::run;

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
        for odd in odd {
            for images in [[odd, &unsigned], [&unsigned, odd], [odd, odd]] {
                let verdict = world.admit_all("odd-dev", &images).await?;
                ensure!(matches!(verdict, Verdict::Refused(_)), "{images:?}: {verdict:?}");
            }
        }
        let both = world.admit_all("odd-dev", &[&signed, &signed]).await?;
        ensure!(both == Verdict::Admitted, "{both:?}");
        Ok(())
    });
}
