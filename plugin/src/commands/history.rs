//! `kubectl signing history`.

mod print;
mod view;

use clap::Args;

use crate::{
    cluster::Cluster,
    error::{Error, Outcome},
    flags::{self, Report},
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
    #[arg(value_parser = flags::name)]
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
