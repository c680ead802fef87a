//! How many requests to the API server a rotation costs.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use signingkeyring_e2e_testbed::{
    audit::{Request, Requests},
    world::{World, manifest, namespaces, wait_until},
};
use tokio::time::sleep;

use common::{Shared, run, start_operator};

/// A rotation with one pipeline after which a version retires, dry runs aside: those are the
/// gate's questions, one a second of a policy however many of its rings rotate, and the trial
/// of each kind of policy every half a minute. It takes eleven; another one is for a machine
/// on which Kyverno needs more than five seconds for something.
const MOST: usize = 12;

/// So often each ring that is born among others commits its ledger (it begins, its version is
/// minted, Kyverno has accepted it, it signs), and so often it is looked at its pipeline: before
/// the first and the third of these, and once more where more than two seconds pass after that.
const COMMITS_OF_A_BIRTH: usize = 4;
const LOOKS_OF_A_BIRTH: usize = 3;

/// So long nothing happens at rest that follows from something.
const REST: Duration = Duration::from_secs(3);

/// What one asks for is not counted for another.
static TURN: Mutex<()> = Mutex::new(());

/// So many rings rotate at once.
const WAVE: usize = 30;

/// Starts the operator as it is installed: the tests' settings have it look more often.
async fn as_installed(shared: &Shared) -> Result<()> {
    let mut operator = shared.operator.lock().await;
    if let Some(operator) = operator.take() {
        operator.kill().await?;
    }
    let log = ["--log-level", "info,signingkeyring_operator=debug"];
    *operator = Some(start_operator(&shared.world, &log).await?);
    Ok(())
}

/// How often each request was made, by verb and resource.
fn counted(requests: &[Request]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for request in requests {
        let Request { verb, resource, namespace, .. } = request;
        let whose = match (resource.as_str(), namespace.as_str()) {
            ("secrets", "signing-system") => " of ledgers",
            ("secrets", _) => " of pipelines",
            _ => "",
        };
        let dry_run = if request.dry_run { " (dry run)" } else { "" };
        *counts.entry(format!("{verb} {resource}{whose}{dry_run}")).or_default() += 1;
    }
    counts
}

/// Prints how often each request was made, for one of so many rings.
fn print(what: &str, requests: &[Request], rings: usize) {
    eprintln!("{what}:");
    for (request, count) in counted(requests) {
        eprintln!("  {request:<40} {:.2}", count as f64 / rings as f64);
    }
}

/// A ring with the default soak, of which with each rotation the version before retires.
fn ring(name: &str) -> String {
    manifest(name, "  keepVersions: 1\n").replace("{soak: 1s}", "{soak: 10s}")
}

async fn ask_to_rotate(world: &World, rings: &[String], token: &str) -> Result<()> {
    let token = format!("signing.odj.cloud/rotate={token}");
    let mut annotate = vec!["annotate", "--overwrite", "skr"];
    annotate.extend(rings.iter().map(String::as_str));
    annotate.push(&token);
    world.kubectl(&annotate).await?;
    Ok(())
}

/// Waits until everything about a rotation is over.
async fn until_over(world: &World, ring: &str, token: &str) -> Result<()> {
    world.wait_for_field(ring, "{.status.observedRotation}", token).await?;
    let policy = world.ring(ring, "{.status.policy.name}").await?;
    wait_until("the version before is let go of", async || {
        Ok(world.keys(&policy, ring).await?.is_some_and(|keys| keys.len() == 1))
    })
    .await?;
    let current = world.ring(ring, "{.status.currentVersion}").await?;
    let enforced = format!("True Enforced Kyverno accepts the versions {current}, ");
    world.wait_for_condition(ring, "PolicyEnforced", &enforced).await?;
    world.wait_for_condition(ring, "Reconciling", " ").await?;
    Ok(())
}

/// Has rings rotate, and returns what was asked of the API server for that.
async fn rotate(world: &World, rings: &[String], token: &str) -> Result<Vec<Request>> {
    let since = Requests::from_now(&world.info.folder)?;
    ask_to_rotate(world, rings, token).await?;
    for ring in rings {
        until_over(world, ring, token).await?;
    }
    since.until_now(&world.info.folder)
}

/// Whether a request is about a ring or its policy: rings of other tests may be there.
fn is_about(request: &Request, ring: &str, policy: &str) -> bool {
    let Request { namespace, name, .. } = request;
    let is_event = name.strip_prefix(ring).is_some_and(|rest| rest.starts_with('.'));
    let is_object = name == ring || name == policy || *name == format!("ring-{ring}");
    is_event || is_object || *namespace == format!("{ring}-ci")
}

/// Those that read a ledger with its private keys: the answer to the commit that Kyverno has
/// accepted a version has them, too, and there is one of each version.
fn reads_of_keys(requests: &[Request]) -> usize {
    let reads = requests.iter().filter(|request| {
        request.verb == "get" && request.resource == "secrets" && request.name.starts_with("ring-")
    });
    reads.count()
}

fn commits(requests: &[Request]) -> usize {
    let writes = |verb: &str| matches!(verb, "create" | "patch" | "update");
    let is_one = |r: &&Request| r.resource == "secrets" && r.name.starts_with("ring-");
    requests.iter().filter(is_one).filter(|request| writes(&request.verb)).count()
}

fn looks_at_pipelines(requests: &[Request]) -> usize {
    let is_one = |r: &&Request| r.verb == "get" && r.resource == "secrets";
    requests.iter().filter(is_one).filter(|request| request.namespace.ends_with("-ci")).count()
}

#[test]
fn a_rotation_costs_few_requests() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    run(async |shared| {
        as_installed(shared).await?;
        let (world, name) = (&shared.world, "costs");
        world.apply(&namespaces(name)).await?;
        let since = Requests::from_now(&world.info.folder)?;
        world.apply(&ring(name)).await?;
        world.wait_for_condition(name, "Ready", "True").await?;
        let birth = since.until_now(&world.info.folder)?;
        ensure!(birth.iter().all(|request| request.verb != "list"), "{birth:#?}");

        let rings = [name.to_owned()];
        rotate(world, &rings, "first").await?;
        let policy = world.ring(name, "{.status.policy.name}").await?;
        let mut requests = rotate(world, &rings, "second").await?;
        requests.retain(|request| is_about(request, name, &policy));
        print("a rotation", &requests, 1);
        requests.retain(|request| !request.dry_run);
        let reads = reads_of_keys(&requests);
        ensure!(reads <= 1, "{reads} reads of private keys: {requests:#?}");
        let count = requests.len();
        ensure!(count <= MOST, "{count} requests, {MOST} at most: {requests:#?}");
        Ok(())
    });
}

/// On a machine that is busy with it.
#[test]
fn a_rotation_among_many_costs_no_more() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    run(async |shared| {
        as_installed(shared).await?;
        let world = &shared.world;
        let rings: Vec<String> = (0..WAVE).map(|number| format!("cost-{number}")).collect();
        let yaml: Vec<String> =
            rings.iter().map(|name| format!("{}---\n{}", namespaces(name), ring(name))).collect();
        let since = Requests::from_now(&world.info.folder)?;
        world.apply(&yaml.join("---\n")).await?;
        for ring in &rings {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        let births = since.until_now(&world.info.folder)?;
        print(&format!("a birth, of {WAVE} at once"), &births, WAVE);
        let (commits, looks) = (commits(&births), looks_at_pipelines(&births));
        ensure!(commits <= COMMITS_OF_A_BIRTH * WAVE, "{commits} commits: {:#?}", counted(&births));
        ensure!(looks <= LOOKS_OF_A_BIRTH * WAVE, "{looks} looks: {:#?}", counted(&births));
        rotate(world, &rings, "first").await?;
        let mut requests = rotate(world, &rings, "second").await?;
        print(&format!("a rotation, of {WAVE} at once"), &requests, WAVE);
        requests.retain(|request| !request.dry_run);
        let (count, most) = (requests.len(), MOST * WAVE);
        ensure!(count <= most, "{count} requests, {most} at most: {:#?}", counted(&requests));
        let reads = reads_of_keys(&requests);
        ensure!(reads <= WAVE, "{reads} reads of private keys by {WAVE} rings");
        Ok(())
    });
}

/// How many passes the operator has made over rings.
async fn passes(shared: &Shared) -> Result<u64> {
    let operator = shared.operator.lock().await;
    let metrics = operator.as_ref().context("the operator runs")?.metrics().await?;
    let of_rings = r#"signingkeyring_reconciles_total{controller="rings""#;
    let counts = metrics.lines().filter(|line| line.starts_with(of_rings));
    let counts = counts.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
    Ok(counts.sum())
}

/// Waits until the operator has looked at rings and does not any more.
async fn until_at_rest(shared: &Shared) -> Result<()> {
    let mut before = 0;
    wait_until("no ring is looked at for a while", async || {
        sleep(REST).await;
        let now = passes(shared).await?;
        Ok(std::mem::replace(&mut before, now) == now && now > 0)
    })
    .await
}

#[test]
fn a_restart_reads_each_pipeline_once_and_writes_nothing() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    run(async |shared| {
        as_installed(shared).await?;
        let (world, rings) = (&shared.world, ["back-a", "back-b", "back-c"]);
        for name in rings {
            world.apply(&format!("{}---\n{}", namespaces(name), ring(name))).await?;
            world.wait_for_condition(name, "Ready", "True").await?;
        }
        until_at_rest(shared).await?;
        let since = Requests::from_now(&world.info.folder)?;
        as_installed(shared).await?;
        until_at_rest(shared).await?;
        let requests = since.until_now(&world.info.folder)?;
        print("a restart", &requests, rings.len());
        for name in rings {
            let policy = world.ring(name, "{.status.policy.name}").await?;
            let about: Vec<_> = requests.iter().filter(|r| is_about(r, name, &policy)).collect();
            let pipeline = format!("{name}-ci");
            let reads = about.iter().filter(|r| r.verb == "get" && r.namespace == pipeline);
            let reads = reads.count();
            ensure!(reads == 1, "{name}: its pipeline's Secret was read {reads} times: {about:#?}");
            let writes = about.iter().filter(|r| r.verb != "get" && r.verb != "list" && !r.dry_run);
            let writes: Vec<_> = writes.collect();
            ensure!(writes.is_empty(), "{name}: {writes:#?}");
        }
        Ok(())
    });
}
