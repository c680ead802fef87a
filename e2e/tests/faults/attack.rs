//! Policies that somebody edits while the operator may not undo it: what the
//! ring says is what pods meet, and it is undone once it can be.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
};
use serde_json::{Value, json};
use signingkeyring_e2e_observer::marks::{ANNOTATION as MARKS, Marks};
use signingkeyring_e2e_testbed::{
    images::Verdict,
    kind::Kind,
    world::{World, wait_until},
};

use crate::turn::in_turn;

const RING: &str = "besieged";

/// How soon the ring has to say it: nothing is waited for but a refused write.
const SOON: Duration = Duration::from_secs(10);

async fn policies(world: &World) -> Result<Api<DynamicObject>> {
    let kind = Kind::under_test();
    let resource = GroupVersionKind::gvk(kind.group(), "v1", kind.as_str());
    let resource = ApiResource::from_gvk_with_plural(&resource, kind.plural());
    Ok(Api::all_with(world.client().await?, &resource))
}

/// What a policy holds for the ring.
fn rule(policy: &mut DynamicObject) -> Result<Value> {
    let kind = Kind::under_test();
    let keys = kind.keys(&policy.data["spec"], RING).context("no rule of the ring")?;
    let looked_at = kind.looked_at(&mut policy.data, RING).context("no rule of the ring")?;
    Ok(json!([keys, looked_at]))
}

/// Edits a policy as whoever may do so would.
async fn edit(
    world: &World,
    policy: &str,
    edit: impl Fn(&mut DynamicObject) -> Result<()>,
) -> Result<()> {
    let api = policies(world).await?;
    loop {
        let mut object = api.get(policy).await?;
        edit(&mut object)?;
        match api.replace(policy, &PostParams::default(), &object).await {
            Ok(_) => return Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error).context("editing the policy"),
        }
    }
}

/// Raises the ring's mark, so that its rule looks newer than any ledger.
fn raise(policy: &mut DynamicObject) -> Result<()> {
    let annotations = policy.metadata.annotations.get_or_insert_default();
    let mut marks = Marks::parse(annotations.get(MARKS).context("no marks")?)?;
    marks.0.get_mut(RING).context("no mark of the ring")?.sequence += 1000;
    annotations.insert(MARKS.to_owned(), marks.to_string());
    Ok(())
}

/// Does something while the operator may not update policies.
async fn disarmed(world: &World, attack: impl AsyncFnOnce() -> Result<()>) -> Result<()> {
    let before = world.rights().await?;
    world.set_rights(&before.without_on_policies("update")?).await?;
    let result = match world.wait_for_right_on_policies("update", false).await {
        Ok(()) => attack().await,
        Err(error) => Err(error),
    };
    world.set_rights(&before).await?;
    result
}

/// Waits until the ring says that its policy is not what it should be.
async fn said(world: &World) -> Result<String> {
    let start = Instant::now();
    let text = world.wait_for_condition(RING, "PolicyEnforced", "False PolicyDiffers").await?;
    let took = start.elapsed();
    ensure!(took < SOON, "it took {took:?} to say: {text}");
    Ok(text)
}

async fn restored(world: &World, policy: &str, whole: &Value) -> Result<()> {
    let api = policies(world).await?;
    wait_until("the rule is restored", async || {
        let mut found = api.get(policy).await?;
        Ok(rule(&mut found)? == *whole)
    })
    .await
}

/// A key pair of somebody else's: the path of its private key, and its public key.
async fn strangers_key(world: &World) -> Result<(String, String)> {
    let folder = world.info.folder.join("stranger");
    std::fs::create_dir_all(&folder)?;
    let prefix = folder.join("key").display().to_string();
    let make = ["generate-key-pair", "--output-key-prefix", &prefix];
    world.run("cosign", &make, &[("COSIGN_PASSWORD", "x")], "").await?;
    Ok((format!("{prefix}.key"), std::fs::read_to_string(format!("{prefix}.pub"))?))
}

#[test]
fn a_ring_says_what_stands_in_a_policy_that_was_edited_and_cannot_be_restored() {
    in_turn(async |shared| {
        let world = &shared.world;
        let kind = Kind::under_test();
        let namespace = format!("{RING}-dev");
        world.ready_ring(RING).await?;
        let unsigned = world.push("besieged/unsigned", "v1").await?;
        let foreign = world.push("besieged/foreign", "v1").await?;
        let (key, public_key) = strangers_key(world).await?;
        world.sign_with(&foreign, &key, &[("COSIGN_PASSWORD", "x")]).await?;
        for image in [&unsigned, &foreign] {
            world.wait_until_refused(&namespace, image).await?;
        }
        let policy = world.ring(RING, "{.status.policy.name}").await?;
        let whole = rule(&mut policies(world).await?.get(&policy).await?)?;
        let names_it = |text: &str| {
            text.contains(&format!("policy {policy} does not hold what it should"))
                && text.contains("cannot update resource")
                && text.contains("may admit images that should be refused")
        };

        disarmed(world, async || {
            edit(world, &policy, |object| {
                let place = kind.looked_at(&mut object.data, RING).context("no rule")?;
                *place = kind.nothing();
                Ok(())
            })
            .await?;
            let text = said(world).await?;
            ensure!(names_it(&text) && text.contains("accepts the versions 1."), "{text}");
            // What the sentence warns of is so.
            world.wait_until_admitted(&namespace, &unsigned).await
        })
        .await?;
        restored(world, &policy, &whole).await?;
        world.wait_for_condition(RING, "PolicyEnforced", "True Enforced").await?;
        world.wait_until_refused(&namespace, &unsigned).await?;

        disarmed(world, async || {
            edit(world, &policy, |object| {
                kind.accept(&mut object.data, RING, &public_key).context("no rule")?;
                raise(object)
            })
            .await?;
            let text = said(world).await?;
            let counts_it = "the versions 1 and 1 keys that are not the ring's";
            ensure!(names_it(&text) && text.contains(counts_it), "{text}");
            world.wait_until_admitted(&namespace, &foreign).await
        })
        .await?;
        restored(world, &policy, &whole).await?;
        world.wait_until_refused(&namespace, &foreign).await?;
        ensure!(matches!(world.admit(&namespace, &unsigned).await?, Verdict::Refused(_)));
        // The raised mark is left for a person, as the condition says.
        let said = world.wait_for_condition(RING, "Stalled", "True").await?;
        ensure!(said.contains(&format!("annotate {}", kind.resource())), "{said}");
        let take_off = format!("{MARKS}-");
        world.kubectl(&["annotate", kind.resource(), &policy, &take_off]).await?;
        world.wait_for_condition(RING, "PolicyEnforced", "True Enforced").await?;
        world.wait_for_condition(RING, "Ready", "True").await?;
        Ok(())
    });
}
