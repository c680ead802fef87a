//! The operator with a clock that can be set: what the product's binary is,
//! and nothing else.

use std::{fs, path::PathBuf};

use clap::Parser;
use jiff::SignedDuration;
use signingkeyring_operator::{clock::Clock, runtime, settings::Settings, telemetry};

/// The operator, by a clock that is wrong by as many seconds as a file says.
#[derive(Parser)]
#[command(name = "operator-under-test")]
struct Arguments {
    /// The file with the seconds; without one the clock is right.
    #[arg(long, value_name = "FILE")]
    clock_offset: PathBuf,

    #[command(flatten)]
    settings: Settings,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Arguments { clock_offset, settings } = Arguments::parse();
    telemetry::init_logs(settings.log_format, &settings.log_level)?;
    let clock = Clock::new(move || {
        let seconds = fs::read_to_string(&clock_offset).ok();
        let seconds = seconds.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        Clock::system().now() + SignedDuration::from_secs(seconds)
    });
    runtime::run(settings, clock).await
}
