//! The corpus: images that the real cosigns signed in every way, and what becomes of
//! them. The library `inspect` and `kubectl signing why` say of each what Kyverno says, for
//! both kinds of policy, and where cosign itself says something else, docs/signature-corpus.md tells.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

#[path = "../common/mod.rs"]
mod common;

mod attach;
mod cases;
mod keys;
mod plain;
mod raw;
mod referrers;
mod seen;
mod special;
mod why;

use std::{fs, sync::Arc};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use signingkeyring_e2e_testbed::{kind::Kind, page};
use signingkeyring_inspect::{Inspection, Inspector, Limits, Outcome, PolicyKind, Verdict};

use crate::{
    attach::{Bed, How},
    cases::Case,
    keys::{By, RING, move_to},
};

/// What is asked at once, of two processors.
const AT_ONCE: usize = 6;

fn policy_kind(kind: Kind) -> PolicyKind {
    match kind {
        Kind::ClusterPolicy => PolicyKind::ClusterPolicy,
        Kind::ImageValidatingPolicy => PolicyKind::ImageValidatingPolicy,
    }
}

/// Looks at each image.
async fn inspected(inspector: &Inspector, cases: &[Case]) -> Result<Vec<Arc<Inspection>>> {
    let looks = cases.iter().map(|case| async move {
        let image = signingkeyring_inspect::Image::parse(&case.image);
        let image = image.with_context(|| format!("{} is no image", case.image))?;
        Ok(inspector.inspect(&image).await)
    });
    stream::iter(looks).buffered(AT_ONCE).try_collect().await
}

/// What is wrong with a verdict, given whether Kyverno admits the image.
fn wrong(case: &Case, kind: Kind, verdict: &Verdict, admitted: bool) -> Option<String> {
    let is_right = match &verdict.outcome {
        Outcome::Admitted => admitted,
        Outcome::Refused(_) => !admitted,
        Outcome::Unknown(_) => true,
    };
    let is_unknown = matches!(verdict.outcome, Outcome::Unknown(_));
    let is_open = case.unknown.contains(&kind);
    let seen = if admitted { "admits" } else { "refuses" };
    (!is_right || is_unknown != is_open)
        .then(|| format!("{kind} {seen} {} ({}): {verdict:?}", case.what, case.image))
}

/// Who has a password reads what others may not.
async fn private_images(bed: &Bed<'_>) -> Result<()> {
    let image = bed.signed("private", &[(How::Sig, By::Accepted)]).await?;
    let image = image.replace(&bed.world.info.registry, &bed.private.name);
    let image = signingkeyring_inspect::Image::parse(&image).context("no image")?;
    let secret = bed.private.pull_secret("any", "any");
    let config = secret["stringData"][".dockerconfigjson"].as_str().context("no configuration")?;
    let file = bed.world.info.folder.join("docker-config.json");
    fs::write(&file, config)?;
    let inspector = Inspector::with_docker_config(Limits::default(), file)?;
    let found = inspector.inspect(&image).await;
    for kind in PolicyKind::ALL {
        let outcome = found.judge(kind, RING, &bed.keys.known).outcome;
        ensure!(outcome == Outcome::Admitted, "{kind:?}: {outcome:?}");
    }
    Ok(())
}

#[test]
fn verdicts_are_kyvernos() {
    common::run(async |shared| {
        let bed = Bed::new(&shared.world).await?;
        let cases = cases::all(&bed).await?;
        ensure!(cases.len() >= 40, "{} images are no corpus", cases.len());
        let inspector = Inspector::new(Limits::default())?;
        let inspections = inspected(&inspector, &cases).await?;
        let digests = cases.iter().filter(|case| case.is_there).count();
        ensure!(
            (digests..=cases.len()).contains(&inspector.inspections()),
            "{} inspections of {} images",
            inspector.inspections(),
            cases.len()
        );
        private_images(&bed).await?;
        let by_cosign = seen::by_cosign(&bed, &cases).await?;
        let mut columns = Vec::new();
        let mut all_wrong = Vec::new();
        for kind in Kind::ALL {
            move_to(&shared.world, kind).await?;
            let admitted = seen::by_kyverno(&shared.world, &cases).await?;
            for ((case, found), admitted) in cases.iter().zip(&inspections).zip(&admitted) {
                let verdict = found.judge(policy_kind(kind), RING, &bed.keys.known);
                all_wrong.extend(wrong(case, kind, &verdict, *admitted));
                let expected = case.signers.as_ref();
                let signers = seen::signers(&verdict);
                if expected.is_some_and(|expected| *expected != signers) {
                    all_wrong.push(format!("{}: signed by {signers:?}", case.what));
                }
            }
            all_wrong.extend(why::wrong(&shared.world, kind, &cases, &admitted).await?);
            columns.push(admitted);
        }
        let table = seen::table(&cases, &inspections, &columns, &by_cosign, &bed.keys.known);
        println!("{table}");
        ensure!(all_wrong.is_empty(), "{} are wrong:\n{}", all_wrong.len(), all_wrong.join("\n"));
        page::shows("docs/signature-corpus.md", "corpus/main.rs", &table)
    });
}
