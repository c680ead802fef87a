//! What is explored: one small world per concern, each to its end.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use stateright::{Checker, HasDiscoveries, Model};

mod shared;

use crate::{
    bystander::Bystander,
    facts::Keys,
    machine::{Edit, Machine, Move, Subject},
    state::{Access, Budget, Cover, Held, Past, Replica, Spec, State},
    view::{self, AUDIT, ENFORCE, VALIDATING},
};

/// The bounds of one exploration.
#[derive(Clone, Debug)]
pub struct Configuration {
    pub name: &'static str,
    pub keep: u8,
    pub pipelines: [bool; 2],
    pub replicas: usize,
    /// Whether one of them leads, the first: the others only end what they have sent. Where
    /// none does, both work at once, which is more than ever happens.
    pub elects: bool,
    /// Begin with a ring that has been serving, and rotated so often.
    pub born: bool,
    /// Begin with namespaces that are covered as those of no ring.
    pub covered: bool,
    pub rotations: u8,
    /// The positions of the policies that there are.
    pub places: &'static [usize],
    /// Whether the spec asks for a standby from the beginning; whether it is
    /// suspended then.
    pub standby: bool,
    pub suspended: bool,
    /// The schedule's period in days.
    pub every: Option<u8>,
    /// Whether passes may see a ledger one change late.
    pub slow_watches: bool,
    /// The other ring in the Enforce policy.
    pub bystander: Bystander,
    /// Whether replicas remember what they wrote of a policy. Without, they
    /// are as those that have just started.
    pub remembers: bool,
    /// Whether others may do something between a policy's plan and its write.
    pub writes_later: bool,
    /// Whether what is said in each state is held against what becomes of it.
    pub words: bool,
    pub edits: &'static [Edit],
    pub budget: Budget,
}

impl Configuration {
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            keep: 2,
            pipelines: [true, false],
            replicas: 2,
            elects: false,
            born: true,
            covered: false,
            rotations: 0,
            places: &[ENFORCE, AUDIT],
            standby: false,
            suspended: false,
            every: None,
            slow_watches: true,
            bystander: Bystander::Absent,
            remembers: false,
            writes_later: false,
            words: false,
            edits: &[],
            budget: Budget {
                edits: 1,
                crashes: 1,
                outages: 1,
                withdrawals: 0,
                endings: 0,
                days: 0,
            },
        }
    }

    /// A ring that was just applied.
    pub fn unborn(&self) -> State {
        State {
            spec: Some(Spec {
                keep: self.keep,
                token: 0,
                place: view::ENFORCE,
                pipelines: self.pipelines,
                finalizer: false,
                deleting: false,
                allow_unenforced: false,
                suspend: self.suspended,
                standby: self.standby,
                revoked: Keys(0),
            }),
            ledger: None,
            older: None,
            bystander: 0,
            policies: [const { None }; 3],
            loaded: [const { None }; 3],
            kyverno_up: true,
            cover: self.covered.then_some(Cover { stands: true, loaded: true }),
            secrets: [Held::Absent; 2],
            access: [Access::Granted; 2],
            key_secrets: Vec::new(),
            recorded: None,
            replicas: vec![Replica::started(); self.replicas],
            day: 0,
            reported: false,
            left: self.budget,
            past: Past::default(),
            broken: None,
        }
    }
}

/// Every configuration that the planners have to pass.
pub fn all() -> impl Iterator<Item = Configuration> {
    alone().into_iter().chain(shared::all())
}

/// One ring alone in its policies.
fn alone() -> Vec<Configuration> {
    let base = Configuration::new;
    let budget = base("").budget;
    vec![
        Configuration { born: false, edits: &[Edit::Rotate], ..base("birth") },
        Configuration { born: false, covered: true, edits: &[Edit::Rotate], ..base("unknown") },
        Configuration {
            born: false,
            suspended: true,
            edits: &[Edit::Suspend(false), Edit::Rotate, Edit::LoseUnborn],
            slow_watches: false,
            budget: Budget { edits: 2, outages: 0, crashes: 0, ..budget },
            ..base("unborn")
        },
        Configuration {
            elects: true,
            born: false,
            edits: &[Edit::Rotate],
            budget: Budget { crashes: 3, ..budget },
            ..base("leaders at birth")
        },
        Configuration {
            keep: 1,
            elects: true,
            slow_watches: false,
            writes_later: true,
            edits: &[Edit::Rotate],
            budget: Budget { crashes: 2, outages: 0, ..budget },
            ..base("leaders")
        },
        Configuration {
            keep: 1,
            elects: true,
            edits: &[Edit::Rotate, Edit::Revoke(1)],
            budget: Budget { edits: 2, outages: 0, ..budget },
            ..base("leaders+")
        },
        Configuration {
            keep: 1,
            edits: &[Edit::Rotate, Edit::RotateBack],
            budget: Budget { edits: 2, outages: 0, ..budget },
            ..base("rotation")
        },
        Configuration {
            edits: &[Edit::Rotate, Edit::Keep(1), Edit::Keep(3)],
            rotations: 2,
            budget: Budget { edits: 2, outages: 0, crashes: 0, ..budget },
            ..base("window")
        },
        Configuration {
            edits: &[Edit::Rotate, Edit::Delete, Edit::AllowUnenforced],
            budget: Budget { edits: 2, outages: 0, ..budget },
            ..base("deletion")
        },
        Configuration {
            keep: 1,
            slow_watches: false,
            pipelines: [true, true],
            edits: &[
                Edit::Rotate,
                Edit::Pipeline(1, false),
                Edit::Pipeline(1, true),
                Edit::DropSecret(0),
                Edit::TakeSecret(0),
            ],
            budget: Budget {
                edits: 2,
                crashes: 0,
                outages: 0,
                withdrawals: 1,
                endings: 0,
                days: 0,
            },
            ..base("pipelines")
        },
        Configuration {
            keep: 1,
            replicas: 1,
            slow_watches: false,
            pipelines: [true, true],
            edits: &[Edit::Rotate, Edit::Pipeline(1, false), Edit::Revoke(1), Edit::Delete],
            budget: Budget { edits: 2, crashes: 0, outages: 0, endings: 1, ..budget },
            ..base("ending")
        },
        Configuration {
            slow_watches: false,
            edits: &[Edit::Move(AUDIT), Edit::Move(ENFORCE)],
            budget: Budget { edits: 2, outages: 0, crashes: 0, ..budget },
            ..base("move")
        },
        Configuration {
            replicas: 1,
            edits: &[Edit::Move(AUDIT), Edit::Move(ENFORCE), Edit::Rotate],
            budget: Budget { edits: 3, outages: 0, crashes: 0, ..budget },
            ..base("move+")
        },
        Configuration {
            keep: 1,
            slow_watches: false,
            places: &[ENFORCE, VALIDATING],
            edits: &[Edit::Move(VALIDATING), Edit::Rotate],
            budget: Budget { edits: 2, outages: 0, crashes: 0, ..budget },
            ..base("kinds")
        },
        // There and back, with two replicas; who publishes what meanwhile is above.
        Configuration {
            keep: 1,
            slow_watches: false,
            pipelines: [false, false],
            places: &[ENFORCE, VALIDATING],
            edits: &[Edit::Move(VALIDATING), Edit::Move(ENFORCE)],
            budget: Budget { edits: 2, outages: 0, crashes: 0, ..budget },
            ..base("kinds and back")
        },
        Configuration {
            keep: 1,
            replicas: 1,
            slow_watches: false,
            places: &[ENFORCE, AUDIT, VALIDATING],
            edits: &[Edit::Move(VALIDATING), Edit::Move(AUDIT), Edit::Move(ENFORCE), Edit::Rotate],
            budget: Budget { edits: 3, outages: 0, crashes: 0, ..budget },
            ..base("kinds+")
        },
        Configuration {
            keep: 2,
            rotations: 1,
            edits: &[Edit::Revoke(1), Edit::Revoke(2), Edit::Unrevoke],
            budget: Budget { edits: 2, outages: 0, crashes: 0, ..budget },
            ..base("revocation")
        },
        Configuration {
            keep: 1,
            slow_watches: false,
            edits: &[Edit::Suspend(true), Edit::Suspend(false), Edit::Rotate],
            budget: Budget { edits: 3, outages: 0, crashes: 0, ..budget },
            ..base("suspension")
        },
        Configuration {
            keep: 1,
            replicas: 1,
            edits: &[Edit::Revoke(1), Edit::Suspend(true), Edit::Suspend(false), Edit::Rotate],
            budget: Budget { edits: 3, outages: 0, ..budget },
            ..base("suspension+")
        },
        Configuration {
            standby: true,
            slow_watches: false,
            edits: &[Edit::Revoke(1), Edit::Revoke(2), Edit::Rotate, Edit::Standby(false)],
            budget: Budget { outages: 0, ..budget },
            ..base("standby")
        },
        Configuration {
            standby: true,
            replicas: 1,
            edits: &[
                Edit::Revoke(1),
                Edit::Revoke(2),
                Edit::Rotate,
                Edit::Standby(false),
                Edit::Standby(true),
            ],
            budget: Budget { edits: 2, ..budget },
            ..base("standby+")
        },
        Configuration {
            every: Some(2),
            edits: &[Edit::Rotate],
            budget: Budget { days: 2, outages: 0, crashes: 0, ..budget },
            ..base("schedule")
        },
        Configuration {
            born: false,
            replicas: 1,
            slow_watches: false,
            words: true,
            pipelines: [true, true],
            edits: &[
                Edit::Rotate,
                Edit::Revoke(1),
                Edit::Suspend(true),
                Edit::Suspend(false),
                Edit::Pipeline(1, false),
                Edit::TakeSecret(0),
                Edit::Delete,
            ],
            budget: Budget {
                edits: 2,
                crashes: 0,
                outages: 0,
                withdrawals: 1,
                endings: 0,
                days: 0,
            },
            ..base("words at birth")
        },
        Configuration {
            keep: 1,
            replicas: 1,
            slow_watches: false,
            words: true,
            edits: &[
                Edit::Rotate,
                Edit::Revoke(1),
                Edit::Suspend(true),
                Edit::Pipeline(0, false),
                Edit::Delete,
                Edit::AllowUnenforced,
            ],
            budget: Budget {
                edits: 2,
                crashes: 0,
                outages: 0,
                withdrawals: 1,
                endings: 1,
                days: 0,
            },
            ..base("words")
        },
        Configuration {
            slow_watches: false,
            edits: &[Edit::LoseLedger, Edit::Rotate, Edit::Delete, Edit::AllowUnenforced],
            budget: Budget { edits: 3, outages: 0, crashes: 0, ..budget },
            ..base("loss")
        },
    ]
}

pub fn named(name: &str) -> Configuration {
    all().find(|configuration| configuration.name == name).unwrap()
}

/// Quick, and alone of the others: what a condition promises.
#[test]
fn every_condition_keeps_its_promise() {
    let mut failed = Vec::new();
    for configuration in all().filter(|configuration| configuration.words) {
        failed.extend(explore(configuration));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn the_planner_keeps_every_invariant_in_every_state() {
    let start = Instant::now();
    let mut failed = Vec::new();
    let [explored, unique, depth, time] = ["explored", "unique", "depth", "time"];
    say(&format!("model {:<17} {explored:>9} {unique:>9} {depth:>6} {time:>8}", ""));
    for configuration in all().filter(|configuration| !configuration.words) {
        failed.extend(explore(configuration));
    }
    say(&format!("model in {}", seconds(start.elapsed())));
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// What is wrong in some state of a configuration.
fn explore(configuration: Configuration) -> Vec<String> {
    let mut failed = Vec::new();
    let name = configuration.name;
    let began = Instant::now();
    let machine = Machine::new(configuration, Subject::REAL);
    let checker =
        machine.checker().threads(2).finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    say(&format!(
        "model {name:<17} {:>9} {:>9} {:>6} {:>8}",
        checker.state_count(),
        checker.unique_state_count(),
        checker.max_depth(),
        seconds(began.elapsed()),
    ));
    for (property, path) in checker.discoveries() {
        let state = path.last_state();
        let word = checker.model().broken_word(state);
        let moves = told(&path.clone().into_actions());
        failed.push(format!("{name}: {property} {word:?}\n{moves}"));
    }
    failed
}

/// Prints a line past the test harness, which shows the output of failed
/// tests only.
pub fn say(line: &str) {
    let mut out = std::io::stderr().lock();
    writeln!(out, "{line}").unwrap();
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn told(moves: &[Move]) -> String {
    moves.iter().map(|step| format!("  {step:?}\n")).collect()
}
