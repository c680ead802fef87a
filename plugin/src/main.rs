//! `kubectl signing`: what the key rings are, what runs by which key, and what breaks if
//! a key goes. It reads with the rights of whoever calls it.
//!
//! A command is one file of `commands`: its flags, and what it does in order. What is
//! concluded from what was read stands apart, in a `view`, and how that is shown in
//! another, `print`: both are pure.

// What is read from a cluster is foreign data: whatever stands there, no index
// of it may panic.
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::string_slice))]

mod age;
mod clock;
mod cluster;
mod commands;
mod dry_run;
mod error;
mod fit;
mod flags;
mod follow;
mod judge;
mod left_out;
mod output;
mod pods;
mod policy;
mod ring;
mod screen;
mod text;
mod workloads;

use std::{io::ErrorKind, process::ExitCode};

use clap::Parser;

use crate::{commands::Command, error::Error, flags::Connection, screen::Screen};

/// See which key signed what runs, rotate with open eyes, and know what breaks before it
/// does.
///
/// Everything is read and done with the rights of your kubeconfig. Ends with 0 if all is
/// fine, 3 if something would break or is open, 2 if it is called wrongly, and 1 if it
/// fails.
#[derive(Debug, Parser)]
#[command(name = "kubectl-signing", bin_name = "kubectl signing", version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    connection: Connection,
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            Screen::standard().complain(&format!("error: no threads can be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(run(cli));
    // Without waiting for a credential helper that hangs.
    runtime.shutdown_background();
    code
}

async fn run(cli: Cli) -> ExitCode {
    let mut screen = Screen::standard();
    let done = tokio::select! {
        done = commands::run(cli.command, &cli.connection, &mut screen) => done,
        () = ended() => {
            screen.leave();
            // Without waiting for an answer that somebody was asked for.
            std::process::exit(130);
        }
    };
    match done {
        Ok(outcome) => outcome.into(),
        // Whoever reads this has read enough; what was found out nobody heard. As of a
        // process that the pipe ended.
        Err(Error::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(141),
        Err(error) => {
            screen.complain(&format!("error: {error}"));
            error.help().into_iter().for_each(|help| screen.complain(help));
            error.exit_code()
        }
    }
}

/// Until somebody ends the process.
async fn ended() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        },
        // Ctrl-C alone, then.
        Err(_) => {
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_flags_are_sound_and_every_command_has_an_example() {
        let cli = Cli::command();
        cli.clone().debug_assert();
        for command in cli.get_subcommands().filter(|command| !command.is_hide_set()) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            let name = command.get_name();
            assert!(help.contains(&format!("kubectl signing {name}")), "{name}: {help}");
        }
    }
}
