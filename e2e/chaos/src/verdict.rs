//! What became of the rings: whether all have settled, every key is there,
//! and none was minted that nobody asked for.

use std::time::Duration;

use anyhow::Result;
use futures::{StreamExt, stream};
use kube::{Api, ResourceExt};
use signingkeyring_crds::{SigningKeyRing, SigningKeyRingStatus};
use signingkeyring_e2e_observer::invariant::Invariant;
use signingkeyring_e2e_testbed::images::Verdict;

use super::{facts::Ring, journal::Kind, owners, prober, run::Run, signer, wait::wait};

/// How long the rings may take to settle.
const PATIENCE: Duration = Duration::from_secs(180);

/// Waits until every ring has settled; what has not violates `settles`.
pub async fn settle(run: &Run) {
    for ring in &run.rings {
        if let Err(error) = owners::enforce(run, ring).await {
            run.journal.violated(Invariant::Settles, &format!("{ring}: {error:#}"));
        }
        if let Some(facts) = run.facts.lock().rings.get_mut(ring) {
            facts.audits = false;
        }
    }
    let settled = async || unsettled(run).await.is_ok_and(|left| left.is_empty());
    match wait(PATIENCE, settled).await {
        Some(took) => run.journal.took("the end of the faults until all rings were settled", took),
        None => {
            for text in unsettled(run).await.unwrap_or_else(|error| vec![format!("{error:#}")]) {
                run.journal.violated(Invariant::Settles, &text);
            }
        }
    }
}

/// The rings that have not settled, and what they say.
async fn unsettled(run: &Run) -> Result<Vec<String>> {
    let api: Api<SigningKeyRing> = Api::all(run.client.clone());
    let rings = api.list(&Default::default()).await?;
    let known = run.facts.lock();
    let mut left = Vec::new();
    for ring in rings {
        let name = ring.name_any();
        let Some(facts) = known.rings.get(&name) else { continue };
        let status = ring.status.clone().unwrap_or_default();
        let heard =
            ring.annotations().get("signing.odj.cloud/rotate") == status.observed_rotation.as_ref();
        let says = |kind, wanted| says(&status, kind).is_some_and(|found| found == wanted);
        let is_current = status.observed_generation == ring.metadata.generation;
        let calm = !status.conditions.iter().any(|c| c.type_ == "Reconciling");
        let enforced = says("PolicyEnforced", "True") && facts.enforces();
        if !(heard && is_current && calm && enforced && says("Ready", "True")) {
            let conditions: Vec<_> = status
                .conditions
                .iter()
                .map(|c| format!("{}={} {} {}", c.type_, c.status, c.reason, c.message))
                .collect();
            left.push(format!("{name}: {}", conditions.join("; ")));
        }
    }
    Ok(left)
}

fn says<'a>(status: &'a SigningKeyRingStatus, kind: &str) -> Option<&'a str> {
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind);
    condition.map(|condition| condition.status.as_str())
}

/// Judges every ring.
pub async fn judge(run: &Run) {
    stream::iter(&run.rings)
        .for_each_concurrent(3, async |ring| {
            signer::check_ledger(run, ring).await;
            judge_pipeline(run, ring).await;
        })
        .await;
    let known = run.facts.lock();
    for (name, ring) in &known.rings {
        for text in minted_too_much(ring) {
            run.journal.violated(Invariant::ExactlyOnce, &format!("{name}: {text}"));
        }
        for text in vanished(ring) {
            run.journal.violated(Invariant::Window, &format!("{name}: {text}"));
        }
    }
}

/// Signs with what the pipeline holds, and asks for all three verdicts.
async fn judge_pipeline(run: &Run, ring: &str) {
    let signed = match signer::sign_at_last(run, ring).await {
        Ok(signed) => signed,
        Err(error) => {
            let text = format!("{ring}: {error:#}");
            return run.journal.violated(Invariant::PrivateKeysKnown, &text);
        }
    };
    let current = run.facts.lock().rings.get(ring).and_then(Ring::current);
    if current != Some(signed.version) {
        let text = format!("{ring}: its pipeline has version {}, not {current:?}", signed.version);
        run.journal.violated(Invariant::Settles, &text);
    }
    let retired = {
        let signed = run.signed.lock().await;
        let known = run.facts.lock();
        let mut of_ring = signed.get(ring).into_iter().flatten();
        of_ring.find(|signed| known.is_refused(ring, signed.version)).cloned()
    };
    let mut expected = vec![
        (signed.image, true, Invariant::NoGap),
        (run.unsigned.clone(), false, Invariant::ClosedNotOpen),
    ];
    expected.extend(retired.map(|retired| (retired.image, false, Invariant::Window)));
    for (image, has_to_run, violated) in expected {
        let verdict = prober::admit(run, ring, &image).await;
        run.journal.count(Kind::Decided, "at the end");
        if verdict.is_none() || (verdict == Some(Verdict::Admitted)) != has_to_run {
            let text = format!("{ring}: at the end {image}, has to run {has_to_run}: {verdict:?}");
            run.journal.violated(violated, &text);
        }
    }
}

/// Versions that nobody asked for, and requests that made two.
fn minted_too_much(ring: &Ring) -> Vec<String> {
    let mut wrong = Vec::new();
    for (number, seen) in ring.seen.iter().filter(|(_, seen)| seen.fingerprints.len() > 1) {
        wrong.push(format!("version {number} was minted twice: {:?}", seen.fingerprints));
    }
    for (token, versions) in ring.tokens.iter().filter(|(_, versions)| versions.len() > 1) {
        wrong.push(format!("the request {token} made versions {versions:?}"));
    }
    let asked: std::collections::BTreeSet<u32> = ring.tokens.values().flatten().copied().collect();
    let newest = ring.seen.keys().next_back().copied().unwrap_or(0);
    let unasked: Vec<u32> = (2..=newest).filter(|number| !asked.contains(number)).collect();
    if unasked.len() > ring.allowed as usize {
        let allowed = ring.allowed;
        wrong.push(format!("nobody asked for versions {unasked:?}, of which {allowed} may be"));
    }
    wrong
}

/// Versions that are gone without having fallen out of the window before.
fn vanished(ring: &Ring) -> Vec<String> {
    let gone = ring.seen.iter().filter(|(number, seen)| {
        let retired = matches!(seen.state.as_str(), "Retired" | "Revoked");
        !retired && ring.version(**number).is_none()
    });
    gone.map(|(number, seen)| format!("version {number} vanished, last {}", seen.state)).collect()
}

/// How many rotations were done: versions that came to sign, the first ones
/// apart.
#[must_use]
pub fn rotations(run: &Run) -> usize {
    let known = run.facts.lock();
    let signed = |ring: &Ring| ring.seen.values().filter(|seen| seen.activated).count();
    known.rings.values().map(|ring| signed(ring).saturating_sub(1)).sum()
}
