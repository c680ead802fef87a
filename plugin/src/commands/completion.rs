//! `kubectl signing completion`: what a shell needs to complete the others.

use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use crate::{
    error::{Error, Outcome},
    screen::Screen,
};

/// Print a shell's completion of kubectl-signing
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # in bash, for this session
  source <(kubectl signing completion bash)

  # in zsh, for good
  kubectl signing completion zsh > \"${fpath[1]}/_kubectl-signing\"

  # in fish, for good
  kubectl signing completion fish > ~/.config/fish/completions/kubectl-signing.fish")]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints it.
///
/// # Errors
/// If it cannot be written.
pub fn run(command: &Completion, screen: &Screen) -> Result<Outcome, Error> {
    let mut script = Vec::new();
    let mut cli = crate::Cli::command().bin_name("kubectl-signing");
    generate(command.shell, &mut cli, "kubectl-signing", &mut script);
    screen.raw(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Fine)
}
