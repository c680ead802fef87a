//! A Kyverno that answers in 3 to 8 seconds: nothing is said that is not so, nothing is
//! written again and again, and rotations finish.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{Arc, Mutex},
};

use anyhow::{Result, ensure};
use futures::StreamExt;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::watcher::{self, Event, watcher},
};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    slow::SlowWay,
    world::{World, wait_until},
};

use crate::{
    common::Shared,
    turn::{in_turn, metrics},
};

const RINGS: [&str; 4] = ["slow-a", "slow-b", "slow-c", "slow-d"];

/// What a ring's status may change in one rotation, with room for each of its steps.
const MOST_STATUSES: usize = 15;

/// What was said, by ring: each state of the condition, as often as the status changed.
type Said = Arc<Mutex<BTreeMap<String, Vec<String>>>>;

/// Notes each status of the rings, until it is dropped.
async fn listen(world: &World) -> Result<(Said, tokio::task::JoinHandle<()>)> {
    let kind = GroupVersionKind::gvk("signing.odj.cloud", "v1alpha1", "SigningKeyRing");
    let kind = ApiResource::from_gvk_with_plural(&kind, "signingkeyrings");
    let api: Api<DynamicObject> = Api::all_with(world.client().await?, &kind);
    let said = Said::default();
    let noted = Arc::clone(&said);
    let listening = tokio::spawn(async move {
        let mut events = pin!(watcher(api, watcher::Config::default()));
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        while let Some(event) = events.next().await {
            let Ok(Event::Apply(ring) | Event::InitApply(ring)) = event else { continue };
            let name = ring.metadata.name.unwrap_or_default();
            // Those of other tests may tell of a Kyverno of before.
            if !RINGS.contains(&name.as_str()) {
                continue;
            }
            let status = ring.data["status"].to_string();
            if last.insert(name.clone(), status.clone()).as_ref() != Some(&status) {
                let conditions = ring.data["status"]["conditions"].to_string();
                noted.lock().unwrap().entry(name).or_default().push(conditions);
            }
        }
    });
    Ok((said, listening))
}

/// Has Kyverno's webhooks lead to this port.
async fn lead_to(shared: &Shared, port: u16) -> Result<()> {
    let address = format!("--serverIP=127.0.0.1:{port}");
    shared.cluster.restart_with("kyverno", &[&address]).await?;
    let half = match Kind::under_test() {
        Kind::ClusterPolicy => "mutating",
        Kind::ImageValidatingPolicy => "validating",
    };
    let kind = format!("{half}webhookconfiguration");
    let name = format!("kyverno-resource-{half}-webhook-cfg");
    wait_until("Kyverno's webhooks lead to it", async || {
        let path = "{.webhooks[*].clientConfig.url}";
        let urls = shared.world.get(&[&kind, &name], path).await?;
        let mut urls = urls.split_whitespace().peekable();
        Ok(urls.peek().is_some() && urls.all(|url| url.contains(&format!(":{port}/"))))
    })
    .await?;
    // While it started, it really did not answer.
    for ring in RINGS {
        let policy = shared.world.ring(ring, "{.status.policy.name}").await?;
        wait_until("its gate is past Kyverno's start", async || {
            let shown = metrics(shared).await?;
            Ok(["answered", "slow"].iter().any(|state| {
                let line = format!("gate_state{{policy=\"{policy}\",state=\"{state}\"}} 1");
                shown.contains(&line)
            }))
        })
        .await?;
        shared.world.wait_for_condition(ring, "PolicyEnforced", "True").await?;
    }
    Ok(())
}

async fn all_rotate(shared: &Shared) -> Result<()> {
    let world = &shared.world;
    let (said, listening) = listen(world).await?;
    let mut annotate = vec!["annotate", "--overwrite", "skr"];
    annotate.extend(RINGS);
    annotate.push("signing.odj.cloud/rotate=slowly");
    world.kubectl(&annotate).await?;
    for ring in RINGS {
        world.wait_for_field(ring, "{.status.observedRotation}", "slowly").await?;
        world.wait_for_condition(ring, "PolicyEnforced", "True").await?;
    }
    let shown = metrics(shared).await?;
    listening.abort();
    ensure!(shown.contains("state=\"slow\"} 1"), "no policy is called slow: {shown}");
    for (ring, states) in said.lock().unwrap().iter() {
        for state in states {
            for untrue in ["OPEN", "CLOSED", "GateMute", "GateOpen"] {
                ensure!(!state.contains(untrue), "{ring} said {untrue}: {state}");
            }
        }
        let changes = states.len();
        eprintln!("{ring}: {changes} statuses");
        ensure!(changes <= MOST_STATUSES, "{ring}: {changes} statuses: {states:#?}");
    }
    Ok(())
}

#[test]
fn a_slow_kyverno_is_not_called_down_and_rotations_finish() {
    in_turn(async |shared| {
        let world = &shared.world;
        for ring in RINGS {
            world.ready_ring(ring).await?;
        }
        let port = world.info.kyvernos[0];
        let way = SlowWay::to(port).await?;
        let rotated = match lead_to(shared, way.port).await {
            Ok(()) => all_rotate(shared).await,
            Err(error) => Err(error),
        };
        lead_to(shared, port).await?;
        drop(way);
        rotated?;
        for ring in RINGS {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        Ok(())
    });
}
