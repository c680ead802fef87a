//! Others' policies and exceptions that bear on a ring's images, and what is said of them.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use signingkeyring_e2e_testbed::world::{World, wait_until};

use crate::shell;

/// Has others except, change and refuse, and hears why an image starts or does not.
pub async fn undo(world: &World, ring: &str) -> Result<()> {
    let namespace = format!("{ring}-dev");
    let image = |name: &str| format!("{}/{ring}/{name}:v1", world.info.registry);
    let why = |name: &str| format!("kubectl signing why {} -n {namespace}", image(name));
    let signed = image("another");
    world.sign(&signed, &format!("{ring}-ci/image-signing")).await?;
    world.wait_until_admitted(&namespace, &signed).await?;

    let policy = world.ring(ring, "{.status.policy.name}").await?;
    world.apply(&exception(ring, &policy)).await?;
    let excepted = format!("PolicyException {ring}-ci/let-me names the ring's rule in policy");
    heard(world, &why("unsigned"), 3, &["Here        unknown: it has no signature", &excepted])
        .await?;
    // What is signed needs none.
    heard(world, &why("another"), 0, &["Here        admitted: an accepted version"]).await?;
    let exceptions = "policyexceptions.kyverno.io";
    world.kubectl(&["delete", exceptions, "let-me", "--namespace", &format!("{ring}-ci")]).await?;

    let swap = json!({"mutate": {"patchStrategicMerge": {"spec": {"containers": [
        {"(name)": "*", "image": signed},
    ]}}}});
    world.apply(&of_pods("swap", &namespace, &swap)).await?;
    let swapped = [
        "Here        refused: it has no signature",
        "Kyverno     admitted: a dry run passed",
        &format!("Something changes the image: the pod would run {signed}"),
        "The two differ, perhaps because:\n  - something changes the image to",
    ];
    heard(world, &why("unsigned"), 3, &swapped).await?;
    world.kubectl(&["delete", "clusterpolicy", "swap"]).await?;

    let deny = json!({"validate": {
        "failureAction": "Enforce", "message": "a pod needs a team",
        "pattern": {"metadata": {"labels": {"team": "?*"}}},
    }});
    world.apply(&of_pods("need-team", &namespace, &deny)).await?;
    let denied = [
        "Here        admitted: an accepted version signed it",
        "Kyverno     unknown: a pod is refused because of something else: admission webhook",
        "need-team",
    ];
    heard(world, &why("another"), 3, &denied).await?;
    world.kubectl(&["delete", "clusterpolicy", "need-team"]).await?;
    heard(world, &why("another"), 0, &["Kyverno     admitted: a dry run passed"]).await
}

/// Waits until a line ends with a code and says all of this.
async fn heard(world: &World, line: &str, code: i32, says: &[&str]) -> Result<()> {
    wait_until(line, async || {
        let ran = shell(world, line).await?;
        let lacking = says.iter().find(|words| !ran.text.contains(**words));
        ensure!(
            ran.code == Some(code) && lacking.is_none(),
            "{:?}, without {lacking:?}:\n{}",
            ran.code,
            ran.text
        );
        Ok(true)
    })
    .await
}

fn exception(ring: &str, policy: &str) -> String {
    json!({
        "apiVersion": "kyverno.io/v2", "kind": "PolicyException",
        "metadata": {"name": "let-me", "namespace": format!("{ring}-ci")},
        "spec": {
            "match": {"any": [{"resources": {"kinds": ["Pod"]}}]},
            "exceptions": [{"policyName": policy, "ruleNames": [format!("{ring}*")]}],
        },
    })
    .to_string()
}

/// A ClusterPolicy of somebody else's, with one rule for the pods of a namespace.
fn of_pods(name: &str, namespace: &str, does: &Value) -> String {
    let mut rule = json!({
        "name": "pods",
        "match": {"any": [{"resources": {"kinds": ["Pod"], "namespaces": [namespace]}}]},
    });
    if let (Some(rule), Some(does)) = (rule.as_object_mut(), does.as_object()) {
        rule.extend(does.clone());
    }
    json!({
        "apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": name},
        "spec": {"background": false, "rules": [rule]},
    })
    .to_string()
}
