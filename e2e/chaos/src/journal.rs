//! What happened, when: a file to read after a failure, and the numbers of
//! the table at the end.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::Result;
use signingkeyring_e2e_observer::invariant::Invariant;
use tokio::time::Instant;

/// How long the gate was open until a ring's condition said so.
pub const OPEN: &str = "Kyverno and its webhooks gone until a ring's condition said so";

/// How long it took until what fell out of a window was refused.
pub const REFUSED: &str = "a version fell out of the window until Kyverno knew, outages included";

/// How long it took until what was done to a policy was undone for a ring.
pub const BACK: &str =
    "a ring's policy deleted or edited until Kyverno answered with its rule again";

/// How long nobody worked.
pub const TAKEN_OVER: &str = "the leader killed until another replica led";

/// The journal of a run.
#[derive(Debug)]
pub struct Journal {
    /// Where it is written.
    pub path: PathBuf,
    start: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    file: File,
    counts: BTreeMap<(Kind, String), u64>,
    times: BTreeMap<&'static str, Vec<Duration>>,
    violations: BTreeMap<Invariant, usize>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Something was asked of the operator.
    Request,
    /// Something was broken.
    Fault,
    /// A probe that came to a verdict which had to be right.
    Decided,
    /// A probe whose verdict may be either, because something it depends on
    /// was broken or changed meanwhile.
    Undecided,
}

impl Journal {
    /// Begins a journal in a folder.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn begin(folder: &Path) -> Result<Self> {
        let path = folder.join("chaos.log");
        let file = File::create(&path)?;
        let (counts, times, violations) = Default::default();
        let inner = Mutex::new(Inner { file, counts, times, violations });
        Ok(Self { path, start: Instant::now(), inner })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long the run has lasted.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Writes a line.
    pub fn note(&self, text: &str) {
        let at = self.elapsed().as_secs_f64();
        // A journal that cannot be written must not end the run.
        let _ = writeln!(self.inner().file, "{at:8.2} {text}");
    }

    /// Counts one, without a line.
    pub fn count(&self, kind: Kind, what: &str) {
        *self.inner().counts.entry((kind, what.to_owned())).or_default() += 1;
    }

    /// Counts a fault and writes what it was.
    pub fn fault(&self, what: &str, detail: &str) {
        self.count(Kind::Fault, what);
        self.note(&format!("fault: {what} {detail}"));
    }

    /// Remembers how long something took.
    pub fn took(&self, what: &'static str, time: Duration) {
        self.inner().times.entry(what).or_default().push(time);
    }

    /// An invariant was violated.
    pub fn violated(&self, invariant: Invariant, text: &str) {
        self.note(&format!("VIOLATED {invariant}: {text}"));
        eprintln!("  VIOLATED {invariant}: {text}");
        *self.inner().violations.entry(invariant).or_default() += 1;
    }

    /// How often invariants were violated, in all and each.
    #[must_use]
    pub fn violations(&self) -> (usize, Vec<(Invariant, usize)>) {
        let each = self.inner().violations.clone();
        (each.values().sum(), each.into_iter().collect())
    }

    /// How many there were of a kind.
    #[must_use]
    pub fn total(&self, kind: Kind) -> u64 {
        self.inner().counts.iter().filter(|((k, _), _)| *k == kind).map(|(_, count)| count).sum()
    }

    /// `total (name 3, other 4)` of a kind.
    #[must_use]
    pub fn summary(&self, kind: Kind) -> String {
        let mut text = self.total(kind).to_string();
        let inner = self.inner();
        let each: Vec<_> = inner
            .counts
            .iter()
            .filter(|((k, _), _)| *k == kind)
            .map(|((_, what), count)| format!("{what} {count}"))
            .collect();
        if !each.is_empty() {
            let _ = write!(text, " ({})", each.join(", "));
        }
        text
    }

    /// `what: median 1.2 s, max 3.4 s (5 times)` for everything that was timed.
    #[must_use]
    pub fn timings(&self) -> Vec<String> {
        let inner = self.inner();
        let line = |(what, times): (&&str, &Vec<Duration>)| {
            let mut sorted = times.clone();
            sorted.sort();
            let median = sorted.get(sorted.len() / 2).copied().unwrap_or_default();
            let max = sorted.last().copied().unwrap_or_default();
            let (median, max) = (median.as_secs_f64(), max.as_secs_f64());
            format!("{what}: median {median:.1} s, max {max:.1} s ({} times)", times.len())
        };
        inner.times.iter().map(line).collect()
    }
}
