//! Tries to run images, and judges the verdicts that have to be known.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::ObjectMeta};
use signingkeyring_e2e_observer::{
    invariant::Invariant,
    ledger::{Ledger, Version},
};
use signingkeyring_e2e_testbed::images::{self, Verdict};
use tokio::time::{sleep, timeout};

use super::{
    facts::Moment,
    journal::Kind,
    random::Random,
    run::{NAMESPACE, Run, Signed},
};

/// The API server gives up on a webhook before that.
const PATIENCE: Duration = Duration::from_secs(40);

/// Probes for ever.
pub async fn probe(run: Arc<Run>, name: String) {
    let mut random = Random::new(run.options.seed, &name);
    loop {
        let Some(ring) = random.pick(&run.rings).cloned() else { return };
        match random.between(0, 3) {
            0 => unsigned(&run, &ring).await,
            1 => retired(&run, &ring, &mut random).await,
            _ => current(&run, &ring, &mut random).await,
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// Asks whether a Pod of an image may run; nothing if there was no verdict.
pub async fn admit(run: &Run, ring: &str, image: &str) -> Option<Verdict> {
    let (namespace, images) = (format!("{ring}-dev"), [image]);
    timeout(PATIENCE, images::admit(&run.client, &namespace, &images)).await.ok()?.ok()
}

async fn unsigned(run: &Run, ring: &str) {
    let before = run.facts.lock().enforced(ring);
    let verdict = admit(run, ring, &run.unsigned).await;
    let after = run.facts.lock().enforced(ring);
    let decided = between(before.as_ref(), after.as_ref());
    judge(run, ring, "unsigned", decided, verdict.as_ref(), Some(Invariant::ClosedNotOpen));
}

async fn retired(run: &Run, ring: &str, random: &mut Random) {
    let wanted: Vec<Signed> = {
        let signed = run.signed.lock().await;
        let known = run.facts.lock();
        let signed = signed.get(ring).into_iter().flatten();
        signed.filter(|signed| known.is_refused(ring, signed.version)).cloned().collect()
    };
    let Some(signed) = random.pick(&wanted) else { return };
    let before = run.facts.lock().enforced(ring);
    let verdict = admit(run, ring, &signed.image).await;
    let after = run.facts.lock().enforced(ring);
    let what = format!("signed by retired version {}", signed.version);
    let decided = between(before.as_ref(), after.as_ref());
    judge(run, ring, &what, decided, verdict.as_ref(), Some(Invariant::Window));
}

async fn current(run: &Run, ring: &str, random: &mut Random) {
    let wanted: Vec<Signed> = {
        let signed = run.signed.lock().await;
        let known = run.facts.lock();
        let Some(facts) = known.rings.get(ring) else { return };
        let accepts = |version| facts.version(version).is_some_and(Version::is_accepted);
        let signed = signed.get(ring).into_iter().flatten();
        signed.filter(|signed| accepts(signed.version)).cloned().collect()
    };
    // The newest twice as often as any older one.
    let newest = wanted.iter().max_by_key(|signed| signed.version);
    let signed = if random.one_in(2) { newest } else { random.pick(&wanted) };
    let Some(signed) = signed else { return };
    let before = run.facts.lock().in_place(ring);
    let verdict = admit(run, ring, &signed.image).await;
    let after = run.facts.lock().in_place(ring);
    // A version that is accepted has been since it signed.
    let decided =
        between(before.as_ref(), after.as_ref()) && is_accepted(run, ring, signed.version).await;
    let what = format!("signed by accepted version {}", signed.version);
    judge(run, ring, &what, decided, verdict.as_ref(), None);
}

fn between(before: Option<&Moment>, after: Option<&Moment>) -> bool {
    before.is_some() && before == after
}

/// Whether a version is accepted right now, by the ledger itself.
async fn is_accepted(run: &Run, ring: &str, version: u32) -> bool {
    let secrets: Api<Secret> = Api::namespaced(run.client.clone(), NAMESPACE);
    let ObjectMeta { annotations, .. } = match secrets.get_metadata(&format!("ring-{ring}")).await {
        Ok(secret) => secret.metadata,
        Err(_) => return false,
    };
    Ledger::of_annotations(annotations.as_ref())
        .is_ok_and(|ledger| ledger.version(version).is_some_and(Version::is_accepted))
}

/// Judges a verdict; `refused_by` is the invariant that refuses the image, if
/// it has to be refused.
fn judge(
    run: &Run,
    ring: &str,
    what: &str,
    decided: bool,
    verdict: Option<&Verdict>,
    refused_by: Option<Invariant>,
) {
    let kind: String = what.chars().take_while(|c| !c.is_ascii_digit()).collect();
    let kind = kind.trim_end_matches(" version ");
    let Some(verdict) = verdict.filter(|_| decided) else {
        run.journal.count(Kind::Undecided, kind);
        return;
    };
    match (verdict, refused_by) {
        (Verdict::Admitted, Some(invariant)) => {
            run.journal.violated(invariant, &format!("{ring}: admitted an image {what}"));
        }
        // Nobody listens where Kyverno would: it ended by itself. The API server
        // says so in its text alone.
        (Verdict::Unanswered(text), None) if text.contains("connection refused") => {
            run.journal.note(&format!("Kyverno does not run: {text}"));
            run.journal.count(Kind::Undecided, kind);
            return;
        }
        (Verdict::Refused(text) | Verdict::Unanswered(text), None) => {
            let text = format!("{ring}: refused an image {what}: {text}");
            run.journal.violated(Invariant::NoGap, &text);
        }
        (Verdict::Admitted, None) | (_, Some(_)) => {}
    }
    run.journal.count(Kind::Decided, kind);
}
