//! What is called wrongly, and what cannot be done, ends with the code that says so.

use anyhow::{Result, ensure};
use signingkeyring_e2e_testbed::pki::{Credential, kubeconfig};

use crate::{common, shell};

#[test]
fn what_is_called_wrongly_ends_with_2_and_what_fails_with_1() {
    common::run(async |shared| -> Result<()> {
        for (line, code, says) in [
            ("kubectl signing", 2, "Usage: kubectl signing"),
            ("kubectl signing status -o xml", 2, "possible values: table, wide, json, yaml"),
            ("kubectl signing impact x --rotate --revoke 1", 2, "cannot be used with"),
            ("kubectl signing revoke x v1 --reason y", 2, "the number of a version"),
            ("kubectl signing status nobody", 1, "there is no ring nobody"),
            ("kubectl signing status --context nowhere", 1, "kubeconfig cannot be used"),
            ("kubectl signing status --kubeconfig /nowhere", 1, "kubeconfig cannot be used"),
            ("kubectl signing why pod/x -n nowhere", 1, "there is no namespace nowhere"),
            ("kubectl signing completion fish", 0, "complete -c kubectl-signing"),
        ] {
            let ran = shell(&shared.world, line).await?;
            ensure!(ran.code == Some(code), "{line}: {:?}\n{}", ran.code, ran.text);
            ensure!(ran.text.contains(says), "{line}:\n{}", ran.text);
        }
        Ok(())
    });
}

#[test]
fn who_may_not_is_told_so() {
    common::run(async |shared| -> Result<()> {
        let world = &shared.world;
        // An account of the cluster that may do nothing.
        let token = world
            .kubectl(&["create", "token", "default", "--namespace=default", "--duration=1h"])
            .await?;
        let folder = &world.info.folder;
        let path = folder.join("nobody.kubeconfig");
        let credential = Credential::Token(token.trim());
        std::fs::write(&path, kubeconfig(&world.info.server, folder, &credential))?;
        let line = format!("kubectl signing status --kubeconfig {}", path.display());
        let ran = shell(world, &line).await?;
        ensure!(ran.code == Some(1), "{:?}\n{}", ran.code, ran.text);
        ensure!(ran.text.contains("forbidden"), "{}", ran.text);
        Ok(())
    });
}
