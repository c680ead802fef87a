//! `kubectl signing public-keys`.

mod view;

use clap::Args;

use crate::{
    cluster::Cluster,
    error::{Error, Outcome},
    flags::{self, Format, Report},
    output,
    screen::Screen,
};

/// Print the public keys of the versions that a ring accepts, for verifiers elsewhere
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  # a bundle of all that are accepted, the newest first
  kubectl signing public-keys checkout > checkout.pem

  # one, for a verifier that takes no bundle
  kubectl signing public-keys checkout --version 7 > cosign.pub
  cosign verify --key cosign.pub --insecure-ignore-tlog=true --private-infrastructure=true IMAGE

The lines between the keys say which is which; readers of PEM skip them. Ends with 3 if no
version is accepted.")]
pub struct PublicKeys {
    /// The ring
    #[arg(value_parser = flags::name)]
    ring: String,
    /// This version alone, accepted or not
    #[arg(long, value_name = "NUMBER")]
    version: Option<u32>,
    #[command(flatten)]
    report: Report,
}

/// Prints them.
///
/// # Errors
/// If the ring cannot be read, or has no such version.
pub async fn run(
    command: &PublicKeys,
    cluster: &Cluster,
    screen: &mut Screen,
) -> Result<Outcome, Error> {
    let ring = cluster.ring(&command.ring).await?;
    let view = view::of(&ring, command.version)?;
    for unsound in &view.left_out {
        screen.complain(&format!(
            "version {unsound} is left out: its public key in the ring's status is not the one \
             that its fingerprint names"
        ));
    }
    let is_open = view.keys.is_empty() || !view.left_out.is_empty();
    let format = match command.report.output {
        // A key is foreign text, too, but what is printed of it was read and written anew.
        Format::Table | Format::Wide => {
            screen.raw(&view.pem(&command.ring))?;
            return Ok(Outcome::open_if(is_open));
        }
        format => format,
    };
    output::show(screen, format, &view, |_| Vec::new())?;
    Ok(Outcome::open_if(is_open))
}
