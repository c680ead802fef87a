//! Who has few rights is told which one is missing, for what, and who can help.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{
    pki::{Credential, kubeconfig},
    world::{World, wait_until},
};

use crate::{expect, shell};

/// What whoever may only read a ring's object has.
const READER: &str = "{apiGroups: [signing.odj.cloud], resources: [signingkeyrings], verbs: [get]}";

/// What a pipeline has that asks for the rotations of one ring.
const ROTATOR: &str = "{apiGroups: [signing.odj.cloud], resources: [signingkeyrings], \
                       resourceNames: [scratch], verbs: [get, patch, update, rotate]}";

const SCRATCH: &str = "
apiVersion: signing.odj.cloud/v1alpha1
kind: SigningKeyRing
metadata: {name: scratch}
spec: {}
";

/// Calls everything as nobody, and as who may read one object.
pub async fn few(world: &World, ring: &str) -> Result<()> {
    let nobody = account(world, "default").await?;
    let of_ring = format!("ring {ring}: ");
    for (command, object) in [
        ("status".to_owned(), "rings: "),
        (format!("status {ring}"), &*of_ring),
        (format!("status {ring} --watch"), &*of_ring),
        (format!("impact {ring}"), &*of_ring),
        (format!("verify {ring}"), &*of_ring),
        (format!("history {ring}"), &*of_ring),
        (format!("public-keys {ring}"), &*of_ring),
        (format!("rotate {ring} --yes"), &*of_ring),
        (format!("revoke {ring} 1 --reason test --yes"), &*of_ring),
        (format!("enroll {ring} default"), &*of_ring),
        (format!("unenroll {ring} default --yes"), "namespace default: "),
        ("why redis:7 -n default".to_owned(), "namespace default: "),
        ("why pod/x -n default".to_owned(), "namespace default: "),
        ("exclusions".to_owned(), "exclusion lists: "),
        ("coverage".to_owned(), "rings: "),
    ] {
        refused(world, &command, &nobody, object).await?;
    }
    let doctor = format!("kubectl signing doctor --kubeconfig {nobody}");
    let missing = "you may not list rings: status shows single rings alone";
    let ran = shell(world, &doctor).await?;
    ensure!(ran.code == Some(0) && ran.text.contains(missing), "{:?}\n{}", ran.code, ran.text);

    let reader = holder(world, "reader", READER).await?;
    let may = |command: &str| format!("kubectl signing {command} --kubeconfig {reader}");
    // What is allowed is known some time after it was written.
    let can = format!("kubectl auth can-i get signingkeyrings --kubeconfig {reader}");
    wait_until("the reader may read rings", async || Ok(shell(world, &can).await?.code == Some(0)))
        .await?;
    for (command, says) in [
        (format!("status {ring}"), "(you may not list them)"),
        (format!("history {ring}"), "MINTED"),
        (format!("public-keys {ring}"), "BEGIN PUBLIC KEY"),
        ("doctor".to_owned(), "you may not ask for rotations (the verb rotate or update"),
    ] {
        expect(world, &may(&command), 0, says).await?;
    }
    for (command, object) in [
        (format!("status {ring} --watch"), "following rings: "),
        (format!("impact {ring}"), "exclusion lists: "),
        (format!("verify {ring}"), "exclusion lists: "),
        (format!("rotate {ring} --force --yes"), &*format!("asking ring {ring} for a rotation: ")),
        (
            format!("revoke {ring} 1 --reason test --yes"),
            &*format!("revoking a version of ring {ring}: "),
        ),
        (format!("enroll {ring} default"), "namespace default: "),
    ] {
        refused(world, &command, &reader, object).await?;
    }
    let unsure = "what would break cannot be seen: exclusion lists";
    expect(world, &may(&format!("rotate {ring} --yes")), 1, unsure).await?;

    // Who may ask and not watch has asked all the same, and is not told that it failed.
    world.apply(SCRATCH).await?;
    world.wait_for_condition("scratch", "KeysAvailable", "True").await?;
    let rotator = holder(world, "rotator", ROTATOR).await?;
    let can = format!("kubectl auth can-i patch signingkeyrings/scratch --kubeconfig {rotator}");
    wait_until("the rotator may ask", async || Ok(shell(world, &can).await?.code == Some(0)))
        .await?;
    let asked = "it was asked for, and cannot be followed: ";
    for command in
        ["rotate scratch --force --yes --wait", "revoke scratch 1 --reason test --yes --wait"]
    {
        let command = format!("kubectl signing {command} --kubeconfig {rotator}");
        expect(world, &command, 3, asked).await?;
    }
    world.wait_for_field("scratch", "{.status.versions[0].version}", "2").await?;
    world.kubectl(&["delete", "signingkeyring", "scratch", "--timeout=2m"]).await?;
    Ok(())
}

/// Ends with 1, and says at what, why, and what helps.
async fn refused(world: &World, command: &str, by: &str, object: &str) -> Result<()> {
    let ran = shell(world, &format!("kubectl signing {command} --kubeconfig {by}")).await?;
    let text = &ran.text;
    ensure!(ran.code == Some(1), "{command}: {:?}\n{text}", ran.code);
    ensure!(text.contains(&format!("error: {object}")), "{command}: no {object:?} in\n{text}");
    for says in ["is forbidden", "kubectl signing doctor shows which rights commands take"] {
        ensure!(text.contains(says), "{command}: {says:?} is not in\n{text}");
    }
    Ok(())
}

/// The kubeconfig of a new account of namespace `default` that has one rule.
async fn holder(world: &World, name: &str, rule: &str) -> Result<String> {
    world
        .apply(&format!(
            "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}, namespace: default}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {{name: plugin-{name}}}
rules: [{rule}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {{name: plugin-{name}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: plugin-{name}}}
subjects: [{{kind: ServiceAccount, name: {name}, namespace: default}}]
"
        ))
        .await?;
    account(world, name).await
}

/// The kubeconfig of an account of namespace `default`.
async fn account(world: &World, name: &str) -> Result<String> {
    let token = ["create", "token", name, "--namespace=default", "--duration=1h"];
    let token = world.kubectl(&token).await?;
    let folder = &world.info.folder;
    let path = folder.join(format!("{name}-account.kubeconfig"));
    std::fs::write(
        &path,
        kubeconfig(&world.info.server, folder, &Credential::Token(token.trim())),
    )?;
    Ok(path.display().to_string())
}
