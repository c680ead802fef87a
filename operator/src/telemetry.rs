//! Logs, metrics and events.

use tracing_subscriber::EnvFilter;

use crate::settings::LogFormat;

mod events;
mod metrics;
mod process;
mod requests;
mod rings;

pub(crate) use events::{
    Events, companion_reference, list_reference, namespace_reference, policy_reference,
    ring_reference,
};
pub(crate) use metrics::Metrics;
pub(crate) use requests::Requests;
pub(crate) use rings::RingSeries;

/// Sends log lines to standard error.
///
/// # Errors
/// If the filter cannot be read.
pub fn init_logs(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    // The client logs whole response bodies when it cannot read one; a
    // ledger's would hold private keys. Its watches warn at each attempt of what they may
    // not look at, which is said here once, unless somebody asks for it.
    let filter = format!("kube_runtime::watcher=error,{filter},kube_client=error");
    let filter = EnvFilter::try_new(filter)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}
