//! Watches the ledgers and the rings, and asks Kyverno, by itself, what it
//! has loaded.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use futures::{Stream, StreamExt, pin_mut, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};
use signingkeyring_crds::SigningKeyRing;
use signingkeyring_e2e_observer::ledger::{Ledger, SECRET_TYPE};
use tokio::time::{Instant, sleep, timeout};

use super::{
    journal::{BACK, REFUSED},
    question,
    run::{NAMESPACE, Run},
};

/// Observes for ever.
pub async fn observe(run: Arc<Run>) {
    futures::join!(ledgers(&run), rings(&run), answers(&run));
}

async fn ledgers(run: &Run) {
    let api: Api<PartialObjectMeta<Secret>> = Api::namespaced(run.client.clone(), NAMESPACE);
    let config = watcher::Config::default().fields(&format!("type={SECRET_TYPE}"));
    follow(watcher(api, config), |secret| {
        let name = secret.name_any();
        let Some(ring) = name.strip_prefix("ring-") else { return };
        match Ledger::of_annotations(secret.metadata.annotations.as_ref()) {
            Ok(ledger) => run.facts.lock().ledger(ring, ledger),
            Err(error) => run.journal.note(&format!("the ledger of {ring}: {error:#}")),
        }
    })
    .await;
}

async fn rings(run: &Run) {
    let api: Api<SigningKeyRing> = Api::all(run.client.clone());
    follow(watcher(api, watcher::Config::default()), |ring: SigningKeyRing| {
        let name = ring.name_any();
        let Some(status) = ring.status else { return };
        let mut known = run.facts.lock();
        for condition in &status.conditions {
            known.condition(&name, &condition.type_, &condition.status, &condition.reason);
        }
        let Some(facts) = known.rings.get_mut(&name) else { return };
        facts.observed_rotation = status.observed_rotation;
        for version in status.versions {
            let seen = facts.seen.entry(version.version).or_default();
            seen.fingerprints.insert(version.fingerprint);
        }
    })
    .await;
}

async fn follow<K>(stream: impl Stream<Item = watcher::Result<Event<K>>>, see: impl Fn(K)) {
    pin_mut!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Apply(object) | Event::InitApply(object)) => see(object),
            Ok(_) => {}
            // The API server is away at times, on purpose.
            Err(_) => sleep(Duration::from_millis(300)).await,
        }
    }
}

async fn answers(run: &Run) {
    loop {
        let policies: BTreeSet<String> = {
            let known = run.facts.lock();
            known.rings.values().filter_map(|ring| ring.policy().map(str::to_owned)).collect()
        };
        stream::iter(policies).for_each_concurrent(8, |policy| hear(run, policy)).await;
        sleep(Duration::from_millis(500)).await;
    }
}

async fn hear(run: &Run, policy: String) {
    let asked = Instant::now();
    if let Ok(Ok(marks)) = timeout(Duration::from_secs(5), question::ask(run, &policy)).await {
        let news = run.facts.lock().answer(&policy, asked, &marks);
        for took in news.refused {
            run.journal.took(REFUSED, took);
        }
        for took in news.back {
            run.journal.took(BACK, took);
        }
    }
}
