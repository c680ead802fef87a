//! What differs by kind stands in one table of docs/policy-kinds.md, and each cell of
//! it is what this test sees. `SIGNING_DOCS=write` writes it.

use std::{env, fs};

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use signingkeyring_e2e_testbed::{
    injector::Injector,
    kind::Kind,
    private::PrivateRegistry,
    tools,
    world::{World, wait_until},
};

use crate::{common::Shared, in_turn, rows};

/// What the table stands between.
const MARKS: [&str; 2] = [
    "<!-- What follows was seen by e2e/tests/kinds/table.rs, which also writes it. -->\n",
    "<!-- The end of what was seen. -->",
];

/// What is asked of one kind while Kyverno is down.
async fn while_down(shared: &Shared, kind: Kind) -> Result<Vec<rows::Row>> {
    shared.cluster.stop("kyverno").await?;
    let seen = rows::down(&shared.world, kind).await;
    shared.cluster.start_again("kyverno").await?;
    seen
}

/// Takes all rings but one down, and waits until Kyverno is not called for others' pods.
async fn leave_but(world: &World, ring: &str) -> Result<()> {
    let label = "signing.odj.cloud/ring";
    let others = format!("{label},{label} notin (signing-gate,{ring})");
    world.kubectl(&["label", "namespaces", "-l", &others, &format!("{label}-")]).await?;
    let others = format!("metadata.name!={ring}");
    world.kubectl(&["delete", "skr", "--field-selector", &others]).await?;
    wait_until("no webhook of Kyverno's takes pods of all namespaces", async || {
        let mut names = String::new();
        for half in ["mutating", "validating"] {
            let configuration = format!("kyverno-resource-{half}-webhook-cfg");
            let webhooks = [&format!("{half}webhookconfiguration"), configuration.as_str()];
            names += &format!("{} ", world.get(&webhooks, "{.webhooks[*].name}").await?);
        }
        // Those of newer kinds have other names, and take pods of their rings alone.
        let of_all = ["mutate.kyverno.svc-fail", "validate.kyverno.svc-fail"];
        Ok(names.split(' ').all(|name| !of_all.contains(&name)))
    })
    .await
}

#[test]
fn the_table_of_the_kinds_is_what_is_seen() {
    in_turn(async |shared| {
        let world = &shared.world;
        let [one, other] = Kind::ALL;
        let private = PrivateRegistry::start(&world.info.registry).await?;
        let injector = Injector::start().await?;
        world.apply(&injector.webhook().to_string()).await?;
        let both = [one, other].map(|kind| rows::seen(world, &private, kind));
        let both = try_join_all(both).await;
        world.kubectl(&["delete", "mutatingwebhookconfiguration", "sidecars"]).await?;
        let [mut left, mut right] = <[_; 2]>::try_from(both?).unwrap_or_default();
        // A ClusterPolicy has Kyverno called for all pods, so it goes before the others
        // are asked about.
        left.extend(while_down(shared, one).await?);
        leave_but(world, &rows::ring(other)).await?;
        right.extend(while_down(shared, other).await?);
        ensure!(left.len() == right.len(), "{left:?}\n{right:?}");
        let mut table = format!("| what is asked | {one} | {other} |\n|---|---|---|\n");
        for ((what, of_one), (also, of_other)) in left.into_iter().zip(right) {
            ensure!(what == also, "{what} is not {also}");
            table.push_str(&format!("| {what} | {of_one} | {of_other} |\n"));
        }
        println!("{table}");

        let page = tools::root().join("docs/policy-kinds.md");
        let text = fs::read_to_string(&page)?;
        let parts: Vec<&str> = MARKS.iter().flat_map(|mark| text.split(mark)).collect();
        ensure!(parts.len() == 4, "docs/policy-kinds.md has its marks once each");
        let (before, after) = (parts[0], parts[3]);
        let seen = format!("{before}{}{table}{}{after}", MARKS[0], MARKS[1]);
        if env::var("SIGNING_DOCS").is_ok_and(|wish| wish == "write") {
            fs::write(&page, &seen)?;
        }
        ensure!(
            fs::read_to_string(&page)? == seen,
            "docs/policy-kinds.md says something else. Seen:\n{table}Where that is right, run \
             SIGNING_DOCS=write cargo test --package signingkeyring-e2e-tests --test kinds"
        );
        Ok(())
    });
}
