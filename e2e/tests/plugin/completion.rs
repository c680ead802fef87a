//! That kubectl completes the commands, as it does for every plugin that has such a program.

use std::{fs, os::unix::fs::PermissionsExt as _};

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::world::{World, wait_until};

use crate::shell;

/// Installs the program and has kubectl ask it.
pub async fn by_kubectl(world: &World, ring: &str) -> Result<()> {
    let folder = world.info.folder.join("completion");
    fs::create_dir_all(&folder)?;
    let program = folder.join("kubectl_complete-signing");
    let install = format!("kubectl signing completion kubectl > {}", program.display());
    let ran = shell(world, &install).await?;
    ensure!(ran.code == Some(0), "{}", ran.text);
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755))?;
    let ring_line = format!("{ring}\n");
    for (words, offered) in [
        ("''", "status\tShow rings"),
        ("sta", "status\tShow rings"),
        ("status ''", ring_line.as_str()),
        ("status -o ''", "yaml\t"),
        ("impact x --re", "--revoke\tAfter a version is revoked"),
        ("enroll x ''", "kube-system\n"),
    ] {
        let line = format!("PATH={}:$PATH kubectl __complete signing {words}", folder.display());
        // A cluster that does not answer at once is not waited for by who types.
        let mut answers = Vec::new();
        let is_offered = async || {
            answers.push(shell(world, &line).await?);
            Ok(answers.last().is_some_and(|ran| ran.text.contains(offered)))
        };
        wait_until(&format!("{words} offers {offered:?}"), is_offered).await?;
        for ran in answers {
            ensure!(ran.code == Some(0), "{words}: {:?}\n{}", ran.code, ran.text);
            ensure!(ran.text.contains("\n:4\n"), "{words}: files are offered:\n{}", ran.text);
        }
    }
    Ok(())
}
