//! Replicas take over from the operator of before, which knew no others: by its own program,
//! built from the history, while rings rotate; and by what that has left, in every format of
//! a ledger.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use anyhow::{Context, Result, ensure};
use base16ct::lower::encode_string as hex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use signingkeyring_e2e_observer::{
    history::{Id, Kind},
    ledger::ANNOTATION,
};
use signingkeyring_e2e_testbed::{
    operator::Operator,
    replicas::Replicas,
    tools,
    world::{World, namespaces, wait_until},
};

use crate::{
    NAMESPACE, before,
    common::{QUICK, takes_long},
    in_turn,
    rings::{Objects, Rings},
    say,
};

/// The rings, what makes each different, and in which format that has its ledger be.
const RINGS: [(&str, &str); 5] = [
    ("up-plain", ""),
    ("up-two", ""),
    ("up-kind", "  policy: {kind: ImageValidatingPolicy}\n"),
    ("up-credentials", "  policy: {registryCredentials: [{secretName: nobodys}]}\n"),
    ("up-moves", ""),
];

/// What has one of them move while it rotates.
const MOVES: &str = "  policy: {action: Audit}\n";

/// The formats of before, which are read.
const FORMATS: [u64; 5] = [2, 3, 4, 5, 6];

/// One that is older than those, and one that is newer.
const OTHERS: [(&str, u64); 2] = [("up-older", 1), ("up-newer", 8)];

/// The one in which a plain ring's is written.
const WRITTEN: u64 = 3;

const TOKEN: &str = "across-the-upgrade";

/// What the program of before has left in the middle of all that.
const RECORDED: &str = "e2e/tests/replicas/recorded.json";

/// Writes that file.
const RECORD: &str = "SIGNING_RECORD";

/// A ledger as another format says it: what it says is over the same bytes.
fn in_format(annotation: &str, format: u64) -> Result<String> {
    let (_, body) = annotation.split_once(r#""ledger":"#).context("no ledger")?;
    let mut body = body.strip_suffix('}').context("no end")?.to_owned();
    if format == 2 {
        // It has no digests of the keys that verify only.
        while let Some((before, rest)) = body.split_once(r#","keyDigest":""#) {
            let (_, after) = rest.split_once('"').context("no end of a digest")?;
            body = format!("{before}{after}");
        }
    }
    let digest = hex(&Sha256::digest(body.as_bytes()));
    Ok(format!(r#"{{"format":{format},"digest":"{digest}","ledger":{body}}}"#))
}

async fn put_in_format(world: &World, ring: &str, format: u64) -> Result<()> {
    let name = format!("ring-{ring}");
    let path = format!("{{.metadata.annotations.{}}}", ANNOTATION.replace('.', "\\."));
    let text = world.get(&["secret", &name, "-n", NAMESPACE], &path).await?;
    let annotation = format!("{ANNOTATION}={}", in_format(&text, format)?);
    let annotate = ["annotate", "--overwrite", "secret", &name, "-n", NAMESPACE, &annotation];
    world.kubectl(&annotate).await.map(drop)
}

/// The rings' ledgers in these objects, each with its format.
fn ledgers(objects: &Objects) -> BTreeMap<String, (u64, Value)> {
    let ledgers = objects.iter().filter(|(id, _)| id.kind == Kind::Secret);
    let ledgers = ledgers.filter_map(|(id, secret)| {
        let text = secret["metadata"]["annotations"][ANNOTATION].as_str()?;
        let mut envelope: Value = serde_json::from_str(text).ok()?;
        let ring = id.name.strip_prefix("ring-")?.to_owned();
        Some((ring, (envelope["format"].as_u64()?, envelope["ledger"].take())))
    });
    ledgers.filter(|(found, _)| RINGS.iter().any(|(ring, _)| ring == found)).collect()
}

/// The fingerprint of each version that a ledger names.
fn fingerprints(ledger: &Value) -> BTreeMap<u64, String> {
    let rows = ledger["versions"].as_array().into_iter().flatten();
    rows.filter_map(|row| Some((row["number"].as_u64()?, row["fingerprint"].as_str()?.to_owned())))
        .collect()
}

/// Every version that a ledger had is still what it was, and each ring has rotated once.
async fn took_over(world: &World, before: &BTreeMap<String, (u64, Value)>) -> Result<()> {
    for (ring, _) in RINGS {
        world.wait_for_field(ring, "{.status.observedRotation}", TOKEN).await?;
        world.wait_for_condition(ring, "Ready", "True").await?;
        wait_until(&format!("{ring} has come to rest"), async || {
            Ok(world.condition(ring, "Reconciling").await?.trim().is_empty())
        })
        .await?;
        let stalled = world.condition(ring, "Stalled").await?;
        ensure!(stalled.trim().is_empty(), "{ring}: {stalled}");
        let path = "{range .status.versions[*]}{.version} {.fingerprint};{end}";
        let now = world.ring(ring, path).await?;
        let (_, ledger) = before.get(ring).with_context(|| format!("{ring} had no ledger"))?;
        for (number, fingerprint) in fingerprints(ledger) {
            let row = format!("{number} {fingerprint};");
            ensure!(now.contains(&row), "{ring}: version {number} is not what it was: {now}");
        }
        let newest = now.split(' ').next().unwrap_or_default();
        ensure!(newest == "2", "{ring} was to rotate once: {now}");
    }
    Ok(())
}

/// What cannot be read is said, and its rule stays as it is.
async fn others_are_left(world: &World, keys: &BTreeMap<&str, Keys>) -> Result<()> {
    for (ring, format) in OTHERS {
        let said = world.wait_for_condition(ring, "Stalled", "True").await?;
        ensure!(said.contains(&format!("it has format {format},")), "{ring}: {said}");
        let (policy, accepted) = &keys[ring];
        let now = world.keys(policy, ring).await?;
        ensure!(now == *accepted && now.is_some(), "{ring}: its rule was touched");
    }
    Ok(())
}

/// The policy of a ring, and the keys that it accepts.
type Keys = (String, Option<Vec<String>>);

async fn keys(world: &World, ring: &str) -> Result<Keys> {
    let policy = world.ring(ring, "{.status.policy.name}").await?;
    let keys = world.keys(&policy, ring).await?;
    Ok((policy, keys))
}

#[test]
fn the_program_of_before_is_replaced_while_rings_rotate() {
    if !takes_long("the operator of the commit before is built") {
        return;
    }
    let Some(commit) = before::commit() else {
        return say("\nthe history is not there: what the operator of before left is recorded");
    };
    let program = before::built(&commit).unwrap();
    in_turn(async |world, replicas| {
        clear(world, replicas).await?;
        let guard = tools::built("cluster")?;
        let old = Operator::start(world, &guard, &program, &QUICK).await?;
        let mut rings = Rings::new(world).await?;
        for (ring, more) in RINGS {
            let birth = rings.birth_with(ring, more);
            rings.ask(&birth).await?;
        }
        for (ring, _) in RINGS {
            world.wait_for_condition(ring, "Ready", "True").await?;
        }
        let mut accepted = BTreeMap::new();
        for (ring, format) in OTHERS {
            world.ready_ring(ring).await?;
            accepted.insert(ring, keys(world, ring).await?);
            put_in_format(world, ring, format).await?;
        }
        put_in_format(world, "up-two", 2).await?;
        let is_in_two = async || Ok(ledgers(&rings.now())["up-two"].0 == 2);
        wait_until("a ledger is in the format before", is_in_two).await?;

        rings.change("up-moves", MOVES);
        world.apply(&rings.manifest("up-moves")).await?;
        let moves = async || Ok(ledgers(&rings.now())["up-moves"].0 == 6);
        wait_until("a ring is in the middle of a move", moves).await?;
        let moving = rings.now();
        rotate(world, &mut rings, &["up-plain", "up-kind", "up-credentials"]).await?;
        wait_until("a rotation is under way", async || {
            Ok(ledgers(&rings.now())["up-plain"].1.to_string().contains("Pending"))
        })
        .await?;
        // The Deployment starts new ones while the old one works.
        let mut left = rings.now();
        replicas.start().await?;
        rotate(world, &mut rings, &["up-two", "up-moves"]).await?;
        ensure!(old.stop().await? == Some(0));
        replicas.start().await?;
        took_over(world, &ledgers(&left)).await?;
        others_are_left(world, &accepted).await?;
        rings.judge().await?;
        // It moves on while the others begin to rotate.
        let is_moving = |id: &Id| id.name == "ring-up-moves" || id.name == "up-moves";
        left.extend(moving.into_iter().filter(|(id, _)| is_moving(id)));
        let formats: BTreeSet<u64> =
            ledgers(&left).into_values().map(|(format, _)| format).collect();
        say(&format!(
            "\nthe operator of {commit:.12} was replaced while {} rings rotated, with ledgers of \
             the formats {formats:?}: none was lost, nothing minted twice",
            RINGS.len()
        ));
        if std::env::var_os(RECORD).is_some() {
            record(&left)?;
        }
        Ok(())
    });
}

/// Asks for a rotation of several rings at once.
async fn rotate(world: &World, rings: &mut Rings<'_>, which: &[&str]) -> Result<()> {
    for ring in which {
        rings.rotation(ring, TOKEN);
    }
    let annotation = format!("signing.odj.cloud/rotate={TOKEN}");
    let annotate =
        [&["annotate", "--overwrite", "skr"][..], which, &[annotation.as_str()]].concat();
    world.kubectl(&annotate).await.map(drop)
}

/// Writes down what the program of before has left, as a backup of it would be.
fn record(objects: &Objects) -> Result<()> {
    let mut items = Vec::new();
    for (id, object) in objects {
        let is_ledger = id.kind == Kind::Secret
            && id.namespace == NAMESPACE
            && RINGS.iter().any(|(ring, _)| id.name == format!("ring-{ring}"));
        let is_ring = id.kind == Kind::Ring && RINGS.iter().any(|(ring, _)| id.name == *ring);
        if !is_ledger && !is_ring {
            continue;
        }
        let metadata = &object["metadata"];
        let (kind, version) = match id.kind {
            Kind::Ring => ("SigningKeyRing", "signing.odj.cloud/v1alpha1"),
            _ => ("Secret", "v1"),
        };
        let mut item = json!({"apiVersion": version, "kind": kind, "metadata": {
            "name": metadata["name"],
            "labels": metadata["labels"],
            "annotations": metadata["annotations"],
        }});
        if is_ledger {
            item["metadata"]["namespace"] = json!(NAMESPACE);
        }
        for field in ["spec", "type", "data"] {
            if !object[field].is_null() {
                item[field] = object[field].clone();
            }
        }
        items.push(item);
    }
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    let text = serde_json::to_string_pretty(&list)?;
    Ok(fs::write(tools::root().join(RECORDED), format!("{text}\n"))?)
}

/// What the operator of before left in the middle of rotations and a move, in every format
/// that is read.
#[test]
fn what_the_program_of_before_has_left_is_taken_over() {
    in_turn(async |world, replicas| {
        clear(world, replicas).await?;
        let text = fs::read_to_string(tools::root().join(RECORDED))?;
        let mut recorded: Value = serde_json::from_str(&text)?;
        let mut before = BTreeMap::new();
        for item in recorded["items"].as_array_mut().context("items")? {
            let name = item["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let Some(ring) = name.strip_prefix("ring-") else { continue };
            let annotation = &mut item["metadata"]["annotations"][ANNOTATION];
            if ring == "up-two" {
                *annotation = json!(in_format(annotation.as_str().context("text")?, 2)?);
            }
            let envelope: Value = serde_json::from_str(annotation.as_str().context("text")?)?;
            let format = envelope["format"].as_u64().context("no format")?;
            before.insert(ring.to_owned(), (format, envelope["ledger"].clone()));
        }
        let formats: BTreeSet<u64> = before.values().map(|(format, _)| *format).collect();
        ensure!(formats == FORMATS.into(), "recorded are the formats {formats:?}");
        for (ring, _) in RINGS {
            world.apply(&namespaces(ring)).await?;
        }
        let of_kind = |kind: &str| {
            let items = recorded["items"].as_array().cloned().unwrap_or_default();
            let items: Vec<Value> = items.into_iter().filter(|item| item["kind"] == kind).collect();
            json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string()
        };
        world.apply(&of_kind("Secret")).await?;
        world.apply(&of_kind("SigningKeyRing")).await?;
        two(replicas).await?;
        for ring in ["up-two", "up-moves"] {
            world.ask_for_rotation(ring, TOKEN).await?;
        }
        took_over(world, &before).await?;

        let mut accepted = BTreeMap::new();
        for (ring, _) in OTHERS {
            world.ready_ring(ring).await?;
            accepted.insert(ring, keys(world, ring).await?);
        }
        replicas.stop_all().await?;
        for (ring, format) in OTHERS {
            put_in_format(world, ring, format).await?;
        }
        two(replicas).await?;
        others_are_left(world, &accepted).await
    });
}

async fn two(replicas: &mut Replicas) -> Result<()> {
    replicas.start().await?;
    replicas.start().await
}

/// Takes the rings away that the other test has left.
async fn clear(world: &World, replicas: &mut Replicas) -> Result<()> {
    let found = world.kubectl(&["get", "skr", "-o", "name"]).await?;
    let found: Vec<&str> = found.lines().filter_map(|name| name.split('/').nth(1)).collect();
    let found: Vec<&str> = found.into_iter().filter(|ring| ring.starts_with("up-")).collect();
    if found.is_empty() {
        return Ok(());
    }
    replicas.start().await?;
    for (ring, _) in OTHERS {
        put_in_format(world, ring, WRITTEN).await?;
    }
    for ring in &found {
        world.kubectl(&["delete", "namespace", &format!("{ring}-dev"), "--wait=false"]).await?;
        world.kubectl(&["delete", "skr", ring, "--wait=false"]).await?;
    }
    for ring in &found {
        wait_until(&format!("{ring} is gone"), async || {
            Ok(world.get(&["skr", ring], "{.kind}").await.is_err())
        })
        .await?;
        let gone = ["delete", "namespace", &format!("{ring}-dev"), &format!("{ring}-ci")];
        world.kubectl(&[&gone[..], &["--ignore-not-found"]].concat()).await?;
    }
    replicas.stop_all().await
}
