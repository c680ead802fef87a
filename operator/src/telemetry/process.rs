//! What this process takes, by the names that Prometheus' own client libraries have for it.
//! Only Linux says that; elsewhere there are no such series.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet},
    metrics::MetricType,
    registry::Unit,
};

/// Looks when it is asked.
#[derive(Debug)]
pub(super) struct Process;

/// What is seen: of memory bytes, of times seconds.
struct Usage {
    cpu: f64,
    start: f64,
    resident: u64,
    virtual_: u64,
    open_files: u64,
    most_files: Option<u64>,
}

#[cfg(target_os = "linux")]
fn look() -> Option<Usage> {
    use procfs::{
        boot_time_secs, page_size, process::LimitValue, process::Process, ticks_per_second,
    };

    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    #[allow(clippy::cast_precision_loss, reason = "ticks of centuries fit")]
    let seconds = |ticks: u64| ticks as f64 / ticks_per_second() as f64;
    #[allow(clippy::cast_precision_loss, reason = "so do seconds since 1970")]
    let booted = boot_time_secs().ok()? as f64;
    let most_files = match process.limits().ok()?.max_open_files.soft_limit {
        LimitValue::Value(most) => Some(most),
        LimitValue::Unlimited => None,
    };
    Some(Usage {
        cpu: seconds(stat.utime.saturating_add(stat.stime)),
        start: booted + seconds(stat.starttime),
        resident: stat.rss.saturating_mul(page_size()),
        virtual_: stat.vsize,
        open_files: process.fd_count().ok()?.try_into().ok()?,
        most_files,
    })
}

#[cfg(not(target_os = "linux"))]
fn look() -> Option<Usage> {
    None
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(usage) = look() else { return Ok(()) };
        let help = "User and system CPU time spent";
        encoder
            .encode_descriptor("process_cpu", help, Some(&Unit::Seconds), MetricType::Counter)?
            .encode_counter::<NoLabelSet, f64, f64>(&usage.cpu, None)?;
        let help = "When the process started, since 1970";
        encoder
            .encode_descriptor("process_start_time", help, Some(&Unit::Seconds), MetricType::Gauge)?
            .encode_gauge(&usage.start)?;
        let gauges = [
            ("process_resident_memory", "Resident memory", Some(&Unit::Bytes), usage.resident),
            ("process_virtual_memory", "Virtual memory", Some(&Unit::Bytes), usage.virtual_),
            ("process_open_fds", "Open file descriptors", None, usage.open_files),
        ];
        let most = usage
            .most_files
            .map(|most| ("process_max_fds", "How many file descriptors may be open", None, most));
        for (name, help, unit, value) in gauges.into_iter().chain(most) {
            encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?.encode_gauge(&value)?;
        }
        Ok(())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn what_is_seen_is_of_this_process() {
        let usage = look().unwrap();
        let now = Clock::system().now().as_duration().as_secs_f64();
        assert!(usage.start <= now + 1.0 && usage.start > now - 3600.0, "{}", usage.start);
        assert!(usage.resident > 1 << 20 && usage.resident < usage.virtual_);
        assert!(usage.open_files > 2);
        assert!(usage.most_files.is_none_or(|most| most >= usage.open_files));
        assert!(usage.cpu < 3600.0);
    }
}
