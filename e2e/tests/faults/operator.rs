//! The operator's own end, restart and settings.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, consent, manifest, wait_until},
};

use crate::turn::{self, in_turn};

/// What the operator writes, and in which state it is.
async fn written(world: &World) -> Result<BTreeMap<String, String>> {
    let kinds =
        "skr,clusterpolicies,imagevalidatingpolicies,mutatingpolicies,secrets,events.events.k8s.io";
    let path = "{range .items[*]}{.kind}/{.metadata.namespace}/{.metadata.name} {.metadata.resourceVersion} {.reason}{\"\\n\"}{end}";
    let output = format!("--output=jsonpath={path}");
    let text = world.kubectl(&["get", kinds, "--all-namespaces", &output]).await?;
    Ok(text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .filter(|(name, _)| !name.starts_with("Secret/kyverno/"))
        // Said once by each process, of namespaces that other tests leave behind.
        .filter(|(_, version)| !version.ends_with(" RingUnknown"))
        // Kyverno's, of the answers of policies that answer by a refusal.
        .filter(|(_, version)| !version.ends_with(" PolicyViolation"))
        .map(|(name, version)| (name.to_owned(), version.to_owned()))
        .collect())
}

#[test]
fn a_restart_writes_nothing() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("silent").await?;
        world.rotate("silent", "b").await?;
        let revoked = manifest("silent", "  revoked: [{version: 1, reason: test}]\n");
        world.apply(&revoked).await?;
        world.wait_for_condition("silent", "RevocationsApplied", "True").await?;
        let audit = manifest("silent-audit", "  policy: {action: Audit}\n");
        world.apply(&signingkeyring_e2e_testbed::world::namespaces("silent-audit")).await?;
        world.apply(&audit).await?;
        world.wait_for_condition("silent-audit", "Ready", "True").await?;
        let policy = world.ring("silent", "{.status.policy.name}").await?;
        turn::kill(shared).await?;
        let before = written(world).await?;
        turn::start(shared, &[]).await?;
        // It has looked at everything once it has asked the gate of both, and
        // again after the recheck interval.
        wait_until("the gate was asked", async || {
            let metrics = turn::metrics(shared).await?;
            let answered = |policy: &str| metrics.contains(&format!("gate_state{{policy=\"{policy}\",state=\"answered\"}} 1"));
            let passes: u64 = metrics
                .lines()
                .find_map(|line| line.strip_prefix("signingkeyring_reconciles_total{controller=\"rings\",outcome=\"success\"} "))
                .and_then(|count| count.parse().ok())
                .unwrap_or(0);
            let rings = world.kubectl(&["get", "skr", "-o", "name"]).await?.lines().count() as u64;
            Ok(answered(&policy) && answered(&Kind::under_test().audit(1)) && passes > 3 * rings)
        })
        .await?;
        let after = written(world).await?;
        let changed: Vec<_> =
            after.iter().filter(|(name, version)| before.get(*name) != Some(version)).collect();
        ensure!(changed.is_empty(), "written after a restart: {changed:?}");
        Ok(())
    });
}

#[test]
fn a_pipeline_removed_while_the_operator_was_down_is_cleaned_up() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("absent").await?;
        turn::kill(shared).await?;
        world.apply(&manifest("absent", "").replace("[{namespace: absent-ci}]", "[]")).await?;
        turn::start(shared, &[]).await?;
        wait_until("the Secret is gone", async || {
            Ok(world.get(&["secret", "image-signing", "-n", "absent-ci"], "{.kind}").await.is_err())
        })
        .await
    });
}

#[test]
fn a_rotation_survives_crashes() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("crashes").await?;
        // So long that it is seen on its way.
        world.apply(&manifest("crashes", "").replace("{soak: 1s}", "{soak: 6s}")).await?;
        world.ask_for_rotation("crashes", "next").await?;
        world.wait_for_field("crashes", "{.status.versions[0].state}", "Pending").await?;
        for _ in 0..3 {
            turn::kill(shared).await?;
            turn::start(shared, &[]).await?;
        }
        world.wait_for_field("crashes", "{.status.observedRotation}", "next").await?;
        ensure!(world.ring("crashes", "{.status.versions[*].version}").await? == "2 1");
        Ok(())
    });
}

#[test]
fn it_ends_with_zero_when_asked() {
    in_turn(async |shared| {
        let operator = shared.operator.lock().await.take();
        let code = match operator {
            Some(operator) => operator.stop().await?,
            None => anyhow::bail!("there is no operator"),
        };
        ensure!(code == Some(0), "{code:?}");
        turn::start(shared, &[]).await
    });
}

#[test]
fn another_enrolment_label() {
    in_turn(async |shared| {
        let world = &shared.world;
        turn::kill(shared).await?;
        // The guard learns it from the Deployment.
        world.install_with(&[("SIGNING_ENROLMENT_LABEL", "odj.cloud/application")]).await?;
        // As does whoever applies manifests/probe.
        let probe = ["label", "namespace", "signing-probe"];
        let asked = ["odj.cloud/application=signing-gate"];
        world.kubectl(&[&probe[..], &asked].concat()).await?;
        turn::start(shared, &["--enrolment-label=odj.cloud/application", "--log-format=json"])
            .await?;
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: labelled-dev, labels: {odj.cloud/application: labelled}}}").await?;
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: labelled-ci}}").await?;
        world.apply(&consent("labelled-ci")).await?;
        world.apply(&manifest("labelled", "")).await?;
        world.wait_for_condition("labelled", "Ready", "True").await?;
        world.wait_for_field("labelled", "{.status.enrolledNamespaces}", "1").await?;
        let signed = world.push("labelled/app", "v1").await?;
        world.wait_until_refused("labelled-dev", &signed).await?;
        world.sign(&signed, "labelled-ci/image-signing").await?;
        world.wait_until_admitted("labelled-dev", &signed).await?;
        let log = std::fs::read_to_string(world.info.folder.join("operator.log"))?;
        let minted = log
            .lines()
            .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
            .find(|line| {
                line["fields"]["message"] == "version minted"
                    && line["fields"]["ring"] == "labelled"
            });
        ensure!(
            minted.is_some_and(|line| line["fields"]["version"] == 1),
            "no JSON line says that it was minted"
        );
        world.kubectl(&["delete", "namespace", "labelled-dev"]).await?;
        world.kubectl(&["delete", "skr", "labelled"]).await?;
        turn::kill(shared).await?;
        world.kubectl(&["apply", "--kustomize=manifests"]).await?;
        world.kubectl(&[&probe[..], &["odj.cloud/application-"]].concat()).await?;
        turn::start(shared, &[]).await
    });
}

#[test]
fn no_key_material_is_logged_or_reported() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("secretive").await?;
        world.rotate("secretive", "next").await?;
        let decoded = "-o=go-template={{range .data}}{{base64decode .}}\n{{end}}";
        let secret = world
            .kubectl(&["get", "secret", "image-signing", "-n", "secretive-ci", decoded])
            .await?;
        let private = secret.lines().find(|line| line.starts_with("-----BEGIN ENCRYPTED"));
        ensure!(private.is_some(), "the Secret holds no private key");
        let words: Vec<&str> = secret
            .lines()
            .take_while(|line| !line.starts_with("-----BEGIN PUBLIC"))
            .filter(|line| line.len() >= 16 && !line.starts_with("-----"))
            .collect();
        ensure!(words.len() > 5, "too little to look for");
        let log = std::fs::read_to_string(world.info.folder.join("operator.log"))?;
        let shown = world
            .kubectl(&[
                "get",
                "skr,clusterpolicies,imagevalidatingpolicies,mutatingpolicies,events",
                "-A",
                "-o",
                "yaml",
            ])
            .await?;
        let metrics = turn::metrics(shared).await?;
        for word in words {
            for (what, text) in [("log", &log), ("objects", &shown), ("metrics", &metrics)] {
                ensure!(!text.contains(word), "key material in the {what}");
            }
        }
        ensure!(log.contains("SHA256:"), "the log names fingerprints");
        Ok(())
    });
}
