//! What `kubectl signing why` says of each image, and what it hears of Kyverno.

use std::{collections::BTreeMap, process::Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use signingkeyring_e2e_testbed::{kind::Kind, tools, world::World};
use tokio::process::Command;

use crate::{cases::Case, keys::RING};

/// Its report, as far as it is of interest.
#[derive(Deserialize)]
struct Report {
    images: Vec<Said>,
}

/// What it says of an image.
#[derive(Clone, Debug, Deserialize)]
struct Said {
    image: String,
    here: Verdict,
    kyverno: Verdict,
    because: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Verdict {
    Admitted,
    Refused,
    Unknown,
}

/// What is wrong with what it says, given what Kyverno admits. All images are asked for at
/// once, as one may, by who has no password for any registry.
pub async fn wrong(
    world: &World,
    kind: Kind,
    cases: &[Case],
    admitted: &[bool],
) -> Result<Vec<String>> {
    let output = Command::new(tools::built("kubectl-signing")?)
        .args(["why", "--output=json", "--namespace", &format!("{RING}-dev")])
        .args(cases.iter().map(|case| &case.image))
        .env("KUBECONFIG", &world.info.kubeconfig)
        .env("DOCKER_CONFIG", &world.info.folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await?;
    let error = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(3), "why ends with {}: {error}", output.status);
    let report: Report = serde_json::from_slice(&output.stdout).context("no report")?;
    let said: BTreeMap<&str, &Said> =
        report.images.iter().map(|said| (said.image.as_str(), said)).collect();
    let mut wrong = Vec::new();
    for (case, admitted) in cases.iter().zip(admitted) {
        let said =
            said.get(case.image.as_str()).with_context(|| format!("{} lacks", case.image))?;
        let kyvernos = if *admitted { Verdict::Admitted } else { Verdict::Refused };
        let expected = match case.unknown.contains(&kind) {
            true => Verdict::Unknown,
            false => kyvernos,
        };
        if said.here != expected || said.kyverno != kyvernos {
            wrong.push(format!(
                "{kind}: why says of {} {:?} ({}) and hears {:?}, in place of {expected:?} and \
                 {kyvernos:?}",
                case.what, said.here, said.because, said.kyverno
            ));
        }
    }
    println!("{kind}: why was asked for {} images", report.images.len());
    Ok(wrong)
}
