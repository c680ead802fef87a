//! An operator takes over from the one before it: what that has left is as that
//! would have written it, and nothing of it is minted again, stalled or lost.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use base16ct::lower::encode_string as hex;
use serde_json::Value;
use sha2::{Digest, Sha256};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};

use crate::turn::{self, in_turn_only};

/// The rings, each with what makes it different, and the versions it has then.
const RINGS: [(&str, &str); 5] = [
    ("up-plain", ""),
    ("up-audit", "  policy: {action: Audit}\n"),
    ("up-narrow", "  keepVersions: 1\n"),
    ("up-revoked", ""),
    ("up-standby", ""),
];

const NAMESPACE: &str = "signing-system";

/// Where the ledger stands in its Secret, and the marks in a policy.
const LEDGER: &str = "signing.odj.cloud/ledger";
const MARKS: &str = "signing.odj.cloud/rings";

/// The path of an annotation.
fn annotation(name: &str) -> String {
    format!("{{.metadata.annotations.{}}}", name.replace('.', "\\."))
}

/// Takes out what stands from a text on to the next quotation mark.
fn without(text: &str, from: &str) -> String {
    let mut parts = text.split(from);
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('"').map_or("", |(_, rest)| rest))
}

/// A ledger as format 2 says it.
fn before(ledger: &str) -> Result<String> {
    let (_, body) = ledger.split_once(r#""ledger":"#).context("no ledger")?;
    let body = body.strip_suffix('}').context("no end")?;
    let since = ["keyDigest", "cause", "endedAt", "endedBy"].map(|name| format!(r#","{name}":""#));
    let body = since.iter().fold(body.to_owned(), |body, name| without(&body, name));
    let digest = hex(&Sha256::digest(body.as_bytes()));
    Ok(format!(r#"{{"format":2,"digest":"{digest}","ledger":{body}}}"#))
}

/// Marks as they were before they had a hash of the rest of a rule.
fn old_marks(marks: &str) -> String {
    let old = |mark: &str| match mark.rsplit_once('.') {
        Some((rest, _)) if rest.contains('.') => rest.to_owned(),
        _ => mark.to_owned(),
    };
    marks.split(' ').map(old).collect::<Vec<_>>().join(" ")
}

/// Makes ledgers and policies what the operator before this one has left.
async fn downgrade(world: &World) -> Result<()> {
    for (ring, _) in RINGS {
        let name = format!("ring-{ring}");
        let secret = ["secret", &name, "-n", NAMESPACE];
        let ledger = world.get(&secret, &annotation(LEDGER)).await?;
        ensure!(ledger.starts_with(r#"{"format":7,"#), "{ledger}");
        let annotation = format!("{LEDGER}={}", before(&ledger)?);
        world
            .kubectl(&["annotate", "--overwrite", "secret", &name, "-n", NAMESPACE, &annotation])
            .await?;
    }
    let policies = world.kubectl(&["get", "clusterpolicies", "-o", "json"]).await?;
    let policies: Value = serde_json::from_str(&policies)?;
    for policy in policies["items"].as_array().context("policies")? {
        let Some(marks) = policy["metadata"]["annotations"][MARKS].as_str() else { continue };
        let text = policy.to_string();
        let old = text.replace(marks, &old_marks(marks));
        ensure!(old != text, "{marks}");
        world.run("kubectl", &["replace", "-f-"], &[], &old).await?;
    }
    Ok(())
}

/// What is said of each ring's versions: number, state and fingerprint.
async fn versions(world: &World) -> Result<BTreeMap<String, String>> {
    let path = "{range .status.versions[*]}{.version} {.state} {.fingerprint};{end}";
    let mut versions = BTreeMap::new();
    for (ring, _) in RINGS {
        versions.insert(ring.to_owned(), world.ring(ring, path).await?);
    }
    Ok(versions)
}

#[test]
fn an_upgrade_stalls_no_ring_and_mints_nothing() {
    in_turn_only(Kind::ClusterPolicy, "the other came later", async |shared| {
        let world = &shared.world;
        for (ring, more) in RINGS {
            world.apply(&namespaces(ring)).await?;
            world.apply(&manifest(ring, more)).await?;
        }
        for (ring, _) in RINGS {
            world.wait_for_condition(ring, "Ready", "True").await?;
            world.rotate(ring, "b").await?;
        }
        let old_pair = world
            .kubectl(&["get", "secret", "image-signing", "-n", "up-plain-ci", "-o", "json"])
            .await?;
        world.rotate("up-plain", "c").await?;
        let revoked = manifest("up-revoked", "  revoked: [{version: 1, reason: test}]\n");
        world.apply(&revoked).await?;
        world.wait_for_condition("up-revoked", "RevocationsApplied", "True").await?;
        let standby = manifest("up-standby", "").replace("soak: 1s", "soak: 1s, standby: true");
        world.apply(&standby).await?;
        world.wait_for_field("up-standby", "{.status.versions[0].state}", "Standby").await?;
        for (ring, _) in RINGS {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }

        let policy = world.ring("up-plain", "{.status.policy.name}").await?;
        turn::kill(shared).await?;
        let before = versions(world).await?;
        for state in ["Standby", "Current", "Accepted", "Retired", "Revoked"] {
            ensure!(before.values().any(|text| text.contains(state)), "no version is {state}");
        }
        downgrade(world).await?;
        turn::start(shared, &[]).await?;
        wait_until("the policies are written in the new form", async || {
            let marks = world.get(&["clusterpolicy", &policy], &annotation(MARKS)).await?;
            let mark = marks.split("up-plain=").nth(1).and_then(|rest| rest.split(' ').next());
            Ok(mark.is_some_and(|mark| mark.matches('.').count() == 2))
        })
        .await?;
        for (ring, _) in RINGS {
            world.wait_for_condition(ring, "Ready", "True").await?;
            let stalled = world.condition(ring, "Stalled").await?;
            ensure!(stalled.trim().is_empty(), "{ring}: {stalled}");
        }
        ensure!(versions(world).await? == before, "versions changed by the upgrade");

        // An old pair whose digest no ledger of that format has is known for what it is.
        let mut old_pair: Value = serde_json::from_str(&old_pair)?;
        old_pair["metadata"] = serde_json::json!({
            "name": "image-signing", "namespace": "up-plain-ci",
            "annotations": old_pair["metadata"]["annotations"],
        });
        let before_pair = pair(world).await?;
        world.run("kubectl", &["replace", "-f-"], &[], &old_pair.to_string()).await?;
        wait_until("the newest pair is back", async || Ok(pair(world).await? == before_pair))
            .await?;

        for (ring, _) in RINGS {
            world.rotate(ring, "d").await?;
            let count = |text: &str| text.matches(';').count();
            let now = versions(world).await?;
            ensure!(count(&now[ring]) == count(&before[ring]) + 1, "{ring}: {}", now[ring]);
        }
        Ok(())
    });
}

async fn pair(world: &World) -> Result<String> {
    world.get(&["secret", "image-signing", "-n", "up-plain-ci"], "{.data}").await
}
