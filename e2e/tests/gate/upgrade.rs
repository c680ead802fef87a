//! The operator takes over policies that answer to a Pod, as those before did.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, wait_until},
};

use crate::{
    rotates,
    turn::{self, in_turn_only},
};

const QUESTIONS: &str = "signing.odj.cloud/questions";
const RINGS: [&str; 2] = ["upgraded", "upgraded-audit"];

/// Makes the policies what the operator before this one has left.
async fn downgrade(world: &World) -> Result<()> {
    let policies = world.kubectl(&["get", "clusterpolicies", "-o", "json"]).await?;
    let policies: Value = serde_json::from_str(&policies)?;
    for policy in policies["items"].as_array().context("policies")? {
        let mut policy = policy.clone();
        let annotations = policy["metadata"]["annotations"].as_object_mut();
        if annotations.is_none_or(|annotations| annotations.remove(QUESTIONS).is_none()) {
            continue;
        }
        let name = policy["metadata"]["name"].clone();
        let rules = policy["spec"]["rules"].as_array_mut().context("rules")?;
        let gate = rules.iter_mut().find(|r| r["name"] == "signing-gate").context("no gate")?;
        gate["match"] = json!({"any": [{"resources": {
            "kinds": ["Pod"], "operations": ["CREATE"], "namespaces": ["signing-system"],
            "selector": {"matchLabels": {"signing.odj.cloud/gate": name}},
        }}]});
        world.run("kubectl", &["replace", "-f-"], &[], &policy.to_string()).await?;
    }
    Ok(())
}

/// What comes back of a question.
async fn ask(world: &World, policy: &str) -> Result<String> {
    let question = json!({
        "apiVersion": "signing.odj.cloud/v1alpha1", "kind": "GateQuestion",
        "metadata": {"name": policy, "namespace": "signing-system"}, "spec": {},
    });
    let create = ["create", "--dry-run=server", "--output=json", "--filename=-"];
    world.run("kubectl", &create, &[], &question.to_string()).await
}

#[test]
fn the_conditions_of_running_rings_do_not_turn() {
    in_turn_only(Kind::ClusterPolicy, "the other came later", async |shared| {
        let world = &shared.world;
        world.ready_ring(RINGS[0]).await?;
        world.apply(&signingkeyring_e2e_testbed::world::namespaces(RINGS[1])).await?;
        let audit = "  policy: {action: Audit}\n";
        world.apply(&signingkeyring_e2e_testbed::world::manifest(RINGS[1], audit)).await?;
        world.wait_for_condition(RINGS[1], "Ready", "True").await?;
        let time = "{.status.conditions[?(@.type==\"PolicyEnforced\")].lastTransitionTime}";
        let mut since = Vec::new();
        for ring in RINGS {
            since.push(world.ring(ring, time).await?);
        }
        turn::kill(shared).await?;
        downgrade(world).await?;
        for ring in RINGS {
            let policy = world.ring(ring, "{.status.policy.name}").await?;
            wait_until("Kyverno has loaded that", async || {
                Ok(!ask(world, &policy).await?.contains("gate-answer"))
            })
            .await?;
        }
        turn::start(shared, &[]).await?;
        let path = format!("{{.metadata.annotations.{}}}", QUESTIONS.replace('.', "\\."));
        for ring in RINGS {
            let policy = world.ring(ring, "{.status.policy.name}").await?;
            wait_until("the policy is written in the new form", async || {
                Ok(!world.get(&["clusterpolicy", &policy], &path).await?.is_empty())
            })
            .await?;
        }
        let metrics = async || turn::metrics(shared).await;
        wait_until("the gates answer", async || {
            let metrics = metrics().await?;
            let answered = |name: &str| {
                metrics.contains(&format!(
                    "signingkeyring_gate_state{{policy=\"{name}\",state=\"answered\"}} 1"
                ))
            };
            Ok(answered("signing-enforce-0001") && answered("signing-audit-0001"))
        })
        .await?;
        for (ring, since) in RINGS.iter().zip(since) {
            let text = world.wait_for_condition(ring, "PolicyEnforced", "True").await?;
            ensure!(world.ring(ring, time).await? == since, "{ring} turned: {text}");
        }
        rotates(world, RINGS[0]).await
    });
}
