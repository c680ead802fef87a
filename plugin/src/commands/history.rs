//! `kubectl signing history`.

mod print;
mod view;

use clap::Args;

use crate::{
    cluster::Cluster,
    error::{Error, Outcome},
    flags::Report,
    output,
    screen::Screen,
};

/// Show every version of a ring that is remembered, for auditors
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl signing history checkout

  # with whole fingerprints
  kubectl signing history checkout -o wide

  # for a record
  kubectl signing history checkout -o json")]
pub struct History {
    /// The ring
    ring: String,
    #[command(flatten)]
    report: Report,
}

/// Shows it.
///
/// # Errors
/// If the ring cannot be read.
pub async fn run(command: &History, cluster: &Cluster, screen: &Screen) -> Result<Outcome, Error> {
    let view = view::of(&cluster.ring(&command.ring).await?);
    output::show(screen, command.report.output, &view, |wide| print::lines(&view, wide))?;
    Ok(Outcome::Fine)
}
