//! Hostile and broken objects on real components: each ends in an API error or
//! a condition, nothing of it reaches a policy, and the others go on.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod batch;
mod edits;
mod generated;
mod inert;
mod lists;
mod policies;
mod rings;
mod secrets;
mod texts;
mod validating;

use std::io::Write;

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::images::Verdict;

use batch::{Batch, CONTROL};
use common::run;

/// Rings that are there at the same time.
const TOGETHER: usize = 40;

#[test]
fn hostile_objects_end_in_an_error_or_a_condition() {
    run(async |shared| {
        let seed = generated::seed();
        let mut batch = Batch::new(shared).await?;
        say(&format!("hostile objects: seed {seed} (HOSTILE_SEED={seed} repeats them)"));

        let mut rows = rings::rows();
        rows.extend(lists::rows());
        rows.extend(generated::rows(seed));
        let (rings, lists): (Vec<_>, Vec<_>) = rows.into_iter().partition(|row| row.is_ring());
        batch.apply(lists).await?;
        let mut rings = rings;
        while !rings.is_empty() {
            let rest = rings.split_off(TOGETHER.min(rings.len()));
            batch.apply(rings).await?;
            rings = rest;
        }
        secrets::ledgers(&mut batch).await?;
        secrets::pipelines(&mut batch).await?;
        policies::edited_policies(&mut batch).await?;
        near_misses(&batch).await?;

        let (mut all, mut text) = (0, String::new());
        for (class, (objects, refused, condition)) in &batch.table {
            all += objects;
            text += &format!("{class:<34} {objects:>7} {refused:>15} {condition:>23}\n");
        }
        let head = format!(
            "{:<34} {:>7} {:>15} {:>23}",
            "class", "objects", "refused by API", "accepted with condition"
        );
        say(&format!("{head}\n{text}{all} objects"));
        ensure!(all >= 200, "only {all} objects were tried");
        let (refused, accepted) =
            batch.table.values().fold((0, 0), |sum, row| (sum.0 + row.1, sum.1 + row.2));
        ensure!(refused + accepted == all && refused > 50 && accepted > 50);
        Ok(()) as Result<()>
    });
}

/// Past the test's capture of its output: the numbers are what is to be seen.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// An excluded image passes, those that are named nearly so do not.
async fn near_misses(batch: &Batch) -> Result<()> {
    let world = &batch.shared.world;
    let list = "{apiVersion: signing.odj.cloud/v1alpha1, kind: ImageExclusionList, metadata: {name: near}, \
                spec: {images: [{image: 'quay.io/near/*', reason: test}, {image: 'near-app:*', reason: test}]}}";
    world.apply(list).await?;
    for local in [
        "near/x",
        "library/near-app",
        "near-evil/x",
        "quay.io/near/x",
        "near-app2",
        "evil/near-app",
    ] {
        world.push(local, "v1").await?;
    }
    let namespace = format!("{CONTROL}-dev");
    world.wait_until_admitted(&namespace, "quay.io/near/x:v1").await?;
    world.wait_until_admitted(&namespace, "index.docker.io/library/near-app:v1").await?;
    for image in [
        "quay.io/near-evil/x:v1",
        "evil.example/quay.io/near/x:v1",
        "quay.io:443/near/x:v1",
        "QUAY.io/near/x:v1",
        "[::1]:5000/quay.io/near/x:v1",
        "near-app2:v1",
        "evil/near-app:v1",
        "docker.io/evil/near-app:v1",
    ] {
        ensure!(world.admit(&namespace, image).await? != Verdict::Admitted, "{image} was admitted");
    }
    world.kubectl(&["delete", "iel", "near"]).await?;
    Ok(())
}
