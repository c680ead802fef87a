//! The rings' owners: rotate, change the action, keep less, and exclude
//! images, all the time.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use signingkeyring_crds::{ImageExclusionList, SigningKeyRing};
use tokio::task::JoinSet;

use super::{
    journal::Kind,
    random::{Random, ShuffleBag},
    run::Run,
    wait::{wait, wait_to_know},
};

#[derive(Clone, Copy, Debug)]
enum Wish {
    Rotate,
    /// The value before the last one, again.
    Repeat,
    Revoke,
    Audit,
    List,
    Exclude,
}

/// Asks until the breaking is to end.
///
/// # Errors
/// None; what cannot be asked at the moment is left.
pub async fn ask(run: Arc<Run>) -> Result<()> {
    let mut random = Random::new(run.options.seed, "owners");
    let kinds = [
        (Wish::Rotate, 80),
        (Wish::Repeat, 3),
        (Wish::Revoke, 6),
        (Wish::Audit, 3),
        (Wish::List, 3),
        (Wish::Exclude, 3),
    ];
    let mut bag = ShuffleBag::new(&kinds, Random::new(run.options.seed, "bag of the owners"));
    let mut wishes = JoinSet::new();
    let mut number = 0;
    while !run.is_over() {
        run.rest(Duration::from_millis(random.between(100, 400))).await;
        let (Some(wish), Some(ring)) = (bag.draw(), random.pick(&run.rings).cloned()) else {
            break;
        };
        number += 1;
        let (run, random) = (Arc::clone(&run), Random::new(random.between(0, u64::MAX), "wish"));
        wishes.spawn(async move {
            if let Err(error) = grant(&run, wish, &ring, number, random).await {
                run.journal.note(&format!("{wish:?} for {ring} did not work: {error:#}"));
            }
        });
        while wishes.try_join_next().is_some() {}
    }
    while wishes.join_next().await.is_some() {}
    Ok(())
}

async fn grant(run: &Run, wish: Wish, ring: &str, number: u32, mut random: Random) -> Result<()> {
    match wish {
        Wish::Rotate => rotate(run, ring, format!("t{number}")).await,
        Wish::Repeat => {
            let before = {
                let known = run.facts.lock();
                let asked = known.rings.get(ring).map(|ring| ring.asked.as_slice());
                asked.and_then(|asked| asked.iter().rev().nth(1).cloned())
            };
            match before {
                Some(token) => rotate(run, ring, token).await,
                None => Ok(()),
            }
        }
        Wish::Revoke => revoke(run, ring, &mut random).await,
        Wish::Audit => audit_for_a_while(run, ring, &mut random).await,
        Wish::List => list(run, &mut random).await,
        Wish::Exclude => {
            let image = format!("quay.io/chaos-{number}/*");
            let exclude = json!([{"image": image, "reason": "chaos"}]);
            patch(run, ring, &json!({"spec": {"policy": {"exclude": exclude}}})).await?;
            run.journal.count(Kind::Request, "own exclusions");
            Ok(())
        }
    }
}

async fn rotate(run: &Run, ring: &str, token: String) -> Result<()> {
    // Before it is set: a token that is seen was asked for.
    if let Some(facts) = run.facts.lock().rings.get_mut(ring) {
        facts.asked.push(token.clone());
    }
    let annotations = json!({"signing.odj.cloud/rotate": token});
    patch(run, ring, &json!({"metadata": {"annotations": annotations}})).await?;
    run.journal.count(Kind::Request, "rotations asked for");
    Ok(())
}

/// Revokes the version that signs, or any other.
async fn revoke(run: &Run, ring: &str, random: &mut Random) -> Result<()> {
    let revoked = {
        let mut known = run.facts.lock();
        let Some(facts) = known.rings.get_mut(ring) else { return Ok(()) };
        let all: Vec<u32> = facts.numbers();
        let current = if random.one_in(2) { facts.current() } else { None };
        let Some(version) = current.or_else(|| random.pick(&all).copied()) else { return Ok(()) };
        if facts.revoked.contains(&version) {
            return Ok(());
        }
        // Taking out what signs, or is to sign, makes another one necessary.
        let state = facts.version(version).map(|version| version.state.as_str());
        facts.allowed += u32::from(matches!(state, Some("Current" | "Pending" | "Standby")));
        facts.revoked.push(version);
        facts.revoked.clone()
    };
    let entry = |version: &u32| json!({"version": version, "reason": "chaos"});
    let revoked: Vec<Value> = revoked.iter().map(entry).collect();
    patch(run, ring, &json!({"spec": {"revoked": revoked}})).await?;
    run.journal.count(Kind::Request, "revocations");
    Ok(())
}

/// Lets a ring audit, and enforce again once its rule has moved.
async fn audit_for_a_while(run: &Run, ring: &str, random: &mut Random) -> Result<()> {
    match run.facts.lock().rings.get_mut(ring) {
        Some(facts) if !facts.audits => facts.audits = true,
        _ => return Ok(()),
    }
    let action = |action: &str| json!({"spec": {"policy": {"action": action}}});
    patch(run, ring, &action("Audit")).await?;
    run.journal.count(Kind::Request, "actions changed");
    let audits = || run.facts.lock().rings.get(ring).is_some_and(|facts| !facts.enforces());
    let moved = wait_to_know(Duration::from_secs(60), audits).await;
    run.rest(Duration::from_millis(random.between(0, 4000))).await;
    enforce(run, ring).await.context("it would audit for ever")?;
    run.journal.count(Kind::Request, "actions changed");
    // Without a move it is not known whether one is still to come.
    if moved.is_some()
        && let Some(facts) = run.facts.lock().rings.get_mut(ring)
    {
        facts.audits = false;
    }
    Ok(())
}

/// Lets a ring enforce, as often as it takes to be heard.
///
/// # Errors
/// If the API server does not take it for a minute.
pub async fn enforce(run: &Run, ring: &str) -> Result<()> {
    let action = json!({"spec": {"policy": {"action": "Enforce"}}});
    let done = wait(Duration::from_secs(60), async || patch(run, ring, &action).await.is_ok());
    done.await.map(|_| ()).context("the API server does not take it")
}

/// Creates, changes or deletes an exclusion list of the cluster.
async fn list(run: &Run, random: &mut Random) -> Result<()> {
    let api: Api<ImageExclusionList> = Api::all(run.client.clone());
    let name = format!("chaos-{}", random.between(0, 2));
    if api.get_opt(&name).await?.is_some() && random.one_in(3) {
        api.delete(&name, &DeleteParams::default()).await?;
    } else {
        let image = format!("ghcr.io/chaos-{}/*", random.between(0, 1000));
        let list = json!({
            "apiVersion": "signing.odj.cloud/v1alpha1",
            "kind": "ImageExclusionList",
            "metadata": {"name": name},
            "spec": {"images": [{"image": image, "reason": "chaos"}]},
        });
        api.patch(&name, &PatchParams::apply("chaos").force(), &Patch::Apply(list)).await?;
    }
    run.journal.count(Kind::Request, "lists changed");
    Ok(())
}

async fn patch(run: &Run, ring: &str, change: &Value) -> Result<()> {
    let api: Api<SigningKeyRing> = Api::all(run.client.clone());
    let patched = api.patch(ring, &PatchParams::default(), &Patch::Merge(change)).await?;
    anyhow::ensure!(patched.name_any() == ring, "another ring answered");
    Ok(())
}
