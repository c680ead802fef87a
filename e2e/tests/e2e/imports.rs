//! Key pairs that are taken over, and which are not: another ring's, and what
//! cosign would not read.

use anyhow::{Context, Result, anyhow, ensure};
use base64ct::{Base64, Encoding};
use serde_json::json;
use signingkeyring_e2e_testbed::world::{World, manifest, namespaces};

use crate::common::run;

const REFUSED: &str = "cannot be taken over, and none is minted:";

fn importing(ring: &str, namespace: &str, secret: &str) -> String {
    let source = format!("{{namespace: {namespace}, name: {secret}}}");
    manifest(ring, &format!("  importFrom: {{secret: {source}}}\n"))
}

/// Lets the operator read a Secret, as its namespace's owner does.
async fn grant(world: &World, namespace: &str, secret: &str) -> Result<()> {
    let (role, namespace) = (format!("import-{secret}"), format!("--namespace={namespace}"));
    let name = format!("--resource-name={secret}");
    let rule = ["create", "role", &role, &namespace, "--verb=get", "--resource=secrets", &name];
    world.kubectl(&rule).await?;
    let account = "--serviceaccount=signing-system:signingkeyring-operator";
    let role = ["create", "rolebinding", &role, &namespace, &format!("--role={role}"), account];
    world.kubectl(&role).await?;
    Ok(())
}

#[test]
fn a_key_of_another_ring_is_not_taken_over() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("owner").await?;
        let image = world.push("owner/app", "v1").await?;
        world.sign(&image, "owner-ci/image-signing").await?;
        world.wait_until_admitted("owner-dev", &image).await?;

        // The Secret that the operator wrote for the other ring's pipeline.
        world.apply(&namespaces("deputy")).await?;
        world.apply(&importing("deputy", "owner-ci", "image-signing")).await?;
        let wanted = format!(
            "False ImportFailed the key pair in Secret owner-ci/image-signing {REFUSED} its \
             annotation signing.odj.cloud/ring says that it is a pipeline's Secret of ring owner"
        );
        world.wait_for_condition("deputy", "Stalled", "True ImportFailed").await?;
        world.wait_for_condition("deputy", "KeysAvailable", &wanted).await?;

        // The same key in a Secret that says nothing of it.
        let secret = ["secret", "image-signing", "-n", "owner-ci"];
        let data = world.get(&secret, "{.data}").await?;
        let copy = format!(
            "{{apiVersion: v1, kind: Secret, metadata: {{name: copy, namespace: deputy-ci}}, data: {data}}}"
        );
        world.apply(&copy).await?;
        grant(world, "deputy-ci", "copy").await?;
        world.apply(&importing("deputy", "deputy-ci", "copy")).await?;
        let wanted = format!(
            "False ImportFailed the key pair in Secret deputy-ci/copy {REFUSED} ring owner knows \
             this key"
        );
        world.wait_for_condition("deputy", "KeysAvailable", &wanted).await?;

        // Nor when it signs no more, or is revoked.
        world.rotate("owner", "b").await?;
        let revoked = "  revoked: [{version: 1, reason: test}]\n";
        world.apply(&manifest("owner", revoked)).await?;
        let applied = "True RevocationsApplied";
        world.wait_for_condition("owner", "RevocationsApplied", applied).await?;
        world.kubectl(&["annotate", "skr", "deputy", "example.org/look=again"]).await?;
        world.wait_for_condition("deputy", "KeysAvailable", &wanted).await?;
        ensure!(world.ring("deputy", "{.status.versions}").await?.is_empty());
        let ledger = ["secret", "ring-deputy", "-n", "signing-system"];
        ensure!(world.get(&ledger, "{.data}").await?.is_empty(), "it has a private key");
        world.wait_until_refused("deputy-dev", &image).await?;

        world.apply(&manifest("deputy", "")).await?;
        world.wait_for_condition("deputy", "Ready", "True").await?;
        world.wait_until_refused("deputy-dev", &image).await
    });
}

#[test]
fn what_cosign_would_not_read_is_not_taken_over() {
    run(async |shared| {
        let world = &shared.world;
        world.apply(&namespaces("strict")).await?;
        grant(world, "strict-ci", "cosign").await?;
        let password = [("COSIGN_PASSWORD", "")];
        let folder = world.info.folder.join("strict");
        std::fs::create_dir_all(&folder)?;
        for name in ["own", "other"] {
            let prefix = folder.join(name).display().to_string();
            let make = ["generate-key-pair", "--output-key-prefix", &prefix];
            world.run("cosign", &make, &password, "").await?;
        }
        let read = |name: &str| std::fs::read_to_string(folder.join(name));
        let (key, public, other) = (read("own.key")?, read("own.pub")?, read("other.pub")?);
        let apply = async |key: &str, public: Option<&str>| {
            let mut data = json!({"cosign.key": key, "cosign.password": ""});
            if let Some(public) = public {
                data["cosign.pub"] = public.into();
            }
            let secret = json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "cosign", "namespace": "strict-ci"},
                "stringData": data,
            });
            let delete = ["delete", "secret", "cosign", "-n", "strict-ci", "--ignore-not-found"];
            world.kubectl(&delete).await?;
            world.apply(&secret.to_string()).await
        };
        let refused = async |why: &str| {
            let wanted = format!(
                "False ImportFailed the key pair in Secret strict-ci/cosign {REFUSED} {why}"
            );
            world.wait_for_condition("strict", "KeysAvailable", &wanted).await
        };

        // On one line. cosign itself refuses it, which is why.
        let one_line = key.trim_end().replace('\n', "");
        apply(&one_line, Some(&public)).await?;
        let image = world.push("strict/app", "v0").await?;
        let by_cosign = world.sign(&image, "strict-ci/cosign").await.unwrap_err().to_string();
        ensure!(by_cosign.contains("invalid pem block"), "{by_cosign}");
        world.apply(&importing("strict", "strict-ci", "cosign")).await?;
        refused("not an encrypted cosign private key: it has no PEM block as cosign reads it")
            .await?;

        apply(&key, Some("none")).await?;
        refused("its cosign.pub is no P-256 public key in PEM.").await?;
        apply(&key, Some(&other)).await?;
        let said =
            refused("its cosign.pub belongs to another private key than its cosign.key.").await?;
        ensure!(world.ring("strict", "{.status.versions}").await?.is_empty());
        // What it says prints what it says.
        let (_, command) = said.split_once("prints: cosign ").context("no command")?;
        let command: Vec<&str> = command.split_whitespace().collect();
        ensure!(world.run("cosign", &command, &[], "").await? == public, "{command:?}");

        // Text around the key and no public key are nothing to cosign.
        let around = format!("of strict\r\n{}the end", key.replace('\n', "  \r\n"));
        apply(&around, None).await?;
        world.sign(&image, "strict-ci/cosign").await?;
        world.wait_for_condition("strict", "Ready", "True").await?;
        world.wait_until_admitted("strict-dev", &image).await?;
        let published = ["secret", "image-signing", "-n", "strict-ci"];
        for (entry, wanted) in [("cosign.key", &key), ("cosign.pub", &public)] {
            let path = format!("{{.data.{}}}", entry.replace('.', "\\."));
            let sealed = world.get(&published, &path).await?;
            let found = Base64::decode_vec(&sealed).map_err(|error| anyhow!("{error}"))?;
            ensure!(found == wanted.as_bytes(), "{entry} is published in another way");
        }
        let next = world.push("strict/app", "v1").await?;
        world.sign(&next, "strict-ci/image-signing").await?;
        world.wait_until_admitted("strict-dev", &next).await
    });
}

/// How many pairs of rings try: how close the two get is not the same each time.
const PAIRS: usize = 3;

#[test]
fn of_two_rings_that_take_one_key_pair_over_at_once_the_younger_gives_it_up() {
    run(async |shared| {
        let world = &shared.world;
        let folder = world.info.folder.join("twins");
        std::fs::create_dir_all(&folder)?;
        let mut rings = Vec::new();
        let mut images = Vec::new();
        for pair in 0..PAIRS {
            let [older, younger] = ["a", "b"].map(|twin| format!("twin-{pair}-{twin}"));
            world.apply(&format!("{}\n---\n{}", namespaces(&older), namespaces(&younger))).await?;
            let prefix = folder.join(pair.to_string()).display().to_string();
            let make = ["generate-key-pair", "--output-key-prefix", &prefix];
            let password = [("COSIGN_PASSWORD", "fresh")];
            world.run("cosign", &make, &password, "").await?;
            let image = world.push(&format!("twins/{pair}"), "v1").await?;
            world.sign_with(&image, &format!("{prefix}.key"), &password).await?;
            let namespace = format!("{older}-ci");
            let secret = [
                "create",
                "secret",
                "generic",
                "fresh",
                &format!("--namespace={namespace}"),
                &format!("--from-file=cosign.key={prefix}.key"),
                &format!("--from-file=cosign.pub={prefix}.pub"),
                "--from-literal=cosign.password=fresh",
            ];
            world.kubectl(&secret).await?;
            grant(world, &namespace, "fresh").await?;
            let both = [&older, &younger].map(|ring| importing(ring, &namespace, "fresh"));
            rings.push(both.join("\n---\n"));
            images.push((older, younger, image));
        }
        world.apply(&rings.join("\n---\n")).await?;
        let mut gave_up = 0_usize;
        for (older, younger, image) in &images {
            world.wait_for_condition(older, "Ready", "True").await?;
            let text = world.wait_for_condition(younger, "Stalled", "True ImportFailed").await?;
            ensure!(text.contains(&format!("ring {older} knows this key")), "{text}");
            world.wait_until_admitted(&format!("{older}-dev"), image).await?;
            // One that was refused before it had a ledger has no rule.
            let versions = world.ring(younger, "{.status.versions[*].state}").await?;
            if !versions.is_empty() {
                ensure!(versions == "Retired", "{versions}");
                let ledger = format!("ring-{younger}");
                let secret = ["secret", &ledger, "--namespace=signing-system"];
                let keys = world.get(&secret, "{.data}").await?;
                ensure!(keys.is_empty(), "its private key was not destroyed");
                world.wait_until_refused(&format!("{younger}-dev"), image).await?;
                gave_up += 1;
            }
        }
        println!("{gave_up} of {PAIRS} had taken it over and gave it up");
        for (_, younger, image) in &images {
            world.apply(&manifest(younger, "")).await?;
            world.wait_for_condition(younger, "Ready", "True").await?;
            world.wait_until_refused(&format!("{younger}-dev"), image).await?;
        }
        Ok(())
    });
}
