//! The commands, one file or folder each.

use clap::Subcommand;

use crate::{
    cluster::Cluster,
    error::{Error, Outcome},
    flags::Connection,
    screen::Screen,
};

mod completion;
mod coverage;
mod doctor;
mod enroll;
mod exclusions;
mod history;
mod impact;
mod public_keys;
mod revoke;
mod rotate;
mod status;
mod verify;
mod why;

/// A command.
#[derive(Debug, Subcommand)]
pub enum Command {
    Status(status::Status),
    Rotate(rotate::Rotate),
    Impact(impact::Impact),
    Why(why::Why),
    Verify(verify::Verify),
    History(history::History),
    Revoke(revoke::Revoke),
    Enroll(enroll::Enroll),
    Unenroll(enroll::Unenroll),
    PublicKeys(public_keys::PublicKeys),
    Exclusions(exclusions::Exclusions),
    Coverage(coverage::Coverage),
    Doctor(doctor::Doctor),
    Completion(completion::Completion),
    #[command(name = "__complete", hide = true)]
    Complete(completion::Complete),
}

/// Runs one.
///
/// # Errors
/// If it cannot do what it is asked.
pub async fn run(
    command: Command,
    connection: &Connection,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    match &command {
        Command::Completion(command) => return completion::run(command, screen),
        Command::Complete(command) => return completion::complete(command, screen).await,
        _ => {}
    }
    let cluster = Cluster::connect(connection).await?;
    match command {
        Command::Status(command) => status::run(&command, &cluster, screen).await,
        Command::Rotate(command) => rotate::run(&command, &cluster, screen).await,
        Command::Impact(command) => {
            let only = connection.namespace.as_deref();
            impact::run(&command, only, &cluster, screen).await
        }
        Command::Why(command) => why::run(&command, &cluster, screen).await,
        Command::Verify(command) => {
            let only = connection.namespace.as_deref();
            verify::run(&command, only, &cluster, screen).await
        }
        Command::History(command) => history::run(&command, &cluster, screen).await,
        Command::Revoke(command) => revoke::run(&command, &cluster, screen).await,
        Command::Enroll(command) => enroll::run(&command, &cluster, screen).await,
        Command::Unenroll(command) => enroll::run_unenroll(&command, &cluster, screen).await,
        Command::PublicKeys(command) => public_keys::run(&command, &cluster, screen).await,
        Command::Exclusions(command) => exclusions::run(&command, &cluster, screen).await,
        Command::Coverage(command) => coverage::run(&command, &cluster, screen).await,
        Command::Doctor(command) => doctor::run(&command, &cluster, screen).await,
        Command::Completion(_) | Command::Complete(_) => Ok(Outcome::Fine),
    }
}
