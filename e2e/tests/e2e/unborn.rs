//! A ring whose first version has to wait is enrolled and closed all the same.

use anyhow::ensure;
use signingkeyring_e2e_testbed::{
    images::Verdict,
    world::{manifest, namespaces, wait_until},
};

use crate::common::run;

#[test]
fn nothing_unsigned_runs_while_a_ring_waits_for_its_first_version() {
    run(async |shared| {
        let world = &shared.world;
        let unsigned = world.push("unborn/app", "v1").await?;
        let missing = "  importFrom: {secret: {namespace: waiting-ci, name: none}}\n";
        for (ring, more, reason) in [
            ("halted", "  suspend: true\n", "False Suspended"),
            ("waiting", missing, "False ImportFailed"),
        ] {
            world.apply(&namespaces(ring)).await?;
            world.apply(&manifest(ring, more)).await?;
            world.wait_for_condition(ring, "KeysAvailable", reason).await?;
            let said = world.wait_for_condition(ring, "PolicyEnforced", "True Enforced").await?;
            ensure!(said.contains("because there is none yet"), "{said}");
            let verdict = world.admit(&format!("{ring}-dev"), &unsigned).await?;
            ensure!(matches!(verdict, Verdict::Refused(_)), "{ring}: {verdict:?}");
            ensure!(world.ring(ring, "{.status.versions}").await?.is_empty());
        }

        // What was asked meanwhile belongs to the first version.
        world.ask_for_rotation("halted", "a").await?;
        world.apply(&manifest("halted", "  suspend: false\n")).await?;
        world.apply(&manifest("waiting", "")).await?;
        for ring in ["halted", "waiting"] {
            world.wait_for_condition(ring, "Ready", "True").await?;
            ensure!(world.ring(ring, "{.status.versions[*].version}").await? == "1");
            let signed = world.push(&format!("unborn/{ring}"), "v1").await?;
            world.sign(&signed, &format!("{ring}-ci/image-signing")).await?;
            world.wait_until_admitted(&format!("{ring}-dev"), &signed).await?;
        }
        world.wait_for_field("halted", "{.status.observedRotation}", "a").await?;
        Ok(())
    });
}

#[test]
fn a_ring_that_never_had_a_version_loses_nothing_with_its_ledger() {
    run(async |shared| {
        let world = &shared.world;
        world.apply(&namespaces("barely")).await?;
        world.apply(&manifest("barely", "  suspend: true\n")).await?;
        world.wait_for_condition("barely", "PolicyEnforced", "True Enforced").await?;
        world.kubectl(&["delete", "secret", "ring-barely", "-n", "signing-system"]).await?;
        wait_until("it begins again", async || {
            let ledger = ["secret", "ring-barely", "-n", "signing-system"];
            Ok(world.get(&ledger, "{.kind}").await.is_ok())
        })
        .await?;
        ensure!(world.condition("barely", "Stalled").await?.trim().is_empty());
        world.kubectl(&["delete", "namespace", "barely-dev", "--wait=false"]).await?;
        world.kubectl(&["delete", "skr", "barely", "--timeout=60s"]).await?;
        Ok(())
    });
}
