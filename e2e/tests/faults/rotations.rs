//! No more rings rotate at once than may, and who waits says so. Who waits for a key pair
//! revokes meanwhile.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
};
use serde_json::json;
use signingkeyring_e2e_testbed::world::{World, manifest, namespaces, wait_until};

use crate::turn::{self, in_turn};

const RINGS: [&str; 4] = ["turn-a", "turn-b", "turn-c", "turn-d"];

/// So long that it is seen on its way.
const SOAK: &str = "rotation: {soak: 6s}";

fn ring(name: &str, more: &str) -> String {
    manifest(name, more).replace("rotation: {soak: 1s}", SOAK)
}

async fn is_queued(world: &World, ring: &str) -> Result<bool> {
    Ok(world.condition(ring, "Reconciling").await?.starts_with("True RotationQueued"))
}

/// How many of the rings rotate, as one answer shows them.
async fn rotating(world: &World) -> Result<usize> {
    let path = "{range .items[*]}{.metadata.name}={.status.versions[0].state},{.status.currentVersion} {end}";
    let all = world.get(&["skr"], path).await?;
    let ours = all.split_whitespace().filter(|ring| ring.starts_with("turn-"));
    Ok(ours.filter(|ring| ring.contains("=Pending,") && !ring.ends_with(',')).count())
}

#[test]
fn so_many_rings_rotate_at_once_and_a_revocation_waits_for_none() {
    in_turn(async |shared| {
        let world = &shared.world;
        for name in RINGS {
            world.apply(&namespaces(name)).await?;
            world.apply(&ring(name, "")).await?;
        }
        for name in RINGS {
            world.wait_for_condition(name, "Ready", "True").await?;
        }
        turn::kill(shared).await?;
        turn::start(shared, &["--max-rotations=1"]).await?;
        let mut annotate = vec!["annotate", "--overwrite", "skr"];
        annotate.extend(RINGS);
        annotate.push("signing.odj.cloud/rotate=one-by-one");
        world.kubectl(&annotate).await?;
        let mut queued = Vec::new();
        wait_until("all but one wait for their turn", async || {
            queued.clear();
            for name in RINGS {
                if is_queued(world, name).await? {
                    queued.push(name);
                }
            }
            Ok(queued.len() == RINGS.len() - 1)
        })
        .await?;
        // The last in the queue does not wait for the others with another key.
        let last = queued.last().copied().context("nobody waits")?;
        world.apply(&ring(last, "  revoked: [{version: 1, reason: leaked}]\n")).await?;
        world.wait_for_condition(last, "RevocationsApplied", "True").await?;
        world.wait_for_field(last, "{.status.versions[0].version}", "2").await?;
        let mut most = 0;
        wait_until("all have rotated", async || {
            most = most.max(rotating(world).await?);
            let path = "{.items[*].status.observedRotation}";
            let done = world.get(&["skr"], path).await?;
            Ok(done.matches("one-by-one").count() == RINGS.len())
        })
        .await?;
        ensure!(most == 1, "{most} rings rotated at once");
        for name in RINGS {
            ensure!(!is_queued(world, name).await?, "{name} waits for nothing");
            world.wait_for_field(name, "{.status.currentVersion}", "2").await?;
        }
        turn::kill(shared).await?;
        turn::start(shared, &[]).await
    });
}

/// So many that their keys take seconds to be sealed, one after the other.
const WAVE: usize = 20;

#[test]
fn a_ring_revokes_while_it_waits_for_a_key() {
    in_turn(async |shared| {
        let world = &shared.world;
        let rings: Vec<String> = (0..WAVE).map(|number| format!("sealed-{number:02}")).collect();
        let yaml = rings.iter().map(|ring| namespaces(ring) + "---\n" + &manifest(ring, ""));
        world.apply(&yaml.collect::<Vec<_>>().join("---\n")).await?;
        for ring in &rings {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        turn::kill(shared).await?;
        turn::start(shared, &["--sealings=1", "--concurrency=32"]).await?;
        for ring in &rings {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        let gvk = GroupVersionKind::gvk("signing.odj.cloud", "v1alpha1", "SigningKeyRing");
        let resource = ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> = Api::all_with(world.client().await?, &resource);
        let (api, as_asked) = (&api, &PatchParams::default());
        let rotate = &Patch::Merge(
            json!({"metadata": {"annotations": {"signing.odj.cloud/rotate": "all-at-once"}}}),
        );
        try_join_all(rings.iter().map(|ring| api.patch(ring, as_asked, rotate))).await?;
        // The last to be asked is not the first to have its key.
        let ring = &rings[WAVE - 1];
        let revoke = json!({"spec": {"revoked": [{"version": 1, "reason": "leaked"}]}});
        api.patch(ring, as_asked, &Patch::Merge(revoke)).await?;
        world.wait_for_condition(ring, "RevocationsApplied", "True").await?;
        world.wait_for_field(ring, "{.status.currentVersion}", "2").await?;
        // What was asked before is answered by the same version.
        world.wait_for_field(ring, "{.status.observedRotation}", "all-at-once").await?;
        let cause = world.ring(ring, "{.status.versions[?(@.version==2)].cause}").await?;
        ensure!(cause == "Revocation", "its next version was minted for {cause}");
        for ring in &rings {
            world.wait_for_field(ring, "{.status.currentVersion}", "2").await?;
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        turn::kill(shared).await?;
        turn::start(shared, &[]).await
    });
}
