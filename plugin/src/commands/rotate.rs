//! `kubectl signing rotate`.

mod plan;
mod steps;

use std::time::Duration;

use clap::Args;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use signingkeyring_core::{names, token::is_token};
use signingkeyring_crds::SigningKeyRing;
use tokio::time::{Instant, timeout_at};

use super::impact;
use crate::{
    clock,
    cluster::{Cluster, MANAGER, unreadable},
    error::{Error, Outcome},
    flags::{self, Consent},
    follow::{Followed, Next},
    screen::Screen,
    text::{Line, Style},
};

/// Have a ring's next version sign, and see it happen
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # what it would do, and whether one may
  kubectl signing rotate checkout --dry-run

  # in a terminal: asks, rotates and shows each step
  kubectl signing rotate checkout --wait

  # in a pipeline
  kubectl signing rotate checkout --yes --wait --timeout 10m

Asks by the annotation signing.odj.cloud/rotate. Ends with 3, and changes nothing, if what
runs now would not start again (kubectl signing impact RING --rotate) or cannot be judged,
unless it is called with --force; and with 3 if it is not done in time.")]
pub struct Rotate {
    /// The ring
    #[arg(value_parser = flags::name)]
    ring: String,
    /// Wait until the next version signs
    #[arg(short, long)]
    wait: bool,
    /// How long to wait, such as 90s or 10m
    #[arg(long, default_value = "10m", value_parser = duration, value_name = "TIME")]
    timeout: Duration,
    /// The annotation's value, which asks once; without one it is the time
    #[arg(long, value_parser = token, value_name = "VALUE")]
    token: Option<String>,
    /// Rotate although workloads would not start again, and without looking at them
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    consent: Consent,
}

fn duration(text: &str) -> Result<Duration, String> {
    signingkeyring_core::duration::parse(text).map_err(|error| error.to_string())
}

fn token(text: &str) -> Result<String, String> {
    if !text.is_empty() && is_token(text) {
        return Ok(text.to_owned());
    }
    Err("write a plain value of at most 253 characters, such as a date".to_owned())
}

/// Does it.
///
/// # Errors
/// If it is refused.
pub async fn run(
    command: &Rotate,
    cluster: &Cluster,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    let name = &command.ring;
    let ring = cluster.ring(name).await?;
    let token = command.token.clone().unwrap_or_else(|| clock::now().to_string());
    let plan = plan::of(&ring, &token)?;
    screen.lines(&plan.lines(name))?;
    let unsafe_ = match !command.force && plan.ends_versions() {
        true => why_not(cluster, &ring, screen).await?,
        false => None,
    };
    if command.consent.dry_run {
        ask_for_it(cluster, name, &token, true).await?;
        screen.lines(&["The API server would take it. Nothing was changed.".into()])?;
        return Ok(Outcome::open_if(unsafe_.is_some()));
    }
    if let Some(why) = unsafe_ {
        screen.lines(&[Line::new(Style::Bad, format!("Nothing was changed. {why}"))])?;
        return Ok(Outcome::Open);
    }
    if !command.consent.yes && !screen.ask(&format!("Rotate {name}?")).await? {
        screen.lines(&["Nothing was changed.".into()])?;
        return Ok(Outcome::Open);
    }
    ask_for_it(cluster, name, &token, false).await?;
    if !command.wait {
        screen.lines(&[
            format!("Asked for (signing.odj.cloud/rotate={token}). To see it happen:").into(),
            format!("  kubectl signing status {name} --watch").into(),
        ])?;
        return Ok(Outcome::Fine);
    }
    wait(command, cluster, screen, &ring, &token).await
}

/// Why it is not safe: workloads would not start again, or nobody knows whether they would,
/// which is shown.
async fn why_not(
    cluster: &Cluster,
    ring: &SigningKeyRing,
    screen: &mut Screen,
) -> Result<Option<String>, Error> {
    let impact = impact::of_rotation(cluster, ring, screen).await.map_err(|error| {
        Error::Failed(format!(
            "what would break cannot be seen: {error}. To rotate without looking: --force"
        ))
    })?;
    screen.lines(&impact::lines(&impact))?;
    let name = &impact.ring;
    if impact.breaks() {
        return Ok(Some(format!(
            "Sign what would break again (kubectl signing impact {name} --rotate --resign-list), \
             or call it with --force."
        )));
    }
    let unknown = impact.unknown();
    Ok((unknown > 0).then(|| {
        format!(
            "Whether {unknown} of them would start again cannot be judged from here: have the \
             registry answer you (docker login), or call it with --force."
        )
    }))
}

/// Sets the annotation, and nothing else: who may only rotate may do that.
async fn ask_for_it(
    cluster: &Cluster,
    ring: &str,
    token: &str,
    dry_run: bool,
) -> Result<(), Error> {
    let rings: Api<SigningKeyRing> = Api::all(cluster.client.clone());
    let patch = json!({"metadata": {"annotations": {names::ANNOTATION_ROTATE: token}}});
    let params =
        PatchParams { dry_run, field_manager: Some(MANAGER.to_owned()), ..Default::default() };
    let patched = rings.patch_metadata(ring, &params, &Patch::Merge(&patch)).await;
    patched.map_err(|error| Error::api(format!("asking ring {ring} for a rotation"), error))?;
    Ok(())
}

async fn wait(
    command: &Rotate,
    cluster: &Cluster,
    screen: &mut Screen,
    before: &SigningKeyRing,
    token: &str,
) -> Result<Outcome, Error> {
    let name = &command.ring;
    let begun = clock::now();
    let deadline = Instant::now() + command.timeout;
    let mut steps = steps::Steps::new(before, token, begun);
    let mut followed = Followed::begin(cluster, Some(name));
    loop {
        match timeout_at(deadline, followed.next()).await {
            Err(_) => {
                let waited = crate::age::brief(clock::now().duration_since(begun));
                screen.lines(&[Line::new(
                    Style::Warn,
                    format!("Not done after {waited}; it goes on by itself, "),
                )
                .and(format!("as far as it can: kubectl signing status {name}"))])?;
                return Ok(Outcome::Open);
            }
            // It is asked for all the same, and who asked again would have two of them.
            Ok(Err(error)) => {
                screen.complain(&format!("it was asked for, and cannot be followed: {error}"));
                return Ok(Outcome::Open);
            }
            Ok(Ok(Next::Trouble(error))) => {
                screen.complain(&format!("watching ring {name}: {error}; it is tried again"));
            }
            Ok(Ok(Next::Changed)) => {
                let ring = match followed.rings.get(name).map(|found| &found.0) {
                    Some(Ok(ring)) => ring,
                    Some(Err(invalid)) => return Err(unreadable(name, &invalid.error)),
                    None => {
                        let text =
                            format!("ring {name} was deleted while its rotation was waited for");
                        return Err(Error::Failed(text));
                    }
                };
                for step in steps.observe(ring, clock::now()) {
                    screen.lines(&[step.line(begun)])?;
                }
                if steps.is_done() {
                    return Ok(Outcome::Fine);
                }
            }
        }
    }
}
