//! `kubectl signing doctor`.

mod checks;
mod kyverno;
mod look;
mod rights;

use clap::Args;
use serde::Serialize;

use self::checks::{Check, Health};
use crate::{
    cluster::Cluster,
    error::{Error, Outcome},
    flags::Report,
    output,
    screen::Screen,
    text::{Line, Span, Style},
};

/// Check the installation: CRDs, rights, Kyverno, the operator, the guard, the clock
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kubectl signing doctor

  # where the operator and Kyverno are installed elsewhere
  kubectl signing doctor --operator-namespace acme-signing --kyverno-namespace acme-kyverno

Each check says what to do. Ends with 3 if one has found something wrong.")]
pub struct Doctor {
    #[command(flatten)]
    report: Report,
}

/// What was found.
#[derive(Debug, Serialize)]
struct View {
    checks: Vec<Check>,
}

/// Looks, and tells.
///
/// # Errors
/// If the API server does not answer at all.
pub async fn run(command: &Doctor, cluster: &Cluster, screen: &Screen) -> Result<Outcome, Error> {
    let view = View { checks: look::all(cluster).await? };
    output::show(screen, command.report.output, &view, |wide| lines(&view.checks, wide))?;
    Ok(Outcome::open_if(view.checks.iter().any(|check| check.health == Health::Wrong)))
}

fn lines(checks: &[Check], wide: bool) -> Vec<Line> {
    let widest = checks.iter().map(|check| check.name.chars().count()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for check in checks {
        let (style, word) = match check.health {
            Health::Fine => (Style::Good, "fine   "),
            Health::Unknown => (Style::Warn, "unknown"),
            Health::Wrong => (Style::Bad, "WRONG  "),
        };
        let name = format!("  {:<widest$}  ", check.name);
        lines.push(Line(vec![Span::new(style, word)]).and(name).and(&check.found));
        let details = check.details.iter().filter(|_| wide);
        for text in details.chain(&check.help) {
            lines.push(format!("{:>1$}{text}", "", widest + 11).into());
        }
    }
    lines
}
