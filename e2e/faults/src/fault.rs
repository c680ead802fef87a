//! The faults that the harness injects: at a write, or into what is read.

use std::{fmt, str::FromStr};

/// What goes wrong at one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// The operator ends before the write is sent.
    CrashBefore,
    /// The operator ends after the API server applied the write.
    CrashAfter,
    /// The API server answers 409.
    Conflict,
    /// The API server answers 500.
    ServerError,
    /// The API server answers 429 and asks for patience.
    TooManyRequests,
    /// The write is applied and its answer never arrives.
    TimeOut,
    /// A second replica does the same while the write is on its way.
    SecondReplica,
}

/// What goes wrong with what is read, from the beginning to the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// Every watch is this many events behind.
    Lag(u8),
    /// Events are lost until the next list.
    Dropped,
    /// Watches are closed with 410.
    Gone,
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    None,
    /// A write, counted from 1.
    Write(WriteFault, usize),
    /// What is read.
    Read(ReadFault),
}

impl WriteFault {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::CrashBefore,
        Self::CrashAfter,
        Self::Conflict,
        Self::ServerError,
        Self::TooManyRequests,
        Self::TimeOut,
        Self::SecondReplica,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::CrashBefore => "crash-before",
            Self::CrashAfter => "crash-after",
            Self::Conflict => "conflict",
            Self::ServerError => "500",
            Self::TooManyRequests => "429",
            Self::TimeOut => "time-out",
            Self::SecondReplica => "second-replica",
        }
    }
}

impl ReadFault {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Lag(1), Self::Lag(2), Self::Lag(5), Self::Dropped, Self::Gone];
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Write(fault, at) => write!(f, "{}@{at}", fault.name()),
            Self::Read(ReadFault::Lag(events)) => write!(f, "lag-{events}"),
            Self::Read(ReadFault::Dropped) => f.write_str("dropped"),
            Self::Read(ReadFault::Gone) => f.write_str("gone"),
        }
    }
}

/// Which faults to try: a kind, or a kind at one write (`crash-after@3`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    kind: String,
    at: Option<usize>,
}

impl FromStr for Selector {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, at) = match text.split_once('@') {
            Some((kind, at)) => {
                (kind, Some(at.parse().map_err(|_| format!("{at:?} is no number of a write"))?))
            }
            None => (text, None),
        };
        let writes = WriteFault::ALL.iter().map(|fault| fault.name().to_owned());
        let reads = ReadFault::ALL.iter().map(|fault| Fault::Read(*fault).to_string());
        let known: Vec<String> = writes.chain(reads).collect();
        if known.iter().any(|known| known == kind) {
            Ok(Self { kind: kind.to_owned(), at })
        } else {
            Err(format!("no such fault; there are {}", known.join(", ")))
        }
    }
}

impl Selector {
    /// Whether a fault is meant.
    #[must_use]
    pub fn selects(&self, fault: Fault) -> bool {
        match fault {
            Fault::None => false,
            Fault::Write(kind, at) => {
                kind.name() == self.kind && self.at.is_none_or(|wanted| wanted == at)
            }
            Fault::Read(_) => fault.to_string() == self.kind,
        }
    }
}

/// Every fault for a scenario of so many writes.
#[must_use]
pub fn all(writes: usize) -> Vec<Fault> {
    let at_writes = (1..=writes)
        .flat_map(|at| WriteFault::ALL.iter().map(move |fault| Fault::Write(*fault, at)));
    at_writes.chain(ReadFault::ALL.iter().map(|fault| Fault::Read(*fault))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_of_every_write_and_every_read_fault() {
        assert_eq!(all(3).len(), 3 * 7 + 5);
    }

    #[test]
    fn selectors() {
        let one: Selector = "crash-after@3".parse().unwrap();
        assert!(one.selects(Fault::Write(WriteFault::CrashAfter, 3)));
        assert!(!one.selects(Fault::Write(WriteFault::CrashAfter, 4)));
        let kind: Selector = "lag-5".parse().unwrap();
        assert_eq!(all(2).into_iter().filter(|fault| kind.selects(*fault)).count(), 1);
        assert!("crash".parse::<Selector>().is_err());
        assert!("500@x".parse::<Selector>().is_err());
    }
}
