//! What a log is told of a rotation.

use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::world::DEADLINE;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

use crate::{command, expect, kinds::Scene};

/// Follows one that is forced, and is told to end.
pub async fn a_rotation(scene: &Scene<'_>) -> Result<()> {
    let Scene { world, ring, .. } = scene;
    let mut watch = command(world, &format!("exec kubectl signing status {ring} --watch"))?
        .stdout(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(watch.stdout.take().context("no output")?).lines();
    let mut told = Vec::new();
    let mut wait = async |words: &str| {
        let until = async {
            while let Some(line) = lines.next_line().await? {
                told.push(line);
                if told.last().is_some_and(|line| line.contains(words)) {
                    return Ok(());
                }
            }
            anyhow::bail!("it ended")
        };
        let waited = timeout(DEADLINE, until).await;
        waited.with_context(|| format!("{words} is not told")).flatten()
    };
    wait(&format!("{ring}: version 2 is Current, held by {ring}-ci/image-signing")).await?;
    let line = format!("kubectl signing rotate {ring} --force --yes --wait");
    expect(world, &line, 0, "version 3 signs").await?;
    wait(&format!("{ring}: version 3 is Current, held by {ring}-ci/image-signing")).await?;
    ensure!(told.iter().all(|line| !line.contains('\u{1b}')), "{told:?}");
    let id = watch.id().context("it has ended")?.to_string();
    let ended = tokio::process::Command::new("kill").arg(id).status().await?;
    ensure!(ended.success());
    let status = timeout(DEADLINE, watch.wait()).await??;
    ensure!(status.code() == Some(130), "{status}");
    Ok(())
}
