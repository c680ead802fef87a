//! `kubectl signing completion`: what a shell, or kubectl, needs to complete the others.

mod words;

use std::time::Duration;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::{Shell, generate};
use kube::ResourceExt;
use tokio::time::timeout;

use self::words::{Wanted, Word};
use crate::{
    cluster::Cluster,
    error::{Error, Outcome},
    flags::Connection,
    screen::Screen,
    text::clean,
};

/// Print what completes these commands, in kubectl or in a shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # `kubectl signing` itself, in every shell in which kubectl completes: a program beside
  # kubectl-signing on PATH, by which kubectl asks it
  kubectl signing completion kubectl > ~/.local/bin/kubectl_complete-signing
  chmod +x ~/.local/bin/kubectl_complete-signing

  # `kubectl-signing`, in bash, for this session
  source <(kubectl signing completion bash)

  # in zsh, for good
  kubectl signing completion zsh > \"${fpath[1]}/_kubectl-signing\"

  # in fish, for good
  kubectl signing completion fish > ~/.config/fish/completions/kubectl-signing.fish")]
pub struct Completion {
    /// Who completes
    #[arg(value_enum)]
    by: By,
}

/// Who completes.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum By {
    /// kubectl, by a program named kubectl_complete-signing
    Kubectl,
    Bash,
    Zsh,
    Fish,
}

/// What may follow, as kubectl asks for it.
#[derive(Debug, Args)]
pub struct Complete {
    /// The words so far; the last one is not whole
    words: Vec<String>,
}

/// The program that kubectl looks for.
const PROGRAM: &str = "\
#!/bin/sh
# kubectl runs this to complete `kubectl signing`, if PATH has it as kubectl_complete-signing.
exec kubectl-signing __complete -- \"$@\"
";

/// For how long the cluster is asked for names.
const PATIENCE: Duration = Duration::from_secs(2);

/// What ends an answer: kubectl is to complete no files.
const NO_FILES: &str = ":4\n";

/// Prints it.
///
/// # Errors
/// If it cannot be written.
pub fn run(command: &Completion, screen: &Screen) -> Result<Outcome, Error> {
    let shell = match command.by {
        By::Kubectl => {
            screen.raw(PROGRAM)?;
            return Ok(Outcome::Fine);
        }
        By::Bash => Shell::Bash,
        By::Zsh => Shell::Zsh,
        By::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    let mut cli = crate::Cli::command().bin_name("kubectl-signing");
    generate(shell, &mut cli, "kubectl-signing", &mut script);
    screen.raw(&String::from_utf8_lossy(&script))?;
    Ok(Outcome::Fine)
}

/// Prints what may follow. Names that the cluster does not tell in time are left out.
///
/// # Errors
/// If it cannot be written.
pub async fn complete(command: &Complete, screen: &Screen) -> Result<Outcome, Error> {
    let mut cli = crate::Cli::command();
    cli.build();
    let (mut words, wanted) = words::after(&cli, &command.words);
    let begin = command.words.last().map(String::as_str).unwrap_or_default();
    if let Some(wanted) = wanted {
        let names = match words::connection(&cli, &command.words) {
            Some(connection) => timeout(PATIENCE, names(wanted, &connection)).await,
            None => Ok(Ok(Vec::new())),
        };
        let names = names.ok().and_then(Result::ok).unwrap_or_default().into_iter();
        let begun = names.filter(|name| name.starts_with(begin));
        words.extend(begun.map(|word| Word { word, about: String::new() }));
    }
    let mut answer = String::new();
    for Word { word, about } in words {
        answer.push_str(&clean(&word));
        if !about.is_empty() {
            answer.push_str(&format!("\t{}", clean(&about)));
        }
        answer.push('\n');
    }
    screen.raw(&(answer + NO_FILES))?;
    Ok(Outcome::Fine)
}

async fn names(wanted: Wanted, connection: &Connection) -> Result<Vec<String>, Error> {
    let cluster = Cluster::connect(connection).await?;
    Ok(match wanted {
        Wanted::Ring => cluster.rings().await?.iter().map(ResourceExt::name_any).collect(),
        Wanted::Namespace => cluster.labels().await?.into_keys().collect(),
    })
}
