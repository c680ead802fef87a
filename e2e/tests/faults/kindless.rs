//! The exclusion lists are gone with their kind: what they excluded stays so,
//! until they are back.

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    kind::Kind,
    world::{World, wait_until},
};

use crate::turn::{self, in_turn};

const CRD: &str = "imageexclusionlists.signing.odj.cloud";
const EXCLUDED: &str = "quay.io/kindless/a:v1";
const LIST: &str = "{apiVersion: signing.odj.cloud/v1alpha1, kind: ImageExclusionList, metadata: {name: kindless}, spec: {images: [{image: 'quay.io/kindless/*', reason: test}]}}";

/// How many lists the operator says that it remembers.
async fn remembered(shared: &crate::common::Shared) -> Result<u32> {
    let metrics = turn::metrics(shared).await?;
    let series = "signingkeyring_exclusion_lists_remembered ";
    let value = metrics.lines().find_map(|line| line.strip_prefix(series));
    Ok(value.context("no such metric")?.parse()?)
}

/// The images that a ring's rule does not look at.
async fn skipped(world: &World) -> Result<Vec<String>> {
    let kind = Kind::under_test();
    let policy = world.policy(&kind.enforce(1)).await?;
    Ok(kind.excluded(&policy["spec"], "kindless"))
}

async fn serve(world: &World) -> Result<()> {
    world.kubectl(&["apply", "--filename=crds/imageexclusionlists.yaml"]).await?;
    world.kubectl(&["wait", "--for=condition=Established", &format!("crd/{CRD}")]).await?;
    Ok(())
}

async fn both_lists(world: &World) -> Result<()> {
    let platform = std::fs::read_to_string(
        signingkeyring_e2e_testbed::tools::root().join("manifests/exclusions.yaml"),
    )?;
    world.apply(&format!("{platform}---\n{LIST}\n")).await?;
    Ok(())
}

#[test]
fn lists_that_are_gone_with_their_kind_stay_in_force() {
    in_turn(async |shared| {
        let world = &shared.world;
        world.ready_ring("kindless").await?;
        world.push("kindless/a", "v1").await?;
        let unsigned = world.push("kindless/unsigned", "v1").await?;
        world.apply(LIST).await?;
        world.wait_until_admitted("kindless-dev", EXCLUDED).await?;
        let before = skipped(world).await?;
        ensure!(remembered(shared).await? == 0);

        // With the kind, its lists.
        world.kubectl(&["delete", "crd", CRD]).await?;
        wait_until("both lists are remembered", async || Ok(remembered(shared).await? == 2))
            .await?;
        world.rotate("kindless", "b").await?;
        ensure!(skipped(world).await? == before, "the lists are not in force any more");
        world.wait_until_admitted("kindless-dev", EXCLUDED).await?;
        world.wait_until_refused("kindless-dev", &unsigned).await?;
        wait_until("an event says so", async || {
            let field = "--field-selector=reason=ExclusionListsRemembered";
            let path = "-o=jsonpath={.items[*].note}";
            let get = ["get", "events.events.k8s.io", "-n", "default", field, path];
            Ok(world.kubectl(&get).await?.contains("kindless, odj-platform are gone"))
        })
        .await?;

        // Nobody but the policies knows them after a restart.
        turn::kill(shared).await?;
        turn::start(shared, &[]).await?;
        wait_until("they are remembered", async || Ok(remembered(shared).await? > 0)).await?;
        world.rotate("kindless", "c").await?;
        ensure!(skipped(world).await? == before, "the lists went with the operator's memory");
        world.wait_until_admitted("kindless-dev", EXCLUDED).await?;
        world.wait_until_refused("kindless-dev", &unsigned).await?;
        // What a policy is made to skip meanwhile is nobody's list.
        wait_until("an edit is made", async || {
            let policy = world.policy(&Kind::under_test().enforce(1)).await?.to_string();
            let edited = policy.replace("quay.io/kindless/", "quay.io/nobody/");
            ensure!(edited != policy, "{policy}");
            // Kyverno may have written its status meanwhile.
            Ok(world.run("kubectl", &["replace", "--filename=-"], &[], &edited).await.is_ok())
        })
        .await?;
        wait_until("the edit is undone", async || {
            let get = ["get", Kind::under_test().plural(), "--output=yaml"];
            Ok(!world.kubectl(&get).await?.contains("quay.io/nobody"))
        })
        .await?;

        // The kind alone is no list.
        serve(world).await?;
        world.rotate("kindless", "d").await?;
        ensure!(skipped(world).await? == before && remembered(shared).await? > 0);

        // Nor for an operator that has not seen how it came.
        turn::kill(shared).await?;
        turn::start(shared, &[]).await?;
        world.rotate("kindless", "e").await?;
        ensure!(skipped(world).await? == before, "the lists count as deleted after a restart");
        ensure!(remembered(shared).await? > 0);

        both_lists(world).await?;
        wait_until("nothing is remembered", async || Ok(remembered(shared).await? == 0)).await?;
        wait_until("all is as before", async || Ok(skipped(world).await? == before)).await?;
        world.wait_until_admitted("kindless-dev", EXCLUDED).await?;

        // The same by an operator that knew the lists; here one does not come back.
        world.kubectl(&["delete", "crd", CRD]).await?;
        serve(world).await?;
        wait_until("both lists are remembered", async || Ok(remembered(shared).await? == 2))
            .await?;
        world.kubectl(&["apply", "--filename=manifests/exclusions.yaml"]).await?;
        wait_until("one is remembered", async || Ok(remembered(shared).await? == 1)).await?;
        ensure!(skipped(world).await? == before);

        // To let one go, it is applied and deleted: a list that somebody deletes goes.
        world.apply(LIST).await?;
        world.kubectl(&["delete", "iel", "kindless"]).await?;
        world.wait_until_refused("kindless-dev", EXCLUDED).await?;
        ensure!(remembered(shared).await? == 0);
        Ok(())
    });
}
