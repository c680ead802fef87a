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

    /// When a policy was written of which nothing was answered yet.
    #[must_use]
    pub fn unanswered_policy(&self) -> Option<Instant> {
        let lines = self.lock();
        let is_policy = |request: &str| {
            let is_one = ["imagevalidatingpolicies", "clusterpolicies"];
            !request.starts_with("DELETE") && is_one.iter().any(|kind| request.contains(kind))
        };
        let written = lines.iter().filter_map(|line| match &line.what {
            What::Write { request, .. } if is_policy(request) => Some(line.at),
            _ => None,
        });
        let written = written.max()?;
        let is_later = |line: &Entry| matches!(line.what, What::Answer(_)) && line.at >= written;
        (!lines.iter().any(is_later)).then_some(written)
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

#[cfg(test)]
mod tests {
    use signingkeyring_e2e_observer::soak::Answer;

    use super::*;

    #[test]
    fn a_policy_is_unanswered_until_something_is_answered_after_its_last_write() {
        let log = Log::default();
        let write = |request: &str| {
            let (request, outcome) = (request.to_owned(), "200".to_owned());
            log.add("A", What::Write { request, outcome });
        };
        assert_eq!(log.unanswered_policy(), None);
        write("PUT imagevalidatingpolicies/signing.enforce-0001");
        write("PATCH signingkeyrings/x/status");
        let written = log.entries().first().map(|entry| entry.at);
        assert_eq!(log.unanswered_policy(), written);
        log.add("A", What::Answer(Answer::Question("enforce-0001.aa".to_owned())));
        assert_eq!(log.unanswered_policy(), None);
        write("PUT clusterpolicies/signing-enforce-0001");
        assert!(log.unanswered_policy().is_some());
        log.add("A", What::Answer(Answer::Question("enforce-0001.bb".to_owned())));
        write("DELETE clusterpolicies/signing-enforce-0001");
        assert_eq!(log.unanswered_policy(), None);
    }
}
