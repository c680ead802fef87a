//! What Kyverno and cosign say, and the table of it.

use std::sync::Arc;

use anyhow::{Result, bail};
use futures::{StreamExt, TryStreamExt, stream};
use signingkeyring_e2e_testbed::{
    images::{self, Verdict as Seen},
    world::World,
};
use signingkeyring_inspect::{Format, Inspection, Key, PolicyKind, Verdict};

use crate::{
    AT_ONCE,
    attach::Bed,
    cases::Case,
    keys::{By, RING},
};

/// Whether Kyverno admits a Pod of each image.
pub async fn by_kyverno(world: &World, cases: &[Case]) -> Result<Vec<bool>> {
    let client = &world.client().await?;
    let namespace = &format!("{RING}-dev");
    let asked = cases.iter().map(|case| async move {
        match images::admit(client, namespace, &[&case.image]).await? {
            Seen::Admitted => Ok(true),
            Seen::Refused(_) => Ok(false),
            Seen::Unanswered(why) => bail!("{}: {why}", case.what),
        }
    });
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

/// Whether `cosign verify` takes each image by one of the keys that the ring accepts.
pub async fn by_cosign(bed: &Bed<'_>, cases: &[Case]) -> Result<Vec<bool>> {
    let asked = cases.iter().map(|case| async move {
        for by in [By::Current, By::Accepted] {
            let key = &bed.keys.pair(by)?.public;
            let flags = ["--insecure-ignore-tlog=true", "--private-infrastructure=true"];
            let verify = ["verify", "--key", key, flags[0], flags[1], &case.image];
            if bed.world.run("cosign", &verify, &[], "").await.is_ok() {
                return Ok(true);
            }
        }
        Ok(false)
    });
    stream::iter(asked).buffered(AT_ONCE).try_collect().await
}

/// Who signed, in words.
pub fn signers(verdict: &Verdict) -> Vec<String> {
    let word = |signer: &signingkeyring_inspect::Signer| {
        let format = match signer.format {
            Format::Tag => "`.sig`",
            Format::Bundle => "bundle",
        };
        format!("{} {} {:?} {format}", signer.ring, signer.version, signer.state)
    };
    verdict.signers.iter().map(word).collect()
}

/// What was seen of each image. What cosign says otherwise than one of the kinds is
/// set in bold.
pub fn table(
    cases: &[Case],
    inspections: &[Arc<Inspection>],
    by_kind: &[Vec<bool>],
    by_cosign: &[bool],
    keys: &[Key],
) -> String {
    let mut table =
        "| image | ClusterPolicy | ImageValidatingPolicy | `cosign verify` | signed by |\n\
         |---|---|---|---|---|\n"
            .to_owned();
    for (at, (case, found)) in cases.iter().zip(inspections).enumerate() {
        let verdict = found.judge(PolicyKind::ClusterPolicy, RING, keys);
        let admitted: Vec<bool> = by_kind.iter().map(|kind| kind[at]).collect();
        let words: Vec<&str> =
            admitted.iter().map(|yes| if *yes { "admitted" } else { "refused" }).collect();
        let cosign = if by_cosign[at] { "passes" } else { "fails" };
        let differs = admitted.iter().any(|yes| *yes != by_cosign[at]);
        let cosign = if differs { format!("**{cosign}**") } else { cosign.to_owned() };
        let signers = signers(&verdict).join(", ");
        let row = [case.what.as_str(), words[0], words[1], &cosign, &signers].join(" | ");
        table.push_str(&format!("| {row} |\n").replace("|  |", "| |"));
    }
    table
}
