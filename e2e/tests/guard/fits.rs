//! The operator says whether the guard was told the same as it, and goes on
//! whatever that is.

use std::fs;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use signingkeyring_e2e_testbed::world::{World, wait_until};

use crate::{
    common::Shared,
    said::Said,
    turn::{self, in_turn},
    users::{ENROLLER, LABELLER, bind},
};

/// Starts the operator anew with these settings and waits until it says of the
/// guard what it is. Returns what it has logged since.
async fn restarted(shared: &Shared, settings: &[&str], state: &str) -> Result<String> {
    turn::kill(shared).await?;
    let log = shared.world.info.folder.join("operator.log");
    let before = fs::read_to_string(&log)?.len();
    turn::start(shared, settings).await?;
    let wanted = format!("signingkeyring_guard_state{{state=\"{state}\"}} 1");
    wait_until(&format!("the guard {state}"), async || {
        Ok(turn::metrics(shared).await?.contains(&wanted))
    })
    .await?;
    let text = fs::read_to_string(&log)?;
    Ok(text.get(before..).context("the log was cut")?.to_owned())
}

async fn enrols(world: &World, user: &str, label: &str) -> Result<Said> {
    let who = format!("--as={user}");
    let words = ["label", "namespace", "guarded", label, "--overwrite", "--dry-run=server", &who];
    match world.kubectl(&words).await {
        Ok(_) => Ok(Said::Yes),
        Err(error) => Said::of_words(&format!("{error:#}")),
    }
}

#[test]
fn the_operator_says_whether_the_guard_fits() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.apply("{apiVersion: v1, kind: Namespace, metadata: {name: guarded}}").await?;
        bind(world).await?;
        let said = restarted(shared, &[], "fits").await?;
        ensure!(said.contains("the guard fits"), "{said}");

        // A platform's own label.
        world
            .install_with(&[
                ("SIGNING_ENROLMENT_LABEL", "odj.cloud/application"),
                ("SIGNING_KYVERNO_NAMESPACE", "policy-engine"),
            ])
            .await?;
        let settings = [
            "--enrolment-label=odj.cloud/application",
            "--kyverno-namespace=policy-engine",
            "--unknown-rings=Ignore",
        ];
        restarted(shared, &settings, "fits").await?;
        let (own, usual) = ("odj.cloud/application=shop", "signing.odj.cloud/ring=shop");
        wait_until("the guard has it", async || {
            Ok(enrols(world, LABELLER.user, own).await? == Said::Guard)
        })
        .await?;
        ensure!(enrols(world, LABELLER.user, usual).await? == Said::Yes);
        ensure!(enrols(world, ENROLLER.user, own).await? == Said::Yes);
        let said = restarted(shared, &[], "differs").await?;
        for part in ["enrolment", "namespace", "marks", "unknown"] {
            let differs = format!(
                "signingkeyring-guard-{part} takes 'odj.cloud/application' for the enrolment \
                 label, which is 'signing.odj.cloud/ring'"
            );
            ensure!(said.contains(&differs), "{said}");
        }
        let differs = "signingkeyring-guard-enrolment takes 'policy-engine' for Kyverno's \
                       namespace, which is 'kyverno'";
        ensure!(said.contains(differs), "{said}");

        // One that refuses nothing, and none at all.
        world.kubectl(&["apply", "--kustomize=manifests"]).await?;
        let warn = json!({"spec": {"validationActions": ["Warn"]}}).to_string();
        let binding = ["validatingadmissionpolicybinding", "signingkeyring-guard-rings"];
        let patch = ["patch", binding[0], binding[1], "--type=merge", "--patch", &warn];
        world.kubectl(&patch).await?;
        let said = restarted(shared, &[], "differs").await?;
        ensure!(said.contains("signingkeyring-guard-rings refuses nothing"), "{said}");
        world.kubectl(&["delete", "--kustomize=manifests/guard"]).await?;
        let said = restarted(shared, &[], "absent").await?;
        ensure!(said.matches("no guard is installed").count() == 1, "{said}");
        world.ready_ring("unguarded").await?;
        world.kubectl(&["apply", "--kustomize=manifests"]).await?;
        restarted(shared, &[], "fits").await?;
        // Those that come next go by it.
        wait_until("the guard has it again", async || {
            Ok(enrols(world, LABELLER.user, usual).await? == Said::Guard)
        })
        .await
    });
}
