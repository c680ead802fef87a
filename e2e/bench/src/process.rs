//! What programs take of the machine, as the kernel tells.

use std::{fs, time::Duration};

use anyhow::{Context, Result};
use serde::Serialize;
use signingkeyring_e2e_testbed::{cluster::Cluster, components::Component};

/// A process.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

impl Process {
    /// Its resident memory, in MiB.
    ///
    /// # Errors
    /// If it has ended.
    pub fn resident(self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most that this was since it started, or since that was forgotten, in MiB.
    ///
    /// # Errors
    /// If it has ended.
    pub fn peak(self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// Has the most counted from now on.
    ///
    /// # Errors
    /// If it has ended.
    pub fn forget_peak(self) -> Result<()> {
        // proc(5): 5 resets it.
        Ok(fs::write(format!("/proc/{}/clear_refs", self.0), "5")?)
    }

    fn memory(self, field: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)).context("it ended")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024)
    }

    /// How long it has been on a core so far.
    ///
    /// # Errors
    /// If it has ended.
    pub fn cpu(self) -> Result<Duration> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.0))?;
        // The name in brackets may have anything in it.
        let (_, after) = stat.rsplit_once(')').context("no name")?;
        let fields: Vec<&str> = after.split_whitespace().collect();
        // proc(5): utime and stime are the fields 14 and 15; the state, 3, is the first here.
        let ticks: u64 = fields
            .get(11..13)
            .context("no times")?
            .iter()
            .map(|t| t.parse::<u64>())
            .sum::<Result<_, _>>()?;
        let second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_millis(ticks * 1000 / second))
    }
}

/// The programs of a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// kube-apiserver.
    pub api_server: Process,
    /// etcd.
    pub etcd: Process,
    /// Kyverno's admission controller.
    pub kyverno: Process,
}

impl Programs {
    /// Those of a cluster.
    ///
    /// # Errors
    /// If it lacks one.
    pub fn of(cluster: &Cluster) -> Result<Self> {
        let of = |wanted: Component| {
            let mut all = Component::ALL.into_iter().zip(&cluster.info.processes);
            let (_, process) = all.find(|(component, _)| *component == wanted).context("ended")?;
            anyhow::Ok(Process(*process))
        };
        Ok(Self {
            api_server: of(Component::ApiServer)?,
            etcd: of(Component::Etcd)?,
            kyverno: of(Component::Kyverno)?,
        })
    }

    /// What they have.
    ///
    /// # Errors
    /// If one has ended.
    pub fn memory(self) -> Result<Memory> {
        Ok(Memory { api_server: self.api_server.resident()?, kyverno: self.kyverno.resident()? })
    }

    /// How long each has been on a core so far, in seconds.
    ///
    /// # Errors
    /// If one has ended.
    pub fn cpu(self) -> Result<Cpu> {
        let of = |process: Process| process.cpu().map(|cpu| cpu.as_secs_f64());
        Ok(Cpu {
            api_server: of(self.api_server)?,
            etcd: of(self.etcd)?,
            kyverno: of(self.kyverno)?,
        })
    }
}

/// The resident memory of two programs, in MiB.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// kube-apiserver.
    pub api_server: u64,
    /// Kyverno's admission controller.
    pub kyverno: u64,
}

/// How long programs were on a core, in seconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cpu {
    /// kube-apiserver.
    pub api_server: f64,
    /// etcd.
    pub etcd: f64,
    /// Kyverno's admission controller.
    pub kyverno: f64,
}

impl Cpu {
    /// What of it came after an earlier look.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        Self {
            api_server: self.api_server - before.api_server,
            etcd: self.etcd - before.etcd,
            kyverno: self.kyverno - before.kyverno,
        }
    }
}
