//! What is called wrongly, and what cannot be done, ends with the code that says so.

use anyhow::{Result, ensure};

use crate::{common, shell};

#[test]
fn what_is_called_wrongly_ends_with_2_and_what_fails_with_1() {
    common::run(async |shared| -> Result<()> {
        for (line, code, says) in [
            ("kubectl signing", 2, "Usage: kubectl signing"),
            ("kubectl signing status -o xml", 2, "possible values: table, wide, json, yaml"),
            ("kubectl signing impact x --rotate --revoke 1", 2, "cannot be used with"),
            ("kubectl signing revoke x v1 --reason y", 2, "the number of a version"),
            ("kubectl signing status UPPER", 2, "small letters, digits"),
            ("kubectl signing status ''", 2, "small letters, digits"),
            ("kubectl signing history x/status", 2, "small letters, digits"),
            ("kubectl signing enroll x a/b", 2, "small letters, digits"),
            ("kubectl signing coverage --enrolment-label 'a b'", 2, "must be a label key"),
            ("kubectl signing why pod/ -n default", 2, "write pod/NAME"),
            ("kubectl signing status x --watch -o json", 2, "cannot be used with"),
            ("kubectl signing impact x --resign-list -o json", 2, "cannot be used with"),
            ("kubectl signing impact x --keep 0", 2, "0 is not in 1..=10"),
            ("kubectl signing verify x --times 0", 2, "0 is not in 1..=1000"),
            ("kubectl signing rotate x --timeout soon", 2, "is no duration"),
            ("kubectl signing revoke x 1", 2, "--reason <TEXT>"),
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
