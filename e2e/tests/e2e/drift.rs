//! Edits by others are undone, with an event.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde_json::Value;
use signingkeyring_e2e_observer::marks::Marks;
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, wait_until},
};

use crate::common::run;

async fn wait_for_event(world: &World, reason: &str, object: &str) -> Result<()> {
    wait_until(&format!("event {reason} on {object}"), async || {
        let field = format!("--field-selector=reason={reason},regarding.name={object}");
        let events = world
            .kubectl(&["get", "events.events.k8s.io", "-n", "default", &field, "-o", "name"])
            .await?;
        Ok(!events.trim().is_empty())
    })
    .await
}

/// Whether a policy holds rules for each ring it names, this test's among
/// them, and its two own, and refuses pods when Kyverno fails. Other rings share
/// it and may come and go meanwhile.
async fn is_whole(world: &World, policy: &str) -> Result<bool> {
    let object = world.policy(policy).await?;
    let marks = Marks::of_policy(&object).unwrap_or_default();
    let mut named: BTreeSet<&str> = marks.0.keys().map(String::as_str).collect();
    if Kind::under_test() == Kind::ImageValidatingPolicy {
        let spec = &object["spec"];
        let held = |ring: &&str| Kind::under_test().keys(spec, ring).is_some_and(|k| !k.is_empty());
        let pin = ["mutatingpolicy", &policy.replace("enforce", "pin"), "--output=json"];
        let pin: Value =
            serde_json::from_str(&world.kubectl(&[&["get"], &pin[..]].concat()).await?)?;
        let pins = pin.to_string();
        return Ok(named.contains("drift")
            && named.iter().all(held)
            && spec["validations"].as_array().is_some_and(|list| list.len() == 2)
            && spec["failurePolicy"] == "Fail"
            && pin["spec"]["failurePolicy"] == "Fail"
            && named.iter().all(|ring| pins.contains(&format!("\"{ring}\""))));
    }
    named.extend(["signing-gate", "signing-gate.images", "signing-gate.references"]);
    let rules = object["spec"]["rules"].as_array().into_iter().flatten();
    let names = rules.filter_map(|rule| rule["name"].as_str());
    let owner = |name: &'_ str| match name.split_once('.') {
        Some((ring, _)) if ring != "signing-gate" => ring.to_owned(),
        _ => name.to_owned(),
    };
    let held: BTreeSet<String> = names.map(owner).collect();
    let named: BTreeSet<String> = named.into_iter().map(str::to_owned).collect();
    let fails = &object["spec"]["webhookConfiguration"]["failurePolicy"];
    Ok(held == named && held.contains("drift") && fails == "Fail")
}

#[test]
fn an_edited_or_deleted_policy_is_restored_within_a_second() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("drift").await?;
        let policy = world.ring("drift", "{.status.policy.name}").await?;
        let pin = policy.replace("enforce", "pin");
        let edits: &[&[&str]] = match Kind::under_test() {
            Kind::ClusterPolicy => &[
                &[
                    "patch",
                    "clusterpolicy",
                    &policy,
                    "--type=json",
                    "-p",
                    r#"[{"op":"replace","path":"/spec/rules","value":[{"name":"none","match":{"any":[{"resources":{"kinds":["ConfigMap"]}}]},"validate":{"message":"x","deny":{}}}]}]"#,
                ],
                &[
                    "patch",
                    "clusterpolicy",
                    &policy,
                    "--type=merge",
                    "-p",
                    r#"{"spec":{"webhookConfiguration":{"failurePolicy":"Ignore"}}}"#,
                ],
                &[
                    "patch",
                    "clusterpolicy",
                    &policy,
                    "--type=json",
                    "-p",
                    r#"[{"op":"remove","path":"/metadata/annotations/signing.odj.cloud~1rings"},{"op":"remove","path":"/spec/rules/1"}]"#,
                ],
                &["delete", "clusterpolicy", &policy],
            ],
            Kind::ImageValidatingPolicy => &[
                &[
                    "patch",
                    "imagevalidatingpolicy",
                    &policy,
                    "--type=json",
                    "-p",
                    r#"[{"op":"replace","path":"/spec/validations","value":[{"expression":"true"}]}]"#,
                ],
                &[
                    "patch",
                    "imagevalidatingpolicy",
                    &policy,
                    "--type=merge",
                    "-p",
                    r#"{"spec":{"failurePolicy":"Ignore"}}"#,
                ],
                &[
                    "patch",
                    "imagevalidatingpolicy",
                    &policy,
                    "--type=json",
                    "-p",
                    r#"[{"op":"remove","path":"/metadata/annotations/signing.odj.cloud~1rings"},{"op":"replace","path":"/spec/variables/1/expression","value":"[]"}]"#,
                ],
                &["delete", "imagevalidatingpolicy", &policy],
                // What pins the tags is as much part of it.
                &[
                    "patch",
                    "mutatingpolicy",
                    &pin,
                    "--type=merge",
                    "-p",
                    r#"{"spec":{"failurePolicy":"Ignore"}}"#,
                ],
                &["delete", "mutatingpolicy", &pin],
            ],
        };
        for edit in edits {
            world.kubectl(edit).await?;
            let start = Instant::now();
            wait_until("the policy is restored", async || is_whole(world, &policy).await).await?;
            // The edit's and the look's own time counts against it.
            ensure!(
                start.elapsed() < Duration::from_secs(2),
                "{edit:?} took {:?}",
                start.elapsed()
            );
        }
        wait_for_event(world, "PolicyRestored", &policy).await
    });
}

#[test]
fn an_edited_or_deleted_pipeline_secret_is_restored_at_the_next_check() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("mended").await?;
        let secret = ["secret", "image-signing", "-n", "mended-ci"];
        let before = world.get(&secret, "{.data}").await?;
        let edits: [&[&str]; 3] = [
            &[
                "patch",
                "secret",
                "image-signing",
                "-n",
                "mended-ci",
                "--type=merge",
                "-p",
                r#"{"data":{"cosign.key":"c3RvbGVu"}}"#,
            ],
            &[
                "patch",
                "secret",
                "image-signing",
                "-n",
                "mended-ci",
                "--type=merge",
                "-p",
                r#"{"data":{"cosign.password":null}}"#,
            ],
            &["delete", "secret", "image-signing", "-n", "mended-ci"],
        ];
        for edit in edits {
            world.kubectl(edit).await?;
            wait_until(&format!("{edit:?} is undone"), async || {
                Ok(world.get(&secret, "{.data}").await.is_ok_and(|data| data == before))
            })
            .await?;
        }
        wait_for_event(world, "PipelineRestored", "mended").await?;
        ensure!(world.ring("mended", "{.status.currentVersion}").await? == "1");
        Ok(())
    });
}

/// A tool that applies by force is not an edit like others: the entries that it
/// writes as text show nowhere as having been written by it.
#[test]
fn what_another_tool_applies_to_a_pipeline_secret_is_undone() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring("applied").await?;
        let secret = ["secret", "image-signing", "-n", "applied-ci"];
        let before = world.get(&secret, "{.data}").await?;
        for wrong in ["data: {cosign.key: d3Jvbmc=}", "stringData: {cosign.password: wrong}"] {
            world
                .apply(&format!(
                    "{{apiVersion: v1, kind: Secret, metadata: {{name: image-signing, namespace: applied-ci}}, {wrong}}}"
                ))
                .await?;
            wait_until(&format!("{wrong} is undone"), async || {
                Ok(world.get(&secret, "{.data}").await? == before)
            })
            .await?;
        }
        Ok(())
    });
}
