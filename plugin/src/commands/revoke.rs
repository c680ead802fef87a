//! `kubectl signing revoke`.

mod plan;

use std::time::Duration;

use clap::Args;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::json;
use signingkeyring_core::condition::{Kind, Status};
use signingkeyring_crds::SigningKeyRing;
use tokio::time::{Instant, timeout_at};

use crate::{
    cluster::{Cluster, MANAGER, unreadable},
    error::{Error, Outcome, is_code},
    flags::{self, Consent},
    follow::{Followed, Next},
    ring::{condition, is_observed},
    screen::Screen,
    text::{Line, Style},
};

/// Take a version out for ever: its images are refused at once, its private key is
/// destroyed
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # what it would do, and whether one may
  kubectl signing revoke checkout 3 --reason \"found in a build log\" --dry-run

  # what runs by that version and would not start again
  kubectl signing impact checkout --revoke 3

  # do it, and wait until Kyverno refuses its images
  kubectl signing revoke checkout 3 --reason \"found in a build log\" --wait

It is an entry in spec.revoked: where a GitOps tool applies the ring, write it there, too.
Ends with 3 if it is not applied in time.")]
pub struct Revoke {
    /// The ring
    #[arg(value_parser = flags::name)]
    ring: String,
    /// The number of the version, or its fingerprint
    #[arg(value_parser = plan::Named::parse)]
    version: plan::Named,
    /// Why, for whoever asks later
    #[arg(long, value_parser = plan::reason, value_name = "TEXT")]
    reason: String,
    /// Wait until its images are refused
    #[arg(short, long)]
    wait: bool,
    /// How long to wait, such as 90s or 10m
    #[arg(long, default_value = "2m", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    #[command(flatten)]
    consent: Consent,
}

fn duration(text: &str) -> Result<Duration, String> {
    signingkeyring_core::duration::parse(text).map_err(|error| error.to_string())
}

/// Does it.
///
/// # Errors
/// If it is refused.
pub async fn run(
    command: &Revoke,
    cluster: &Cluster,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    let name = &command.ring;
    let ring = cluster.ring(name).await?;
    let plan = plan::of(&ring, &command.version)?;
    screen.lines(&plan.lines(name))?;
    if plan.is_done() {
        // It may be listed and not applied yet.
        return match command.wait && !command.consent.dry_run {
            true => wait(command, cluster, screen, ring.metadata.generation).await,
            false => Ok(Outcome::Fine),
        };
    }
    if command.consent.dry_run {
        add(command, cluster, &ring, &plan, true).await?;
        screen.lines(&["The API server would take it. Nothing was changed.".into()])?;
        return Ok(Outcome::Fine);
    }
    if !command.consent.yes
        && !screen.ask(&format!("{} This cannot be undone.", plan.question())).await?
    {
        screen.lines(&["Nothing was changed.".into()])?;
        return Ok(Outcome::Open);
    }
    let revoked = add(command, cluster, &ring, &plan, false).await?;
    screen.lines(&["It is in spec.revoked of the ring.".into()])?;
    if !command.wait {
        screen
            .lines(&[format!("To see it applied: kubectl signing status {name} --watch").into()])?;
        return Ok(Outcome::Fine);
    }
    wait(command, cluster, screen, revoked).await
}

/// Adds the entry to those that are there, of the ring as it was seen.
async fn add(
    command: &Revoke,
    cluster: &Cluster,
    ring: &SigningKeyRing,
    plan: &plan::Plan,
    dry_run: bool,
) -> Result<Option<i64>, Error> {
    let rings: Api<SigningKeyRing> = Api::all(cluster.client.clone());
    let mut revoked = ring.spec.revoked.clone();
    revoked.push(plan.entry(&command.reason));
    let patch = json!({
        "metadata": {"resourceVersion": ring.resource_version()},
        "spec": {"revoked": revoked},
    });
    let params =
        PatchParams { dry_run, field_manager: Some(MANAGER.to_owned()), ..Default::default() };
    let patched = rings.patch_metadata(&command.ring, &params, &Patch::Merge(&patch)).await;
    let patched = patched.map_err(|error| {
        let what = format!("revoking a version of ring {}", command.ring);
        if is_code(&error, 409) {
            Error::Failed(format!("{what}: the ring changed meanwhile; call it again"))
        } else {
            Error::api(what, error)
        }
    })?;
    Ok(patched.metadata.generation)
}

/// Waits until Kyverno has answered without the version.
async fn wait(
    command: &Revoke,
    cluster: &Cluster,
    screen: &mut Screen,
    generation: Option<i64>,
) -> Result<Outcome, Error> {
    let name = &command.ring;
    let deadline = Instant::now() + command.timeout;
    let mut followed = Followed::begin(cluster, Some(name));
    let mut said = String::new();
    while let Ok(next) = timeout_at(deadline, followed.next()).await {
        match next {
            Ok(Next::Changed) => {}
            Ok(Next::Trouble(error)) => {
                screen.complain(&format!("watching ring {name}: {error}; it is tried again"));
                continue;
            }
            Err(error) => {
                screen.complain(&format!("it was asked for, and cannot be followed: {error}"));
                return Ok(Outcome::Open);
            }
        }
        let ring = match followed.rings.get(name).map(|found| &found.0) {
            Some(Ok(ring)) => ring,
            Some(Err(invalid)) => return Err(unreadable(name, &invalid.error)),
            None => return Err(Error::Failed(format!("ring {name} was deleted meanwhile"))),
        };
        if ring.metadata.generation < generation || !is_observed(ring) {
            continue;
        }
        let Some(applied) = condition(ring, Kind::RevocationsApplied) else { continue };
        let is_done = applied.status == Status::True.as_str();
        if applied.message != said {
            said.clone_from(&applied.message);
            let style = if is_done { Style::Good } else { Style::Warn };
            screen.lines(&[Line::new(style, &said)])?;
        }
        if is_done {
            return Ok(Outcome::Fine);
        }
    }
    screen.lines(&[Line::new(
        Style::Bad,
        format!("Not applied yet: kubectl signing status {name} says why"),
    )])?;
    Ok(Outcome::Open)
}
