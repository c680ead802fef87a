//! What the operators of a run wrote and heard, as it passed their clients.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use signingkeyring_e2e_observer::soak::Answer;
use tokio::time::Instant;

/// What passed a client.
#[derive(Clone, Debug)]
pub enum What {
    /// A write, and what became of it.
    Write {
        /// Method, kind and name.
        request: String,
        /// A status code, or the fault.
        outcome: String,
    },
    /// A public key is on its way into a pipeline Secret.
    Publishing {
        /// The ring whose key it is.
        ring: String,
        /// As PEM.
        key: String,
    },
    /// The gate answered; the time is that of the question.
    Answer(Answer),
    /// The gate did not answer for seconds.
    Unreachable,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// Which of the run's operators.
    pub who: String,
    /// What.
    pub what: What,
}

/// The log of a run.
#[derive(Debug, Default)]
pub struct Log(Mutex<Vec<Entry>>);

impl Log {
    /// Adds a line of now.
    pub fn add(&self, who: &str, what: What) {
        self.add_at(Instant::now(), who, what);
    }

    /// Adds a line of some time before now.
    pub fn add_at(&self, at: Instant, who: &str, what: What) {
        self.lock().push(Entry { at, who: who.to_owned(), what });
    }

    /// All lines so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().clone()
    }

    /// When the last write passed.
    #[must_use]
    pub fn last_write(&self) -> Option<Instant> {
        let lines = self.lock();
        lines.iter().rev().find(|line| matches!(line.what, What::Write { .. })).map(|line| line.at)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.lock();
        let start = lines.first().map(|line| line.at);
        let mut last = None;
        for line in lines.iter() {
            let after = start.map_or(Duration::ZERO, |start| line.at.duration_since(start));
            let after = after.as_secs_f64();
            let text = match &line.what {
                What::Write { request, outcome } => format!("{request}: {outcome}"),
                What::Answer(answer) if last.as_ref() == Some(answer) => continue,
                What::Answer(answer) => {
                    last = Some(answer.clone());
                    match answer {
                        Answer::Marks(marks) => format!("gate: {marks}"),
                        Answer::Question(name) => format!("gate: {name}"),
                    }
                }
                What::Unreachable => "gate: no answer for seconds".to_owned(),
                What::Publishing { .. } => continue,
            };
            writeln!(f, "    {after:7.2} s  {}  {text}", line.who)?;
        }
        Ok(())
    }
}
