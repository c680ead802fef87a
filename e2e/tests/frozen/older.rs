//! A kind of policy that is an older Kyverno's: it is as if it were not there.

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::world::{World, manifest, namespaces};

use crate::turn::{self, in_turn};

const CRD: &str = "imagevalidatingpolicies.policies.kyverno.io";

/// What the schema has since Kyverno 1.19.
const NEWEST: [&str; 2] =
    ["properties.spec.properties.attestors.items.properties.cosign.properties", "trustedRoot"];

/// Where that is in the CRD: as a JSON pointer, and what is there.
async fn newest_field(world: &World) -> Result<(String, String)> {
    let versions = world.get(&["crd", CRD], "{.spec.versions[*].name}").await?;
    let at = versions.split(' ').position(|version| version == "v1");
    let at = at.with_context(|| format!("no v1 among {versions}"))?;
    let [parent, field] = NEWEST;
    let schema = format!("spec.versions[{at}].schema.openAPIV3Schema.{parent}.{field}");
    let path =
        format!("/{}", schema.replace(&format!("[{at}]"), &format!(".{at}")).replace('.', "/"));
    Ok((path, world.get(&["crd", CRD], &format!("{{.{schema}}}")).await?))
}

/// As where Kyverno is taken back to 1.18, and upgraded again.
#[test]
fn no_new_key_signs_under_a_kind_of_an_older_kyverno() {
    in_turn(async |shared| {
        let world = &shared.world;
        turn::kill(shared).await?;
        turn::start(shared, &[]).await?;
        let spec = "  policy: {kind: ImageValidatingPolicy}\n";
        world.apply(&namespaces("aged")).await?;
        world.apply(&manifest("aged", spec)).await?;
        world.wait_for_condition("aged", "Ready", "True").await?;
        let patch = async |patch: String| {
            world.kubectl(&["patch", "crd", CRD, "--type=json", "-p", &patch]).await
        };
        let (path, field) = newest_field(world).await?;
        patch(format!(r#"[{{"op": "remove", "path": "{path}"}}]"#)).await?;
        let too_old = async |ring: &str, words: &str| {
            let said = world.wait_for_condition(ring, "PolicyEnforced", "False KyvernoMissing");
            let said = said.await?;
            ensure!(said.contains("as Kyverno 1.19 or newer does"), "{said}");
            ensure!(said.contains(words), "{said}");
            anyhow::Ok(())
        };
        too_old("aged", "it is not known whether images are verified").await?;
        world.ask_for_rotation("aged", "b").await?;
        world.apply(&namespaces("late-aged")).await?;
        world.apply(&manifest("late-aged", spec)).await?;
        too_old("late-aged", "OPEN").await?;
        // One that starts knows no more than that.
        turn::kill(shared).await?;
        world.apply(&namespaces("later-aged")).await?;
        world.apply(&manifest("later-aged", spec)).await?;
        turn::start(shared, &[]).await?;
        too_old("later-aged", "OPEN").await?;
        too_old("aged", "it is not known whether images are verified").await?;
        // A ring of another test may leave the policy meanwhile, which writes it: whatever is in
        // it by then, nobody was asked about it, so no new key signs.
        ensure!(world.ring("aged", "{.status.currentVersion}").await? == "1");
        for ring in ["late-aged", "later-aged"] {
            let secret = ["get", "secret", "image-signing", &format!("--namespace={ring}-ci")];
            ensure!(world.kubectl(&secret).await.is_err(), "{ring} signs");
        }

        patch(format!(r#"[{{"op": "add", "path": "{path}", "value": {field}}}]"#)).await?;
        world.wait_for_field("aged", "{.status.observedRotation}", "b").await?;
        for ring in ["aged", "late-aged", "later-aged"] {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        turn::kill(shared).await
    });
}
