//! What differs by kind stands in one table of docs/policy-kinds.md, and each cell of
//! it is what this test sees. `SIGNING_DOCS=write` writes it.

use anyhow::{Result, ensure};
use futures::future::try_join_all;
use signingkeyring_e2e_testbed::{
    injector::Injector,
    kind::Kind,
    page,
    private::PrivateRegistry,
    world::{World, wait_until},
};

use crate::{common::Shared, in_turn, rows};

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

        page::shows("docs/policy-kinds.md", "kinds/table.rs", &table)
    });
}
