//! The operator's binary.

use clap::Parser;
use signingkeyring_operator::{clock::Clock, runtime, settings::Settings, telemetry};
use tikv_jemallocator::Jemalloc;

/// What a wave of rings takes for a moment is given back: see ARCHITECTURE.md, Libraries.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    telemetry::init_logs(settings.log_format, &settings.log_level)?;
    runtime::run(settings, Clock::system()).await
}
