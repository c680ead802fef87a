//! `kubectl signing status`.

mod notes;
mod print;
mod view;

use std::{collections::BTreeMap, time::Duration};

use clap::Args;
use tokio::time::sleep;

use crate::{
    clock,
    cluster::{Cluster, FoundRing, unreadable},
    error::{Error, Outcome},
    flags::{self, Report},
    follow::{Followed, Next},
    output,
    screen::Screen,
};

/// Show rings: their versions, who holds the key, what Kyverno has, what is wrong and
/// what to do
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # all rings, and whether anything is wrong
  kubectl signing status

  # one ring with its versions
  kubectl signing status checkout

  # the same as it changes; in a log, a line for each change
  kubectl signing status checkout --watch

Ends with 3 if a ring is not ready.")]
pub struct Status {
    /// The ring; without one, all of them
    #[arg(value_parser = flags::name)]
    ring: Option<String>,
    /// Go on, and show what changes
    #[arg(short, long, conflicts_with = "output")]
    watch: bool,
    #[command(flatten)]
    report: Report,
}

/// How often what is watched is drawn anew, for the ages in it.
const REDRAW: Duration = Duration::from_secs(1);

/// Shows it.
///
/// # Errors
/// If it cannot be read.
pub async fn run(
    command: &Status,
    cluster: &Cluster,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    let ring = command.ring.as_deref();
    if command.watch {
        return watch(ring, cluster, screen).await;
    }
    let now = clock::now();
    let format = command.report.output;
    let (view, is_open) = match ring {
        Some(name) => {
            let ring = cluster.ring(name).await?;
            let view = view::of_ring(&ring, enrolled(cluster, name).await);
            let is_open = !view.is_ready;
            output::show(screen, format, &view, |wide| print::ring(&view, now, wide))?;
            return Ok(Outcome::open_if(is_open));
        }
        None => {
            let rings = cluster.rings().await?;
            let view = view::of_rings(rings.iter());
            let is_open = view.rings.iter().any(|ring| !ring.is_ready);
            (view, is_open)
        }
    };
    output::show(screen, format, &view, |wide| print::rings(&view, now, wide))?;
    Ok(Outcome::open_if(is_open))
}

/// The ring's namespaces, if whoever calls may list them.
async fn enrolled(cluster: &Cluster, ring: &str) -> Option<Vec<String>> {
    cluster.enrolled(ring).await.ok()
}

async fn watch(
    ring: Option<&str>,
    cluster: &Cluster,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    if let Some(name) = ring {
        // That there is none is said at once.
        cluster.ring(name).await?;
    }
    let mut followed = Followed::begin(cluster, ring);
    let mut said = BTreeMap::new();
    let mut namespaces = None;
    let mut trouble: Option<String> = None;
    let mut is_listed = false;
    loop {
        tokio::select! {
            next = followed.next() => match next? {
                Next::Changed => {
                    trouble = None;
                    is_listed = true;
                    if let Some(name) = ring {
                        namespaces = enrolled(cluster, name).await;
                    }
                }
                // Said once until it is over.
                Next::Trouble(error) if trouble.is_none() => {
                    if !screen.is_terminal() {
                        screen.complain(&format!("watching: {error}; it is tried again"));
                    }
                    trouble = Some(error);
                }
                Next::Trouble(_) => {}
            },
            () = sleep(REDRAW), if screen.is_terminal() => {}
        }
        let now = clock::now();
        if screen.is_terminal() {
            let mut lines = match is_listed {
                true => drawn(ring, &followed.rings, namespaces.clone(), now)?,
                // Of what was not seen yet nothing is said.
                false => Vec::new(),
            };
            lines.extend(trouble.iter().map(|text| print::trouble(text)));
            screen.redraw(&lines)?;
        } else {
            screen.lines(&print::changes(&mut said, &view::sentences(&followed.rings), now))?;
        }
    }
}

fn drawn(
    ring: Option<&str>,
    rings: &BTreeMap<String, FoundRing>,
    namespaces: Option<Vec<String>>,
    now: jiff::Timestamp,
) -> Result<Vec<crate::text::Line>, Error> {
    let Some(name) = ring else {
        return Ok(print::rings(&view::of_rings(rings.values()), now, false));
    };
    match rings.get(name).map(|found| &found.0) {
        None => Ok(vec![format!("ring {name} is gone").into()]),
        Some(Ok(ring)) => Ok(print::ring(&view::of_ring(ring, namespaces), now, false)),
        Some(Err(invalid)) => Err(unreadable(name, &invalid.error)),
    }
}
