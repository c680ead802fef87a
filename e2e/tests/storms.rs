//! Tools and people that undo each write of the operator's at once, for a
//! minute: it writes on, and ever more seldom.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    pin::pin,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, Patch, PatchParams},
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use serde_json::json;
use signingkeyring_e2e_testbed::{
    audit::Requests,
    kind::Kind,
    world::{World, manifest, namespaces, wait_until},
};
use tokio::time::{Instant, sleep_until, timeout_at};

use common::run;

/// How long each storm lasts.
const LENGTH: Duration = Duration::from_secs(60);

/// How often the operator may write meanwhile: twelve times at once, and then
/// after pauses of 1, 2, 4, ... 30 s, each of which may bring a look more.
const MOST: usize = 25;

/// How often a policy may be written while all of its rings rotate: to take their new keys
/// in, and to let go of the old ones.
const MOST_IN_A_WAVE: usize = 4;

/// The rings of one wave.
const WAVE: usize = 8;

/// The tests count the writes of what they share.
static TURN: Mutex<()> = Mutex::new(());

/// The same where nothing has to be written, or once.
const FEW: usize = 2;

const SECRET: &str = "image-signing";

/// Reacts to every state of an object until the storm is over; returns how often
/// that changed it.
async fn drive<K>(
    api: &Api<K>,
    name: &str,
    end: Instant,
    react: impl AsyncFn(K) -> Result<bool>,
) -> Result<usize>
where
    K: kube::Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = pin!(watcher(api.clone(), config));
    let mut changes = 0;
    while let Ok(Some(event)) = timeout_at(end, events.next()).await {
        let (Event::Apply(object) | Event::InitApply(object)) = event? else { continue };
        changes += usize::from(react(object).await?);
    }
    Ok(changes)
}

/// Whether a change was made: another one of the same moment may have won, and
/// is a state of its own.
fn made<T>(result: kube::Result<T>) -> Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// A ring's pipeline Secret.
struct Pipeline<'a> {
    world: &'a World,
    ring: &'static str,
    api: Api<Secret>,
    /// What it is to hold.
    data: BTreeMap<String, ByteString>,
}

impl<'a> Pipeline<'a> {
    async fn of(world: &'a World, ring: &'static str) -> Result<Self> {
        let api: Api<Secret> = Api::namespaced(world.client().await?, &format!("{ring}-ci"));
        let data = api.get(SECRET).await?.data.context("no data")?;
        Ok(Self { world, ring, api, data })
    }

    async fn drive(&self, react: impl AsyncFn(Secret) -> Result<bool>) -> Result<usize> {
        drive(&self.api, SECRET, Instant::now() + LENGTH, react).await
    }

    async fn patch(&self, patch: Patch<serde_json::Value>) -> Result<bool> {
        let params = match patch {
            Patch::Apply(_) => PatchParams::apply("tenant").force(),
            _ => PatchParams { field_manager: Some("tenant".to_owned()), ..Default::default() },
        };
        made(self.api.patch(SECRET, &params, &patch).await)
    }

    /// Looks how often the operator wrote it.
    fn judge(&self, since: Requests, changes: usize, most: usize) -> Result<()> {
        let namespace = format!("{}-ci", self.ring);
        judge(self.world, self.ring, since, (&namespace, SECRET), changes, most)
    }

    async fn is_right_again(&self) -> Result<()> {
        wait_until(&format!("{}: the Secret is right", self.ring), async || {
            Ok(self.api.get(SECRET).await?.data.as_ref() == Some(&self.data))
        })
        .await?;
        self.world.wait_for_condition(self.ring, "Ready", "True").await?;
        Ok(())
    }
}

fn judge(
    world: &World,
    storm: &str,
    since: Requests,
    (namespace, name): (&str, &str),
    changes: usize,
    most: usize,
) -> Result<()> {
    let mut requests = since.writes_until_now(&world.info.folder)?;
    requests.retain(|request| request.namespace == namespace && request.name == name);
    let writes = requests.iter().filter(|request| request.was_done()).count();
    let all = requests.len();
    eprintln!("{storm}: {changes} changes by others, {writes} writes of {all} requests");
    ensure!(changes > 0, "{storm}: there was no storm");
    ensure!(writes <= most, "{storm}: {writes} writes in {LENGTH:?}, {most} at most");
    Ok(())
}

/// Another tool applies what the Secret holds, so that its entries are both's.
async fn applied_by_another(world: &World) -> Result<()> {
    let pipeline = Pipeline::of(world, "storm-applied").await?;
    let since = Requests::from_now(&world.info.folder)?;
    let changes = pipeline.drive(async |found| {
        let managed = found.metadata.managed_fields.unwrap_or_default();
        if managed.iter().any(|entry| entry.manager.as_deref() == Some("tenant")) {
            return Ok(false);
        }
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "data": pipeline.data});
        pipeline.patch(Patch::Apply(secret)).await
    });
    pipeline.judge(since, changes.await?, FEW)?;
    pipeline.is_right_again().await
}

/// Somebody has the API server forget who wrote what.
async fn forgotten_writers(world: &World) -> Result<()> {
    let pipeline = Pipeline::of(world, "storm-forgotten").await?;
    let since = Requests::from_now(&world.info.folder)?;
    let changes = pipeline.drive(async |found| {
        if found.metadata.managed_fields.unwrap_or_default().is_empty() {
            return Ok(false);
        }
        let reset = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]);
        let reset = Patch::Json(serde_json::from_value(reset)?);
        pipeline.patch(reset).await
    });
    pipeline.judge(since, changes.await?, FEW)?;
    pipeline.is_right_again().await
}

/// Another tool has a password of its own.
async fn another_password(world: &World) -> Result<()> {
    let pipeline = Pipeline::of(world, "storm-password").await?;
    let since = Requests::from_now(&world.info.folder)?;
    let wrong = ByteString(b"wrong".to_vec());
    let changes = pipeline.drive(async |found| {
        if found.data.unwrap_or_default().get("cosign.password") == Some(&wrong) {
            return Ok(false);
        }
        pipeline.patch(Patch::Merge(json!({"data": {"cosign.password": wrong}}))).await
    });
    let changes = changes.await?;
    ensure!(changes > 3, "nobody undid it: {changes} changes");
    pipeline.judge(since, changes, MOST)?;
    pipeline.is_right_again().await
}

/// A tenant's finalizer keeps the Secret of a pipeline that was taken out.
async fn kept_by_a_finalizer(world: &World) -> Result<()> {
    let pipeline = Pipeline::of(world, "storm-kept").await?;
    let ring = pipeline.ring;
    let finalizers = |names: &[&str]| Patch::Merge(json!({"metadata": {"finalizers": names}}));
    pipeline.patch(finalizers(&["tenant.example/keep"])).await?;
    let since = Requests::from_now(&world.info.folder)?;
    let end = Instant::now() + LENGTH;
    let none = manifest(ring, "").replace(&format!("[{{namespace: {ring}-ci}}]"), "[]");
    world.apply(&none).await?;
    wait_until("the Secret is to go", async || {
        Ok(pipeline.api.get(SECRET).await?.metadata.deletion_timestamp.is_some())
    })
    .await?;
    sleep_until(end).await;

    let events = async || {
        let field = format!("--field-selector=reason=PipelineRemoved,regarding.name={ring}");
        let path = "-o=jsonpath={.items[*].note}";
        world.kubectl(&["get", "events.events.k8s.io", "-n", "default", &field, path]).await
    };
    let said = events().await?;
    // A finalizer is taken off only below, so it is there.
    ensure!(pipeline.api.get_opt(SECRET).await?.is_some(), "the Secret is gone");
    let counted = pipeline.judge(since, 1, FEW);
    pipeline.patch(finalizers(&[])).await?;
    wait_until("the Secret is gone", async || Ok(pipeline.api.get_opt(SECRET).await?.is_none()))
        .await?;
    world.wait_for_condition(ring, "PipelinesPublished", "True NoPipelines").await?;
    counted?;
    ensure!(said.is_empty(), "{ring}: the Secret is there, and an event says: {said}");
    Ok(())
}

/// Another tool has a policy of its own in the place of the ring's. The ring
/// audits, and so shares its policy with none of the others.
async fn another_policy(world: &World) -> Result<()> {
    let ring = "storm-policy";
    let policy = world.ring(ring, "{.status.policy.name}").await?;
    let kind = Kind::under_test();
    let resource = GroupVersionKind::gvk(kind.group(), "v1", kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&resource, kind.plural());
    let api: Api<DynamicObject> = Api::all_with(world.client().await?, &resource);
    let mut found = api.get(&policy).await?.data;
    let right = found["spec"].clone();
    *kind.looked_at(&mut found, ring).context("no rule")? = kind.nothing();
    let wrong = found["spec"].take();

    let since = Requests::from_now(&world.info.folder)?;
    // Kyverno writes the status of what it finds: no write of the operator's.
    let changes = drive(&api, &policy, Instant::now() + LENGTH, async |found| {
        if found.data["spec"] == wrong {
            return Ok(false);
        }
        let patch = json!([{"op": "replace", "path": "/spec", "value": wrong}]);
        let patch: Patch<()> = Patch::Json(serde_json::from_value(patch)?);
        made(api.patch(&policy, &PatchParams::default(), &patch).await)
    });
    let changes = changes.await?;
    ensure!(changes > 3, "nobody undid it: {changes} changes");
    judge(world, ring, since, ("", &policy), changes, MOST)?;
    wait_until("the policy is right", async || Ok(api.get(&policy).await?.data["spec"] == right))
        .await?;
    world.wait_for_condition(ring, "Ready", "True").await?;
    Ok(())
}

#[test]
fn a_wave_of_rotations_writes_each_policy_a_few_times() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    run(async |shared| {
        let world = &shared.world;
        let rings: Vec<String> = (0..WAVE).map(|number| format!("wave-{number}")).collect();
        // With each rotation the version before is let go of.
        let yaml: Vec<String> = rings
            .iter()
            .map(|ring| {
                format!("{}---\n{}", namespaces(ring), manifest(ring, "  keepVersions: 1\n"))
            })
            .collect();
        world.apply(&yaml.join("---\n")).await?;
        let mut policies = BTreeSet::new();
        for ring in &rings {
            world.wait_for_condition(ring, "Ready", "True").await?;
            policies.insert(world.ring(ring, "{.status.policy.name}").await?);
        }
        for wave in ["first", "second"] {
            let since = Requests::from_now(&world.info.folder)?;
            let token = format!("signing.odj.cloud/rotate={wave}");
            let mut annotate = vec!["annotate", "--overwrite", "skr"];
            annotate.extend(rings.iter().map(String::as_str));
            annotate.push(&token);
            world.kubectl(&annotate).await?;
            for ring in &rings {
                world.wait_for_field(ring, "{.status.observedRotation}", wave).await?;
                wait_until(&format!("{ring} has let go of the version before"), async || {
                    let policy = world.ring(ring, "{.status.policy.name}").await?;
                    Ok(world.keys(&policy, ring).await?.is_some_and(|keys| keys.len() == 1))
                })
                .await?;
            }
            let mut requests = since.writes_until_now(&world.info.folder)?;
            requests.retain(|request| request.was_done() && policies.contains(&request.name));
            for policy in &policies {
                let writes = requests.iter().filter(|request| request.name == *policy).count();
                eprintln!("{wave} wave: {writes} writes of {policy}");
                ensure!((1..=MOST_IN_A_WAVE).contains(&writes), "{policy}: {requests:#?}");
            }
        }
        Ok(())
    });
}

#[test]
fn what_others_undo_at_once_is_written_ever_more_seldom() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    run(async |shared| {
        let world = &shared.world;
        for ring in ["storm-applied", "storm-forgotten", "storm-password", "storm-kept"] {
            world.ready_ring(ring).await?;
        }
        world.apply(&namespaces("storm-policy")).await?;
        world.apply(&manifest("storm-policy", "  policy: {action: Audit}\n")).await?;
        world.wait_for_condition("storm-policy", "Ready", "True").await?;
        let (a, b, c, d, e) = tokio::join!(
            applied_by_another(world),
            forgotten_writers(world),
            kept_by_a_finalizer(world),
            another_password(world),
            another_policy(world),
        );
        let operator = shared.operator.lock().await;
        let metrics = operator.as_ref().context("the operator runs")?.metrics().await?;
        ensure!(!metrics.contains("outcome=\"panic\""), "a pass ended in a panic");
        let failures: Vec<String> = [a, b, c, d, e]
            .into_iter()
            .filter_map(Result::err)
            .map(|error| format!("{error:#}"))
            .collect();
        if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("\n")) }
    });
}
