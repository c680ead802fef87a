//! A ring of an application, whose signed pods run and whose unsigned ones never exist.

use anyhow::Result;
use signingkeyring_e2e_testbed::node::push_program;

use crate::{Node, print};

const RING: &str = "shop";

/// A Deployment of a signed image, which runs, and one of an unsigned one.
pub async fn run_and_fail(node: &Node) -> Result<()> {
    let world = &node.world;
    node.step(&format!("A ring {RING}, with a Deployment of a signed image"));
    world.ready_ring(RING).await?;
    let [signed, unsigned] = [
        push_program(&world.info.registry, "shop/app", "1").await?,
        push_program(&world.info.registry, "shop/app", "2").await?,
    ];
    world.sign(&signed, "shop-ci/image-signing").await?;
    for (name, image) in [("signed", &signed), ("unsigned", &unsigned)] {
        let image = format!("--image={image}");
        world.kubectl(&["create", "deployment", name, &image, "-n=shop-dev"]).await?;
    }
    let rolled = ["rollout", "status", "deployment/signed", "-n=shop-dev", "--timeout=60s"];
    world.kubectl(&rolled).await?;
    node.step("A Deployment of an unsigned one: FailedCreate");
    print(&format!("  {}\n", node.refused("shop-dev", "unsigned").await?));
    Ok(())
}

/// The application's ring still does what a ring does.
pub async fn rotates(node: &Node, token: &str) -> Result<()> {
    node.world.rotate(RING, token).await
}
