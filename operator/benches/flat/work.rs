//! What this process takes: allocations, time of a core, memory; and how it holds its
//! locks.

use std::{alloc::System, fs, time::Duration};

use anyhow::{Context, Result};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use signingkeyring_operator::lock;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

/// Counts, and hands on to the system's `malloc`, which is the operator's allocator here.
#[global_allocator]
pub static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// What each pass took, or rest in a second.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Work {
    pub allocations: f64,
    pub bytes: f64,
    /// Of a core: what walks over all there is under a lock allocates nothing.
    pub microseconds: f64,
    /// How often a lock of the operator's was taken.
    pub locks: f64,
    /// For how many microseconds of a core these were held, together: on a machine that has
    /// other things to do, who holds a lock may have to wait for it.
    pub held: f64,
    /// The same of the one that was held longest in all that time, whoever held it.
    pub longest_hold: f64,
}

/// What this process takes from some moment on.
pub struct Taken {
    region: Region<'static, System>,
    busy: u64,
}

impl Taken {
    /// From this one.
    pub fn from_now() -> Result<Self> {
        lock::count_by(time_of_this_thread);
        lock::holds();
        Ok(Self { region: Region::new(ALLOCATOR), busy: busy()? })
    }

    /// What it was until this one.
    pub fn until_now(&self) -> Result<Work> {
        let (change, holds) = (self.region.change(), lock::holds());
        Ok(Work {
            allocations: change.allocations as f64,
            bytes: change.bytes_allocated as f64,
            microseconds: (busy()? - self.busy) as f64 / 1e3,
            locks: holds.taken as f64,
            held: holds.held.as_secs_f64() * 1e6,
            longest_hold: holds.longest.as_secs_f64() * 1e6,
        })
    }
}

impl Work {
    /// Of one of so many.
    pub fn of_each(self, count: f64) -> Self {
        Self {
            allocations: self.allocations / count,
            bytes: self.bytes / count,
            microseconds: self.microseconds / count,
            locks: self.locks / count,
            held: self.held / count,
            longest_hold: self.longest_hold,
        }
    }

    /// Without so many seconds of rest.
    pub fn without(self, idle: Self, seconds: f64) -> Self {
        Self {
            allocations: self.allocations - idle.allocations * seconds,
            bytes: self.bytes - idle.bytes * seconds,
            microseconds: self.microseconds - idle.microseconds * seconds,
            locks: self.locks - idle.locks * seconds,
            held: self.held - idle.held * seconds,
            longest_hold: self.longest_hold,
        }
    }
}

/// For how long this thread was on a core.
fn time_of_this_thread() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

/// For how many nanoseconds this process's threads were on a core. None of them ends.
fn busy() -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir("/proc/self/task")? {
        let text = fs::read_to_string(thread?.path().join("schedstat"))?;
        sum += text.split_whitespace().next().context("no time")?.parse::<u64>()?;
    }
    Ok(sum)
}

/// A line of this process's memory, in bytes.
pub fn memory(what: &str) -> Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    let kib: u64 = line.context("no such line")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
