//! A node loses its power and comes back.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{node, world::wait_until};

use crate::{Node, apps};

/// Kubelet, containerd and every process of every pod end at once. When the node is back,
/// so is the operator, without anybody's doing.
pub async fn power_cut(node: &Node) -> Result<()> {
    node.step("The node loses its power");
    for component in ["kubelet", "containerd"] {
        node.cluster.stop(component).await?;
    }
    wait_until("nothing of a pod runs", async || node::end_pods()).await?;
    wait_until("the node is as after a start", async || node::forget().await.map(|()| true))
        .await?;
    node.step("The node starts");
    for component in ["containerd", "kubelet"] {
        node.cluster.start_again(component).await?;
    }
    let state = "{.status.containerStatuses[0].restartCount} \
                 {.status.containerStatuses[0].ready}";
    wait_until("the operator's pods run again", async || {
        Ok(node.of_pods(state).await? == ["1 true", "1 true"])
    })
    .await?;
    ensure!(node.world.kubectl(&["get", "--raw=/readyz"]).await? == "ok");
    node.step("The operator is back. A ring rotates");
    apps::rotates(node, "after-the-outage").await
}
