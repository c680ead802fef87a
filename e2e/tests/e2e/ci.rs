//! The steps of the recipes for pipelines (examples/ci), run as they stand there, by an
//! identity with no right but to read the one Secret.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::{images::Verdict, tools, world::World};
use tokio::process::Command;

use crate::common::run;

const RING: &str = "recipes";
const PIPELINE: &str = "recipes-ci";
const NAMESPACE: &str = "recipes-dev";

/// A job: its folder, and what its environment says.
struct Job {
    folder: PathBuf,
    environment: Vec<(&'static str, String)>,
}

impl Job {
    /// With a token that lives for ten minutes.
    async fn new(world: &World) -> Result<Self> {
        let access = fs::read_to_string(tools::root().join("examples/ci/access.yaml"))?;
        world.apply(&access.replace("checkout-ci", PIPELINE)).await?;
        let namespace = format!("--namespace={PIPELINE}");
        let token = world.kubectl(&["create", "token", "ci", &namespace, "--duration=10m"]).await?;
        let folder = world.info.folder.join("job");
        fs::create_dir_all(&folder)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let bin = tools::folder().join("bin");
        let environment = vec![
            ("PATH", format!("{}:{}:/usr/bin:/bin", folder.display(), bin.display())),
            ("HOME", path("")),
            ("KUBECONFIG", path("kubeconfig")),
            ("NAMESPACE", PIPELINE.to_owned()),
            ("API_SERVER", world.info.server.clone()),
            ("API_SERVER_CA", world.info.folder.join("ca.crt").display().to_string()),
            ("TOKEN", token.trim().to_owned()),
        ];
        Ok(Self { folder, environment })
    }

    async fn run(&self, program: &Path, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.environment.iter().cloned());
        Ok(command.current_dir(&self.folder).kill_on_drop(true).output().await?)
    }

    /// What a step prints, and whether it says that all went well.
    async fn step(&self, name: &str, arguments: &[&str]) -> Result<(Option<i32>, String)> {
        let script = tools::root().join(format!("examples/ci/steps/{name}.sh"));
        let output = self.run(&script, arguments).await?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.code(), String::from_utf8_lossy(&text).into_owned()))
    }

    async fn succeeds(&self, name: &str, arguments: &[&str]) -> Result<String> {
        let (code, text) = self.step(name, arguments).await?;
        ensure!(code == Some(0), "{name} {arguments:?}: {code:?} {text}");
        Ok(text)
    }
}

/// A cosign that has the ring rotated once, between a signature and the end of the step.
fn rotating_cosign(job: &Job, world: &World) -> Result<()> {
    let bin = tools::folder().join("bin");
    let (admin, bin) = (world.info.kubeconfig.display(), bin.display());
    let script = format!(
        "#!/bin/sh\nset -eu\n{bin}/cosign \"$@\"\n[ ! -e rotated ] || exit 0\ntouch rotated\n\
         {bin}/kubectl --kubeconfig={admin} annotate --overwrite skr {RING} signing.odj.cloud/rotate=meanwhile\n\
         {bin}/kubectl --kubeconfig={admin} wait skr {RING} --timeout=90s \
         --for=jsonpath='{{.status.observedRotation}}'=meanwhile\n"
    );
    let path = job.folder.join("cosign");
    fs::write(&path, script)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    Ok(fs::set_permissions(path, mode)?)
}

#[test]
fn the_steps_of_the_recipes_sign_and_sign_again() {
    run(async |shared| {
        let world = &shared.world;
        world.ready_ring(RING).await?;
        let job = Job::new(world).await?;
        let said = job.succeeds("login", &[]).await?;
        ensure!(said.trim() == "secret/image-signing", "{said}");
        let kubectl = tools::program("kubectl")?;
        for other in [["get", "secrets"], ["get", "secret/other"], ["get", "skr"]] {
            let output = job.run(&kubectl, &other).await?;
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            ensure!(!output.status.success() && said.contains("orbidden"), "{other:?}: {said}");
        }

        let image = world.push("recipes", "1").await?;
        let tag = format!("{}/recipes:1", world.info.registry);
        let (code, said) = job.step("sign", &[&tag]).await?;
        ensure!(code == Some(2) && said.contains("name the digest"), "{said}");
        let (code, said) = job.step("verify", &[&image]).await?;
        ensure!(code != Some(0), "an unsigned image was verified: {said}");
        let said = job.succeeds("sign", &[&image]).await?;
        ensure!(said.contains("signed with version 1"), "{said}");
        job.succeeds("verify", &[&image]).await?;
        ensure!(world.admit(NAMESPACE, &image).await? == Verdict::Admitted);

        // The ring rotates while a step signs.
        rotating_cosign(&job, world)?;
        let second = world.push("recipes", "2").await?;
        let said = job.succeeds("sign", &[&second]).await?;
        ensure!(said.contains("signed again") && said.contains("with version 2"), "{said}");
        job.succeeds("verify", &[&second]).await?;

        // What the first version signed is out of the window, and signed again.
        world.rotate(RING, "third").await?;
        world.rotate(RING, "fourth").await?;
        world.wait_until_refused(NAMESPACE, &image).await?;
        let list = job.folder.join("digests");
        fs::write(&list, format!("# what still runs\n\n{image}\n"))?;
        job.succeeds("resign", &[&list.display().to_string()]).await?;
        world.wait_until_admitted(NAMESPACE, &image).await?;

        // One that cannot be signed does not keep the others from it.
        let third = world.push("recipes", "3").await?;
        fs::write(&list, format!("{tag}\n{third}\n"))?;
        let (code, said) = job.step("resign", &[&list.display().to_string()]).await?;
        ensure!(code == Some(1), "{said}");
        world.wait_until_admitted(NAMESPACE, &third).await
    });
}
